#!/usr/bin/env python3
"""What an event costs the server as connections, topics, records and processes grow.

  script/build bench -- growth                all points; about 15 minutes on an idle machine
  script/build bench -- growth --quick        one round of a second, without the largest
  script/build bench -- growth --only topics  connections, payload, matches, topics, records,
                                              processes, full
  script/build bench -- growth --no-run       only tell what was run before

A point is a run of `wsload --only cost`: server CPU an event, at a rate that the server holds with
ease, or (full) as fast as it goes. A model is fitted to every second point and held against the
others. Rows, resuming and what is disturbed are as in bench/report.py; the results are growth.md,
growth.html and plots in zig-out/report/SIZES, or --into FOLDER. Only the standard library is used
here.
"""

import statistics
import sys

import report_page
from report_runs import Work, command, is_disturbed

LAYOUTS = ("tidewire", "tidewire-processes", "tidewire-gateways")
RATE_MAX = 100  # events a second: each is alone, none is written with another
DELIVERIES_MAX = 60_000  # a second: a small part of the most, so that events do not pile up
CORE_US = 800_000  # of CPU in a second that a node may use
NODE_CONNECTIONS = 15_000
TERMS = ("an event", "a matching topic", "a delivery", "a KB delivered")


def rate_of(subscribers):
    return max(5, min(RATE_MAX, DELIVERIES_MAX // max(1, subscribers)))


def point(group, label, subscribers, *options, peers=("tidewire",), cost_s=3.0, rate=None):
    """One point; its label says what is varied."""
    rate = rate_of(subscribers) if rate is None else rate
    given = ("--subscribers", subscribers, "--rate", rate, *options)
    return Work(f"{group}-{label}", "cost", (group,), peers, given, cost_s=cost_s)


def points(sizes):
    found = []
    for count in (1, 10, 100, 300, 1000, 3000, 10000, 15000):
        found.append(point("connections", count, count, cost_s=2 + count / 3000))
    for count in (100, 1000):
        for payload in (1024, 8192):
            found.append(point("payload", f"{count}x{payload}", count, "--payload", payload))
    for count in (10, 100, 1000):
        found.append(point("matches", count, 1000, "--variants", count))
    for count in (10, 100, 1000, 10000, 100000):
        found.append(
            point("topics", count, 100, "--topics", count, "--each", max(1, count // 100),
                  cost_s=2 + count / 5000)
        )
    for count in (1000, 100_000, 1_000_000, 5_000_000):
        found.append(
            point("records", count, 100, "--documents", count, cost_s=4 + count / 50_000)
        )
    for count in (1, 100, 1000):
        found.append(point("processes", count, count, peers=LAYOUTS))
    for count in (1, 10, 30, 100, 300, 1000, 3000, 10000):
        found.append(point("full", count, count, rate=0))
    for count in (100, 1000):
        found.append(point("full", f"{count}x1024", count, "--payload", 1024, rate=0))
    largest = ("topics-100000", "records-1000000", "records-5000000", "connections-15000")
    if sizes == "tiny":
        return [work for work in found if work.label in ("connections-1", "connections-10")]
    return [work for work in found if sizes == "full" or work.label not in largest]


# ---- the model ----


def terms_of(row):
    """What the cost is taken to grow with: 1, matching topics, deliveries, KB delivered."""
    if row["topics"]:
        matches, deliveries = 1, row["subscribers"] * row["each"] / row["topics"]
    else:
        matches, deliveries = max(1, row["variants"]), row["subscribers"]
    return (1.0, float(matches), float(deliveries), deliveries * row["payload"] / 1024)


def solve(matrix, right):
    """Gauss with pivots; None: the points do not determine it."""
    size = len(right)
    rows = [list(line) + [value] for line, value in zip(matrix, right)]
    for column in range(size):
        best = max(range(column, size), key=lambda at: abs(rows[at][column]))
        if abs(rows[best][column]) < 1e-12:
            return None
        rows[column], rows[best] = rows[best], rows[column]
        for at in range(size):
            if at != column:
                factor = rows[at][column] / rows[column][column]
                rows[at] = [a - factor * b for a, b in zip(rows[at], rows[column])]
    return [rows[at][size] / rows[at][at] for at in range(size)]


def fit(samples, terms=len(TERMS)):
    """Least squares of the relative error over [(terms, us)]; a factor below 0 is taken out.
    Returns the factors, or None where the points are too few."""
    first = samples[0][0] if samples else ()
    used = [0] + [
        at for at in range(1, terms) if any(values[at] != first[at] for values, _ in samples)
    ]  # what is the same everywhere is a part of the first
    while used:
        matrix = [[0.0] * len(used) for _ in used]
        right = [0.0] * len(used)
        for values, us in samples:
            line = [values[at] / us for at in used]
            for i, a in enumerate(line):
                right[i] += a
                for k, b in enumerate(line):
                    matrix[i][k] += a * b
        found = solve(matrix, right)
        if found is None and len(used) > 1:
            used.pop()  # the points do not tell it from those before it
            continue
        if found is None:
            return None
        worst = min(found)
        if worst >= 0:
            factors = [0.0] * terms
            for at, factor in zip(used, found):
                factors[at] = factor
            return factors
        used.pop(found.index(worst))
    return None


def predict(factors, values):
    return sum(factor * value for factor, value in zip(factors, values))


def halves(samples):
    """Every second point, ordered by bytes a delivery, matching topics and cost: both halves span
    all of each."""
    ordered = sorted(samples, key=lambda one: (one[1][3] / one[1][2], one[1][1], one[-1]))
    return ordered[0::2], ordered[1::2]


def errors(factors, samples):
    return [abs(predict(factors, values) / us - 1) for _, values, us in samples]


def samples_of(works, rows):
    """[(label, terms, median us an event)] of Tidewire in one process."""
    found = []
    for work in works:
        runs = [row for row in rows.of(work.label, "tidewire") if row["status"] == "ok"]
        us = rows.median(work.label, "tidewire", "us_per_event")
        if us:
            found.append((work.label, terms_of(runs[0]), us))
    return found


def model_text(title, samples):
    """The model of some points as text; its factors, or None."""
    known, checked = halves(samples)
    factors = fit([(values, us) for _, values, us in known])
    if factors is None or not checked:
        return f"{title}: too few points for a model.\n", None
    lines = [f"{title}: " + " + ".join(
        f"{factor:.3g} us x {name}" for factor, name in zip(factors, TERMS) if factor > 0
    )]
    for name, part in (("fitted", known), ("checked", checked)):
        off = errors(factors, part)
        worst = max(zip(off, (label for label, _, _ in part)))
        lines.append(
            f"- {len(part)} points {name}: error in the middle {statistics.median(off):.0%}, "
            f"at most {worst[0]:.0%} ({worst[1]})"
        )
    return "\n".join(lines) + "\n", factors


def fleet(factors):
    """Events a second that nodes of one core each carry, all following the same database."""
    for nodes in (1, 4, 16, 64):
        cells = [nodes, f"{nodes * NODE_CONNECTIONS:,}"]
        for readers in (100, 10_000, nodes * NODE_CONNECTIONS):
            each = readers / nodes
            cost = predict(factors, (1.0, 1.0, each, each * 128 / 1024))
            cells.append(f"{CORE_US / cost:,.0f}")
        yield cells


FLEET_HEAD = (
    "nodes", "connections", "events/s, 100 readers each", "10,000 readers each", "all read all"
)


# ---- what is told ----


def line_of(work, peer, rows):
    runs = [row for row in rows.of(work.label, peer) if row["status"] == "ok"]
    if not runs:
        return None
    values = [row["figures"].get("us_per_event", 0) for row in runs]
    row, middle = runs[0], statistics.median(values)
    _, matches, deliveries, _ = terms_of(row)
    others = max(run["figures"].get("other_cpu", 0) for run in runs)
    mark = " DISTURBED" if any(is_disturbed(run) for run in runs) else ""
    lost = report_page.report_goals.wrong(runs)
    return (
        work.label, peer, f"{row['subscribers']:,}",
        f"{row['topics'] or max(1, row['variants']):,}",
        f"{row['documents']:,}", f"{row['payload']:,}", f"{row['rate']:g}",
        f"{middle:,.4g} ({min(values):,.4g}-{max(values):,.4g})",
        f"{middle / deliveries:,.3g}" if deliveries else "", f"{lost:.0f}", f"{others:.0%}{mark}",
    )


HEAD = (
    "point", "server", "connections", "topics", "records", "bytes", "events/s",
    "CPU an event, us", "a delivery", "lost", "others",
)


def series(works, rows, group, member):
    """For a plot: the cost of an event by one member of the rows, by layout."""
    found = {}
    for peer in LAYOUTS:
        line = []
        for work in works:
            runs = rows.of(work.label, peer)
            values = [row["figures"].get("us_per_event", 0) for row in runs]
            if group in work.tags and values and min(values) > 0 and runs[0][member] > 0:
                middle = statistics.median(values)
                line.append((runs[0][member], min(values), middle, max(values)))
        if line:
            found[peer] = sorted(line)
    return found


def plots(works, rows):
    for group, member, name in (
        ("connections", "subscribers", "connections"), ("topics", "topics", "topics"),
        ("matches", "variants", "matching topics"), ("records", "documents", "records"),
        ("processes", "subscribers", "connections, one process, three, two gateways"),
        ("full", "subscribers", "connections, as fast as it goes"),
    ):
        title = f"CPU of an event against {name}"
        yield title, name, "us", series(works, rows, group, member)


def tell(works, rows, settings):
    lines = [line_of(work, peer, rows) for work in works for peer in work.peers]
    text = "\n".join(f"- {fact}" for fact in report_page.facts(rows)) + "\n\n"
    text += report_page.markdown(HEAD, [line for line in lines if line]) + "\n"
    single = [w for w in works if not {"full", "processes"} & set(w.tags)]
    full = [work for work in works if "full" in work.tags]
    quiet_text, _ = model_text("At a rate that leaves the server idle", samples_of(single, rows))
    full_text, factors = model_text("As fast as it goes", samples_of(full, rows))
    text += quiet_text + "\n" + full_text + "\n"
    if factors:
        text += report_page.markdown(FLEET_HEAD, fleet(factors))
    print(text)
    drawn = report_page.drawn(plots(works, rows))
    text = f"# Growth, as measured\n\n{text}\n{report_page.write_plots(drawn, settings.told)}"
    (settings.told / "growth.md").write_text(text.rstrip() + "\n", encoding="utf-8")
    head = "<!doctype html><meta charset=utf-8><title>Tidewire: growth</title><style>body{font:"
    head += "14px sans-serif;margin:2em}</style>"
    page = head + report_page.plots_html(drawn)
    (settings.told / "growth.html").write_text(page, encoding="utf-8")
    print(f"in {settings.told}: growth.md, growth.html, plots; rows in {settings.folder}")


def main(arguments):
    return command("growth", __doc__, arguments, points, tell, "growth.jsonl")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
