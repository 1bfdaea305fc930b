"""bench/report.py on saved runs: ratios of medians, what is lost, what was not run."""

import csv
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def run_of(workload, peer, round_, **figures):
    return {
        "workload": workload, "text": "", "peer": peer, "version": "1 <b>", "round": round_,
        "subscribers": 1000, "rate": 0, "payload": 128, "machine": "two cores",
        "figures": {"lost": 0, **figures},
    }


def report(tmp_path, runs, *arguments, status=0):
    saved = tmp_path / "runs.json"
    saved.write_text("".join(json.dumps(run) + "\n" for run in runs))
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "report.py", saved, *arguments],
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == status, done.stderr
    return {tuple(line.split()[:1] + line.split()[-2:]) for line in done.stdout.splitlines()}


def test_goals_plots_and_rows(tmp_path):
    runs = [run_of("1m", "tidewire", i, p99_ms=ms) for i, ms in enumerate([2, 9, 3])]
    runs += [run_of("1m", "uwebsockets", 0, p99_ms=4)]
    runs += [run_of("100k", "tidewire", 0, us_per_delivery=6, p99_ms=1)]
    runs += [run_of("100k", "uwebsockets", 0, us_per_delivery=4, p99_ms=1)]
    page, rows = tmp_path / "report.html", tmp_path / "report.csv"
    told = report(tmp_path, runs, "--html", page, "--csv", rows)
    assert ("G1", "0.75x", "pass") in told  # the median, 3, against 4
    assert ("G2", "1.50x", "missed") in told
    assert ("G6", "not", "run") in told
    text = page.read_text()
    assert text.count("<svg") == 1 and "0.75x" in text and "1 &lt;b&gt;" in text
    with rows.open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 and lines[1]["p99_ms"] == "9"


def test_a_lost_event_misses_the_goal(tmp_path):
    runs = [run_of("1m", "tidewire", 0, p99_ms=1, lost=2), run_of("1m", "uwebsockets", 0, p99_ms=4)]
    assert ("G1", "2", "lost") in report(tmp_path, runs)


def test_no_runs_is_an_error(tmp_path):
    report(tmp_path, [], status=2)
