#!/usr/bin/env python3
"""Runs what the goals G1 to G14 need, and tells what was reached.

  script/build bench -- report                  all; about 25 minutes on an idle machine
  script/build bench -- report --quick          one round each, about 5 minutes
  script/build bench -- report --only G5,W2     goals, workloads or labels
  script/build bench -- report --no-run         only tell what was run before
  script/build bench -- report --no-run --into docs/benchmarks    write the files there

The peers are those of bench/peers; `script/install bench` installs them, and one that is absent is
skipped by name. Rounds are interleaved and the median counts. Each run is a row of
zig-out/report/SIZES/runs.jsonl as soon as it ends, so a second start goes on where the first
stopped, and runs again what failed or was disturbed by others. Beside it stand report.md,
report.html, report.csv and the plots. Only the standard library is used here.
"""

import sys

import report_goals
import report_page
from report_runs import Work, command

THREE = ("tidewire", "uwebsockets", "nats")
SIX = (*THREE, "mosquitto", "nchan", "ws")
TOPICS = (*THREE, "mosquitto", "nchan-topics")
SECURE = ("tidewire", "tidewire-tls", "nats-tls", "uwebsockets-tls", "mosquitto-tls")
LOGS = ("tidewire", "jetstream", "mosquitto-retained", "nchan-all")
RATE = r"^{}\s+(\d+)"


def programs(quick):
    """Programs that measure both sides in one run; fewer rows where it is to be quick."""
    scanned_topics = [20000, 5000] if quick else [100000, 20000]
    match_reads = (("index_us", r"^index\s+([\d.]+)"), ("scan_us", r"^scan\s+([\d.]+)"))
    return [
        Work("store_writes", "store_writes", ("G7",), options=(60000 if quick else 200000, 64, 1),
             tiny=(3000, 64, 1),
             reads=(("log_s", RATE.format("log")), ("bare_s", RATE.format("bare inserts")),
                    ("tables_s", RATE.format("two tables"))), cost_s=7),
        Work("snapshot_read", "snapshot_read", ("G10", "W3"), options=(200000, 1),
             tiny=(3000, 1),
             reads=(("pages_s", r"^pages (\d+)"), ("bare_s", r"bare scan and JSON (\d+)")),
             cost_s=3),
        Work("topic_match", "topic_match", ("G11", "W8"),
             options=(*scanned_topics, 10, "unindexable"), tiny=(200, 200, 10, "unindexable"),
             reads=match_reads, cost_s=8),
        *(Work(f"topic_match_{kind}", "topic_match", ("G11", "W8"),
               options=(*scanned_topics, 10, kind), tiny=(200, 200, 10, kind),
               reads=match_reads, cost_s=8)
          for kind in ("negations", "classes", "literals", "ranges")),
        Work("topic_match_all", "topic_match", ("G11", "W8"), options=(*scanned_topics, 0),
             tiny=(200, 200, 0), reads=match_reads, cost_s=8),
        Work("json_render", "json_render", ("G12",), options=(1,), tiny=(1,),
             reads=(("ours_s", r"^write,\d+,\d+,(\d+)"), ("theirs_s", r"^write,.*,(\d+),[\d.]+$")),
             cost_s=3),
        Work("service_ingress", "service_ingress", ("G14",),
             options=(30000 if quick else 200000, 1), tiny=(3000, 1),
             reads=tuple((f"{rung}_s", RATE.format(rung)) for rung in report_goals.LADDER),
             cost_s=20),
    ]


def workloads(sizes):
    """In the order of the goals. The curves of the plots are left out where it is to be quick."""
    works = [
        Work("1m", "1m", ("G1", "W1"), THREE),
        Work("100k", "100k", ("G2", "W1"), THREE),
        Work("max100", "max100", ("G3", "G4", "W1"), SIX),
        Work("max1000", "max1000", ("W1",), THREE),
        Work("idle", "idle", ("G5", "W5"), THREE, cost_s=4),
        Work("storm", "storm", ("G6", "W6"), THREE, cost_s=1),
        Work("writemax", "writemax", ("G7", "W7"), ("tidewire", "jetstream-sync", "redis"),
             tiny=()),
        Work("write", "write", ("G8", "W7"), tiny=()),
        Work("write1k", "write1k", ("W7",), ("tidewire", "jetstream-sync", "redis")),
        Work("resume", "resume", ("G9", "W4"), ("tidewire", "jetstream", "nchan-resume"),
             cost_s=12),
        Work("snapshot1k", "snapshot1k", ("W3",), LOGS),
        Work("topics", "topics", ("W2",), TOPICS),
        Work("filters90", "filters90", ("G11", "W8"), cost_s=15),
        Work("slow", "slow", ("G13", "W9"), ("tidewire", "uwebsockets", "nats"), cost_s=8),
        *programs(sizes != "full"),
    ]
    if sizes != "full":
        left_out = ("max1000", "write1k", "snapshot1k", "topics", "filters90")
        return [work for work in works if sizes == "tiny" or work.label not in left_out]
    return works + [
        Work("tls100", "tls100", ("W10",), SECURE, rounds=1),
        Work("snapshot100k", "snapshot100k", ("W3",), LOGS, cost_s=10, rounds=1),
        *(Work(label, "1m", ("W1", "curves"), THREE, ("--rate", rate), rounds=1)
          for label, rate in (("rate30k", 30), ("rate300k", 300), ("rate2m", 2000))),
        *(Work(f"max{count}", "max100", ("W1", "curves"), THREE, ("--subscribers", count), rounds=1)
          for count in (10, 5000)),
        Work("idle1k", "idle", ("W5", "curves"), THREE, ("--subscribers", 1000), rounds=1),
        Work("idle15k", "idle", ("W5", "curves"), THREE, ("--subscribers", 15000), rounds=1,
             cost_s=8),
    ]


def tell(_, rows, settings):
    """Writes the files and prints the table of goals."""
    reached = report_goals.reach_all(rows, settings.versions)
    plots = report_page.drawn(report_page.plots_of(rows))
    lines = [report_page.goal_cells(one) for one in reached]
    folder = settings.told
    text = "# Benchmarks, as measured\n\n"
    text += "\n".join(f"- {fact}" for fact in report_page.facts(rows))
    text += "\n\n## Goals\n\n" + report_page.markdown(report_page.HEAD, lines)
    text += "\n## Plots\n\n" + report_page.write_plots(plots, folder)
    text += "## All runs\n\n"
    text += report_page.markdown(report_page.RUN_HEAD, report_page.run_table(rows))
    (folder / "report.md").write_text(text, encoding="utf-8")
    page = report_page.page(rows, reached, plots)
    (folder / "report.html").write_text(page, encoding="utf-8")
    report_page.write_csv(rows, folder / "report.csv")
    for name, what, first, great, value, limit, verdict in lines:
        print(f"{name:6} {what:67} {first:9} {great:9} {value:20} {verdict}  {limit}".rstrip())
    print(f"in {folder}: report.md, report.html, report.csv, plots; rows in {settings.folder}")


def main(arguments):
    return command("report", __doc__, arguments, workloads, tell, "runs.jsonl")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
