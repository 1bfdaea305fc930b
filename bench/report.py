#!/usr/bin/env python3
"""report.py RUNS.json... --html FILE --csv FILE: the table of goals, plots, and a row for each run.

RUNS are what `wsload --json` wrote, an object a line. A goal whose runs are not there is `not run`,
never passed. Of several rounds the median counts; what was lost is summed."""

import argparse
import csv
import html
import json
import statistics
import sys

BAD = ["lost", "missing", "repeated", "undecoded", "rejected", "refused", "dropped"]

# Goal, workload, peer, figure, "less" or "more" is better, and the ratio of the first release.
GOALS = [
    ("G1", "1m", "uwebsockets", "p99_ms", "less", 1.5),
    ("G2", "100k", "uwebsockets", "us_per_delivery", "less", 1.0),
    ("G3", "max100", "nats", "delivered_s", "more", 1.2),
    ("G3", "max100", "uwebsockets", "delivered_s", "more", 0.8),
    ("G4", "max100", "mosquitto", "delivered_s", "more", 10),
    ("G4", "max100", "nchan", "delivered_s", "more", 10),
    ("G4", "max100", "ws", "delivered_s", "more", 10),
    ("G5", "idle", "nats", "rss_per_connection", "less", 0.25),
    ("G6", "storm", "nats", "connects_s", "more", 1.2),
    ("G6 great", "storm", "uwebsockets", "connects_s", "more", 0.7),  # the release has none
    ("G7", "writemax", "jetstream-sync", "acked_s", "more", 2),
    ("G9", "resume", "nchan-resume", "catch_up_s", "more", 1),
    ("G9", "resume", "jetstream", "catch_up_s", "more", 1),
    ("G13", "slow", None, "slow_ratio", "less", 2),
]
# Goals that other programs of bench/ measure, which print their own ratio.
ELSEWHERE = {
    "G7 bare": "store_writes",
    "G8": "wsload --only write (told_p50_ms) beside a round trip",
    "G10": "snapshot_read",
    "G11": "topic_match",
    "G12": "json_render",
    "G14": "service_ingress",
}
PLOTS = [
    ("Latency at a fixed rate, ms", ["p50_ms", "p90_ms", "p99_ms", "p999_ms"]),
    ("Deliveries a second", ["delivered_s"]),
    ("Memory a connection, bytes", ["rss_per_connection"]),
]
WIDTH, BAR, LABEL = 760, 16, 240


def read(paths):
    runs = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            runs += [json.loads(line) for line in file if line.strip()]
    return runs


def median(runs, workload, peer, figure):
    values = [
        run["figures"].get(figure, 0)
        for run in runs
        if run["workload"] == workload and run["peer"] == peer
    ]
    return statistics.median(values) if values else None


def goals(runs):
    """Rows: goal, against what, the wanted ratio, the one reached, and pass, missed or not run."""
    for name, workload, peer, figure, better, wanted in GOALS:
        own = median(runs, workload, "tidewire", figure)
        other = 1 if peer is None else median(runs, workload, peer, figure)
        against = f"{workload}: {figure}" + (f" against {peer}" if peer else "")
        sign = "<=" if better == "less" else ">="
        if not own or not other:
            yield name, against, f"{sign} {wanted}x", "", "not run"
            continue
        ratio = own / other
        held = ratio <= wanted if better == "less" else ratio >= wanted
        lost = sum(
            run["figures"].get(bad, 0)
            for run in runs
            if run["workload"] == workload and run["peer"] == "tidewire"
            for bad in BAD
        )
        verdict = "pass" if held and not lost else f"missed{f', {lost:.0f} lost' if lost else ''}"
        yield name, against, f"{sign} {wanted}x", f"{ratio:.2f}x", verdict
    for name, program in ELSEWHERE.items():
        yield name, f"bench/{program}", "", "", "see that program"


def plot(title, runs, figures):
    """Horizontal bars as SVG: one for each workload, peer and figure that was measured."""
    bars = []
    for workload, peer in dict.fromkeys((run["workload"], run["peer"]) for run in runs):
        for figure in figures:
            value = median(runs, workload, peer, figure)
            if value:
                bars.append((f"{workload} {peer} {figure}", value))
    if not bars:
        return ""
    most = max(value for _, value in bars)
    rows = "".join(
        f'<text x="0" y="{i * BAR + 12}">{html.escape(label)}</text>'
        f'<rect x="{LABEL}" y="{i * BAR + 2}" height="{BAR - 4}" '
        f'width="{max(1, value / most * (WIDTH - LABEL - 110)):.1f}"/>'
        f'<text x="{LABEL + value / most * (WIDTH - LABEL - 110) + 6:.1f}" y="{i * BAR + 12}">'
        f"{value:,.4g}</text>"
        for i, (label, value) in enumerate(bars)
    )
    return (
        f"<h2>{html.escape(title)}</h2>"
        f'<svg viewBox="0 0 {WIDTH} {len(bars) * BAR}" width="{WIDTH}">{rows}</svg>'
    )


def page(runs):
    table = "".join(
        f"<tr class={row[4].split(',')[0].replace(' ', '-')}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in goals(runs)
    )
    machines = {run["machine"] for run in runs}
    versions = {f"{run['peer']}: {run['version']}" for run in runs}
    return (
        "<!doctype html><meta charset=utf-8><title>Tidewire: benchmarks</title><style>"
        "body{font:14px sans-serif;margin:2em}td,th{padding:2px 12px;text-align:left}"
        "svg{font-size:11px}rect{fill:#26c}.missed td{color:#b00}.pass td{color:#070}</style>"
        f"<h1>Tidewire: benchmarks</h1><p>{html.escape('; '.join(sorted(machines)))}</p>"
        f"<p>{html.escape('; '.join(sorted(versions)))}</p><table><tr><th>goal<th>what<th>wanted"
        f"<th>reached<th></tr>{table}</table>"
        + "".join(plot(title, runs, figures) for title, figures in PLOTS)
    )


def write_csv(runs, path):
    names = list(dict.fromkeys(name for run in runs for name in run["figures"]))
    head = ["workload", "peer", "version", "round", "subscribers", "rate", "payload"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(head + names)
        for run in runs:
            figures = [run["figures"].get(name, 0) for name in names]
            out.writerow([run[name] for name in head] + figures)


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--html")
    parser.add_argument("--csv")
    given = parser.parse_args(arguments)
    runs = read(given.runs)
    if not runs:
        parser.error("there are no runs in these files")
    if given.html:
        with open(given.html, "w", encoding="utf-8") as file:
            file.write(page(runs))
    if given.csv:
        write_csv(runs, given.csv)
    for row in goals(runs):
        print("{:8} {:52} {:9} {:9} {}".format(*row))


if __name__ == "__main__":
    main(sys.argv[1:])
