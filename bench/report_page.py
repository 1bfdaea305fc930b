"""One HTML page with plots, the same tables as Markdown beside the plots as files, and a CSV of all
runs."""

import csv
import html
import math
import re
import statistics

import report_goals
from report_runs import PROGRAM, is_disturbed

COLOURS = ("#1f5fbf", "#d1495b", "#2e8b57", "#e0a100", "#7a4fa3", "#555555")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 640, 320, 70, 24, 44, 150

# Title, label of x, the row's member that is x, label of y, figures, labels of the runs.
PLOTS = (
    ("Latency against rate, 1,000 subscribers", "deliveries/s", "deliveries_s", "ms",
     ("p50_ms", "p99_ms"), ("rate30k", "100k", "rate300k", "1m", "rate2m")),
    ("Throughput against connections", "connections", "subscribers", "deliveries/s",
     ("delivered_s",), ("max10", "max100", "max1000", "max5000")),
    ("Memory of a connection", "connections", "subscribers", "bytes",
     ("rss_per_connection",), ("idle1k", "idle", "idle15k")),
)
HEAD = ("goal", "what", "first release", "great", "reached (lowest-highest)", "limit", "verdict")


def goal_cells(reached):
    goal = reached.goal
    return (
        goal.name, goal.text, report_goals.wanted_text(goal, goal.first),
        report_goals.wanted_text(goal, goal.great), report_goals.reached_text(reached),
        reached.limit, reached.verdict,
    )


# ---- plots ----


def x_of(row, member):
    if member == "deliveries_s":
        return row["rate"] * row["subscribers"]
    return row.get(member, 0)


def series_of(rows, member, figures, labels):
    """{"peer figure": [(x, low, median, high)]} over the labels."""
    found = {}
    runs = [row for row in rows.rows.values() if row["label"] in labels and row["status"] == "ok"]
    for peer in sorted({row["peer"] for row in runs}):
        for figure in figures:
            points = []
            for label in labels:
                own = [row for row in runs if (row["label"], row["peer"]) == (label, peer)]
                own = [row for row in own if not behind(row) or not figure.endswith("_ms")]
                values = [row["figures"][figure] for row in own if row["figures"].get(figure)]
                if values and x_of(own[0], member) > 0:
                    middle = statistics.median(values)
                    points.append((x_of(own[0], member), min(values), middle, max(values)))
            if points:
                found[f"{peer} {figure}" if len(figures) > 1 else peer] = sorted(points)
    return found


def behind(row):
    return "behind" in report_goals.limit_of(row)


def ticks(low, high):
    """Powers of ten, and their double and fivefold where these are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    all_of = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in all_of if low <= tick <= high]


def short(value):
    for size, name in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"


def plot(title, x_label, y_label, series):
    """Lines on two logarithmic scales, as SVG; a bar at each point is the spread of its rounds."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    x_low, x_high = min(p[0] for p in points) / 1.2, max(p[0] for p in points) * 1.2
    y_low, y_high = min(p[1] for p in points) / 1.3, max(p[3] for p in points) * 1.3

    def x(value):
        share = math.log(value / x_low) / math.log(x_high / x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value):
        share = math.log(value / y_low) / math.log(y_high / y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'role="img"><title>{html.escape(title)}</title><style>text{{font:11px sans-serif}}'
        '.grid{stroke:#ddd}</style><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for tick in ticks(x_low, x_high):
        out.append(
            f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" '
            f'y2="{HEIGHT - BOTTOM}"/><text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 14}" '
            f'text-anchor="middle">{short(tick)}</text>'
        )
    for tick in ticks(y_low, y_high):
        out.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/><text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" '
            f'text-anchor="end">{short(tick)}</text>'
        )
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">{html.escape(x_label)}</text>')
    out.append(f'<text x="4" y="14">{html.escape(y_label)}</text>')
    for i, (name, line) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        dashes = ' stroke-dasharray="5 3"' if i >= len(COLOURS) else ""
        way = " ".join(f"{x(p[0]):.1f},{y(p[2]):.1f}" for p in line)
        out.append(f'<polyline fill="none" stroke="{colour}"{dashes} points="{way}"/>')
        for at, low, middle, high in line:
            out.append(
                f'<line stroke="{colour}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y(low):.1f}" '
                f'y2="{y(high):.1f}"/><circle fill="{colour}" cx="{x(at):.1f}" '
                f'cy="{y(middle):.1f}" r="3"/>'
            )
        out.append(
            f'<text fill="{colour}" x="{WIDTH - RIGHT + 8}" y="{TOP + 12 + i * 15}">'
            f"{html.escape(name)}</text>"
        )
    return "".join(out) + "</svg>\n"


def drawn(wanted):
    """[(title, SVG)] of the plots that have points; wanted: the arguments of plot()."""
    made = [(arguments[0], plot(*arguments)) for arguments in wanted]
    return [(title, svg) for title, svg in made if svg]


def plots_of(rows):
    """What the runs of the report are drawn as: arguments of plot()."""
    for title, x_label, member, y_label, figures, labels in PLOTS:
        yield title, x_label, y_label, series_of(rows, member, figures, labels)


def write_plots(plots, folder):
    """A file for each; returns them as Markdown."""
    text = ""
    for title, svg in plots:
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".svg"
        (folder / name).write_text(svg, encoding="utf-8")
        text += f"![{title}]({name})\n\n"
    return text


def plots_html(plots):
    return "".join(f"<h2>{html.escape(title)}</h2>{svg}" for title, svg in plots)


# ---- tables ----


def run_table(rows):
    """A line for each workload and peer: the figures that say most, medians and spread."""
    shown = (
        "delivered_s", "acked_s", "us_per_delivery", "us_per_event", "p50_ms", "p99_ms",
        "ack_p50_ms", "told_p50_ms", "catch_up_p99_ms", "catch_up_s", "connects_s",
        "rss_per_connection", "slab_per_connection",
    )
    groups = {}
    for row in rows.rows.values():
        if row["status"] == "ok" and row["peer"] != PROGRAM:
            groups.setdefault((row["label"], row["peer"]), []).append(row)
    for (label, peer), runs in groups.items():
        cells = []
        for figure in shown:
            values = [row["figures"].get(figure, 0) for row in runs]
            timed = figure.endswith("_ms")
            if any(values) and not (timed and any(behind(row) for row in runs)):
                low, middle, high = min(values), statistics.median(values), max(values)
                spread = f" ({report_goals.number(low)}-{report_goals.number(high)})"
                text = report_goals.number(middle)
                cells.append(f"{figure} {text}{spread if len(values) > 1 else ''}")
        lost = report_goals.wrong(runs)
        others = max(row["figures"].get("other_cpu", 0) for row in runs)
        mark = " DISTURBED" if any(is_disturbed(row) for row in runs) else ""
        yield (
            label, peer, "; ".join(cells), report_goals.limit_of(runs[0]), f"{lost:.0f}",
            f"{others:.0%}{mark}",
        )


RUN_HEAD = ("workload", "peer", "figures, median (lowest-highest)", "limit", "lost", "others")


def facts(rows):
    """What the figures hold for."""
    runs = [row for row in rows.rows.values() if row["status"] == "ok"]
    machines = sorted({row["machine"] for row in runs if "machine" in row})
    versions = sorted({f"{row['peer']}: {row['version']}" for row in runs if row["version"]})
    sizes = sorted({f"{row['sizes']}, {row.get('payload', 128)} bytes" for row in runs})
    return machines + versions + sizes


def markdown(head, lines):
    text = "| " + " | ".join(head) + " |\n|" + "---|" * len(head) + "\n"
    return text + "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def table(head, lines, last_is_class=False):
    body = ""
    for line in lines:
        mark = f' class="{str(line[-1]).split(":")[0].split(" ")[0]}"' if last_is_class else ""
        body += f"<tr{mark}>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in line) + "</tr>"
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    return f"<table><tr>{titles}</tr>{body}</table>"


def page(rows, reached, plots):
    return (
        "<!doctype html><meta charset=utf-8><title>Tidewire: benchmarks</title><style>"
        "body{font:14px sans-serif;margin:2em;max-width:1200px}td,th{padding:2px 10px;"
        "text-align:left;vertical-align:top}"
        ".missed td{color:#b00}.pass td,.great td{color:#070}.disturbed td{color:#a60}</style>"
        "<h1>Tidewire: benchmarks</h1><p>"
        + "<br>".join(html.escape(fact) for fact in facts(rows))
        + "</p><h2>Goals</h2>"
        + table(HEAD, [goal_cells(one) for one in reached], last_is_class=True)
        + plots_html(plots)
        + "<h2>All runs</h2>"
        + table(RUN_HEAD, run_table(rows))
    )


def write_csv(rows, path):
    runs = list(rows.rows.values())
    names = sorted({name for row in runs for name in row["figures"]})
    head = ["label", "workload", "peer", "version", "round", "status", "tries", "sizes"]
    head += ["subscribers", "rate", "payload", "topics", "documents", "variants"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(head + names)
        for row in runs:
            out.writerow(
                [row.get(name, "") for name in head]
                + [row["figures"].get(name, 0) for name in names]
            )
