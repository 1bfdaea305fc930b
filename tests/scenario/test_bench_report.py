"""bench/report.py and bench/growth.py: medians, verdicts, what is kept between two starts, models;
both commands in their smallest form."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import growth  # noqa: E402
import report  # noqa: E402
import report_goals  # noqa: E402
import report_page  # noqa: E402
import report_runs  # noqa: E402

ALL_INSTALLED = {}
DEADLINE_S = 240


def run_of(label, peer, number=0, status="ok", rate=0, sizes="full", **figures):
    return {
        "label": label, "workload": label, "peer": peer, "version": "1 <b>", "round": number,
        "status": status, "tries": 1, "sizes": sizes, "subscribers": 1000, "rate": rate,
        "payload": 128, "topics": 0, "each": 0, "documents": 0, "variants": 0,
        "machine": "two cores", "why": "gone", "figures": {"lost": 0, **figures},
    }


def rows_of(tmp_path, *runs):
    rows = report_runs.Rows(tmp_path / "runs.jsonl")
    for run in runs:
        rows.add(run)
    return rows


def goal_of(text):
    return next(goal for goal in report_goals.GOALS if text in goal.text)


def reached(rows, text, versions=None):
    return report_goals.reach(goal_of(text), rows, versions or ALL_INSTALLED)


P99 = "p99 against uWebSockets"


def test_medians_and_spread(tmp_path):
    runs = [run_of("1m", "tidewire", i, p99_ms=ms) for i, ms in enumerate([2, 9, 3])]
    runs += [run_of("1m", "uwebsockets", i, p99_ms=ms) for i, ms in enumerate([4, 3, 8])]
    found = reached(rows_of(tmp_path, *runs), P99)
    assert (found.value, found.low, found.high) == (0.75, 0.375, 3)  # 3 against 4
    assert found.verdict == "great" and report_goals.reached_text(found) == "0.75x (0.375-3)"


@pytest.mark.parametrize(
    "own, verdict", [(3.2, "great"), (3.3, "pass"), (6, "pass"), (6.1, "missed")]
)
def test_verdicts(tmp_path, own, verdict):
    runs = run_of("1m", "tidewire", p99_ms=own), run_of("1m", "uwebsockets", p99_ms=4)
    assert reached(rows_of(tmp_path, *runs), P99).verdict == verdict


def test_a_goal_of_great_alone_is_missed_below_it(tmp_path):
    text = "connects/s against uWebSockets"
    for own, verdict in ((69, "missed"), (70, "great")):
        rows = rows_of(
            tmp_path, run_of("storm", "tidewire", own, connects_s=own),
            run_of("storm", "uwebsockets", own, connects_s=100),
        )
        rows.rows = {key: row for key, row in rows.rows.items() if row["round"] == own}
        assert reached(rows, text).verdict == verdict


def perfect(goal):
    """Runs that reach the goal by far."""
    own, other = (1e-6, 1e6) if goal.better == "less" else (1e6, 1e-6)
    runs = {}
    for key, value in ((goal.own, own), (goal.other, other)):
        if key is not None:
            label, peer, figure = key
            run = runs.setdefault((label, peer), run_of(label, peer))
            run["figures"][figure] = value
    return list(runs.values())


@pytest.mark.parametrize("goal", report_goals.GOALS, ids=lambda goal: goal.text)
def test_what_is_disturbed_lost_or_tiny_never_passes(tmp_path, goal):
    runs = perfect(goal)

    def verdict_of(*all_runs):
        rows = report_runs.Rows(tmp_path / "none")
        for run in all_runs:
            rows.take(run)
        return report_goals.reach(goal, rows, ALL_INSTALLED).verdict

    assert verdict_of(*runs) == ("great" if goal.great else "pass" if goal.first else "")
    for run in runs:
        for change, verdict in (
            ({"figures": {**run["figures"], "other_cpu": 0.16}}, "disturbed"),
            ({"sizes": "tiny"}, "too small"),
            ({"status": "failed"}, "failed"),
        ):
            changed = ({**one, **change} if one is run else one for one in runs)
            assert verdict_of(*changed).startswith(verdict)
    own = next(run for run in runs if (run["label"], run["peer"]) == goal.own[:2])
    own["figures"]["repeated"] = 2
    assert verdict_of(*runs).startswith("missed: 2 lost")


def test_what_is_missing_is_told_by_name(tmp_path):
    own = run_of("1m", "tidewire", p99_ms=1)
    rows = rows_of(tmp_path, own)
    assert reached(rows, P99).verdict == "not run"
    assert reached(rows, P99, {"uwebsockets": None}).verdict == "skipped: no uwebsockets"
    rows.add(run_of("1m", "uwebsockets", status="failed"))
    assert reached(rows, P99).verdict == "failed: uwebsockets"
    rows.add(run_of("1m", "uwebsockets"))
    assert reached(rows, P99).verdict == "no figure: uwebsockets"


def test_a_rate_that_was_not_held_has_no_latency(tmp_path):
    held, behind = ({"published_s": rate, "p99_ms": 1} for rate in (990, 900))
    own = run_of("1m", "tidewire", rate=1000, **held)
    other = run_of("1m", "uwebsockets", rate=1000, **behind)
    rows = rows_of(tmp_path, own, other)
    assert reached(rows, P99).verdict == "no ratio: the peer fell behind"
    rows = rows_of(tmp_path, {**own, "figures": behind}, {**other, "figures": held})
    assert reached(rows, P99).verdict == "missed: fell behind"
    limits = [(0, 0, "neither"), (0.96, 0, "server"), (0, 1, "load"), (1, 1, "both")]
    for server, load, word in limits:
        row = run_of("max100", "nats", server_cpu=server, load_cpu=load)
        assert report_goals.limit_of(row) == word


def test_a_second_start_goes_on(tmp_path):
    rows = rows_of(
        tmp_path, run_of("idle", "nats", 0, other_cpu=0.5), run_of("idle", "nats", 1, rss=1),
        run_of("idle", "nats", 2, status="failed"),
    )
    done = [rows.is_done("idle", "nats", number) for number in range(4)]
    assert done == [False, True, False, False]
    rows.add(run_of("idle", "nats", 1, rss=2, other_cpu=0.5))  # no better than what is there
    rows.add(run_of("idle", "nats", 0, rss=3))
    again = report_runs.Rows(rows.path)
    assert again.median("idle", "nats", "rss") == 2  # of 1 and 3
    assert again.rows == rows.rows and len(again.of("idle", "nats")) == 3


def test_page_table_and_rows(tmp_path):
    runs = [
        run_of(label, "tidewire", i, rate=rate, published_s=rate, p50_ms=1 + i, p99_ms=9)
        for label, rate in (("100k", 100), ("1m", 1000)) for i in range(2)
    ]
    rows = rows_of(tmp_path, *runs)
    all_reached = report_goals.reach_all(rows, {"nats": None})
    plots = report_page.drawn(report_page.plots_of(rows))
    text = report_page.page(rows, all_reached, plots)
    assert text.count("<svg") == 1 and text.count("<polyline") == 2 and "1 &lt;b&gt;" in text
    name = "latency-against-rate-1-000-subscribers.svg"
    assert f"]({name})" in report_page.write_plots(plots, tmp_path)
    root = ElementTree.parse(tmp_path / name).getroot()  # a file that stands alone
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "skipped: no nats" in text and "p50_ms 1.5 (1-2)" in text
    report_page.write_csv(rows, tmp_path / "report.csv")
    with open(tmp_path / "report.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 and lines[1]["p50_ms"] == "2" and lines[1]["label"] == "100k"
    lines = report_page.markdown(("a", "b"), [(1, 2)])
    assert lines == "| a | b |\n|---|---|\n| 1 | 2 |\n"


# ---- growth ----


def sample(label, terms, factors, off=1.0):
    return label, terms, growth.predict(factors, terms) * off


def test_the_model_finds_what_made_the_points():
    factors = [300, 2, 0.5, 0.1]
    terms = [(1, m, d, d * kb) for m in (1, 10, 100) for d in (1, 50, 900) for kb in (0.1, 1, 8)]
    samples = [sample(str(one), one, factors) for one in terms]
    known, checked = growth.halves(samples)
    assert abs(len(known) - len(checked)) <= 1 and not set(known) & set(checked)
    found = growth.fit([(values, us) for _, values, us in known])
    assert found == pytest.approx(factors, rel=1e-6)
    assert max(growth.errors(found, checked)) < 1e-6
    text, _ = growth.model_text("x", [*samples, sample("odd", (1, 1, 2e4, 2e3), factors, 2)])
    assert "at most 50% (odd)" in text and "error in the middle 0%" in text


def test_a_factor_is_never_below_nothing_and_few_points_make_no_model():
    terms = [(1, 1, d, d / 8) for d in (1, 10, 100, 1000)]
    found = growth.fit([(one, 100 + one[2]) for one in terms])  # KB cannot be told from deliveries
    assert found == pytest.approx([100, 0, 1, 0])
    assert growth.fit([]) is None
    assert growth.model_text("x", [sample("a", (1, 1, 1, 1), [1, 1, 1, 1])])[1] is None
    assert growth.fit([((1, 1, d), 100 + d) for d in (1, 10, 100)], 3) == pytest.approx([100, 0, 1])
    falling = [((1, d), 100 - d / 2) for d in (1, 10, 50, 100)]
    assert growth.fit(falling, 2)[1] == 0


def test_a_point_knows_its_terms():
    one = {"topics": 1000, "each": 10, "subscribers": 100, "variants": 0, "payload": 1024}
    assert growth.terms_of(one) == (1, 1, 1, 1)
    assert growth.terms_of({**one, "topics": 0, "variants": 7}) == (1, 7, 100, 100)
    nodes = list(growth.fleet([100, 0, 1, 0]))
    assert nodes[0][:2] == [1, "15,000"] and nodes[1][3] == f"{800_000 / 2600:,.0f}"


# ---- the commands ----


def command(name, tmp_path, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / f"{name}.py", "--tiny", "--out", tmp_path, *arguments],
        capture_output=True, text=True, timeout=DEADLINE_S,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_report_runs_and_goes_on(tmp_path):
    """A workload through wsload, and each program whose output is read."""
    only = ("write,store_writes,snapshot_read,topic_match,topic_match_ranges,topic_match_all,"
            "service_ingress")
    text = command("report", tmp_path, "--only", only)
    assert "[7/7, " in text
    lines = (tmp_path / "tiny" / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["status"] for row in rows] == ["ok"] * 7, rows
    assert {"round_trip_us", "published_s", "ack_p50_ms"} <= set(rows[0]["figures"])
    for name in ("report.md", "report.html", "report.csv"):
        assert (tmp_path / "tiny" / name).stat().st_size > 0
    goals = [line for line in text.splitlines() if line.startswith(("G7 ", "G10 ", "G11 "))]
    assert len(goals) == 6 and not any(" pass" in line or " great" in line for line in goals)
    rows = report_runs.Rows(tmp_path / "tiny" / "runs.jsonl")
    clean = {key for key, row in rows.rows.items() if not report_runs.is_disturbed(row)}
    more = command("report", tmp_path, "--only", only, "--minutes", "0.001")
    assert "stopped" in more if len(clean) < 7 else "[1/" not in more
    assert "nothing is named G99" in command("report", tmp_path, "--only", "G99", status=1)


def test_growth_runs(tmp_path):
    told = tmp_path / "told"
    text = command("growth", tmp_path, "--only", "connections-10", "--into", told)
    assert "connections-10" in (told / "growth.md").read_text(encoding="utf-8")
    assert (tmp_path / "tiny" / "growth.jsonl").exists()
    assert "[1/1, " in text and "| connections-10 | tidewire | 5 |" in text
    assert "too few points for a model" in text
    assert report.workloads("full")[0].label == "1m"
