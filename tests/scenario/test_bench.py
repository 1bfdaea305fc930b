"""`tidewire bench WORKLOAD`, each in its smallest form: totals are whole, saved, compared."""

import json
import subprocess

import pytest
from server import BINARY, PATIENCE_S, RUN_S

# Workload, its smallest form, deliveries of an event (None: any), figures that must be there.
SMALL = [
    ("fanout", ["-c", "20", "--rate", "200"], 20, ["p50_ms", "p99_ms", "ack_p99_ms"]),
    ("topics", ["-c", "20", "--topics", "100", "--rate", "200"], 2, ["p99_ms"]),
    ("filters", ["-c", "10", "--topics", "50", "--each", "5", "--rate", "99"], 1, ["p99_ms"]),
    ("write", ["--rate", "100"], 1, ["ack_p50_ms", "told_p99_ms"]),
    ("slow", ["-c", "20", "--rate", "100"], None, ["none_p99_ms", "slow_ratio"]),
    ("ingest", [], 0, ["acked_s"]),
    ("snapshot", ["-c", "3", "--documents", "2000", "--rate", "200"], None, ["catch_up_p99_ms"]),
    ("resume", ["-c", "10", "--documents", "500"], None, ["catch_up_p99_ms", "catch_up_s"]),
    ("idle", ["-c", "100"], None, ["rss_mb"]),
    ("storm", ["-c", "200"], None, ["connects_s"]),
    ("search", ["-c", "2", "--documents", "500"], None, ["searches_s", "p99_ms"]),
]
WRONG = ["lost", "missing", "repeated", "undecoded", "rejected", "refused", "dropped"]


def bench(*arguments, status=0):
    """A run of the verb; another where requests were put off, as a busy machine does."""
    command = [BINARY, "bench", *map(str, arguments)]
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
        if done.returncode == status or '"retry":"backoff"' not in done.stderr:
            break
    assert done.returncode == status, done.stdout + done.stderr
    return done


def figures_of(path):
    return json.loads(path.read_text())["figures"]


@pytest.mark.parametrize("work, flags, each, names", SMALL, ids=[row[0] for row in SMALL])
def test_workload(work, flags, each, names, tmp_path):
    saved = tmp_path / "run.json"
    bench(work, *flags, "--seconds", 1, "--json", saved)
    figures = figures_of(saved)
    assert {name: figures[name] for name in WRONG} == dict.fromkeys(WRONG, 0)
    for name in names:
        assert figures[name] > 0, figures
    if each is not None:
        assert figures["events"] > 0
        assert figures.get("deliveries", 0) == each * figures["events"], figures


def test_snapshot_and_resume_are_told_everything(tmp_path):
    saved = tmp_path / "run.json"
    bench("resume", "-c", 7, "--documents", 300, "--json", saved)
    figures = figures_of(saved)
    assert figures["events"] == 300 and figures["deliveries"] == 7 * 300
    bench("snapshot", "-c", 3, "--documents", 300, "--rate", 0, "--json", saved)
    figures = figures_of(saved)
    assert figures["events"] == 300 and figures["deliveries"] == 3 * 300


def test_compare_tells_ratios(tmp_path):
    saved = tmp_path / "saved.json"
    done = bench("write", "--rate", 50, "--seconds", 1, "--json", saved)
    document = json.loads(saved.read_text())
    document["figures"]["published_s"] = 5  # of the 50 asked for
    saved.write_text(json.dumps(document))
    done = bench("write", "--rate", 50, "--seconds", 1, "--compare", saved)
    row = next(line for line in done.stdout.splitlines() if "published_s" in line)
    assert "was 5" in row and "x, better" in row, row
    (tmp_path / "none.json").write_text("{}")
    done = bench("write", "--compare", tmp_path / "none.json", status=1)
    assert "--compare takes a file that --json wrote" in done.stderr


def test_a_running_server(make_server, tmp_path):
    server = make_server().start()
    saved = tmp_path / "run.json"
    url = f"ws://127.0.0.1:{server.port}"
    for _ in range(2):  # the second finds the records of the first
        done = bench("fanout", "--url", url, "-c", 5, "--rate", 50, "--seconds", 1, "--json", saved)
        assert "stand in the collection bench_" in done.stdout
        figures = figures_of(saved)
        assert figures["deliveries"] == 5 * figures["events"] > 0
    done = bench("fanout", "--url", "ws://127.0.0.1:1", status=1)
    assert "cannot connect" in done.stderr and "Is the server running?" in done.stderr


def test_what_cannot_be_run_is_told(tmp_path):
    saved = tmp_path / "tls.json"
    done = bench("tls", "--json", saved)
    assert done.stdout == "tls: skipped: it needs --url wss://ADDRESS:PORT\n"
    assert json.loads(saved.read_text())["skipped"] == "it needs --url wss://ADDRESS:PORT"
    assert "there is no workload 'fan'" in bench("fan", status=64).stderr
    assert "--payload is" in bench("fanout", "--payload", 3, status=1).stderr
    help_text = bench("--help").stdout
    assert all(f"  {row[0]} " in help_text for row in SMALL)


def test_version():
    for verb in ["version", "--version"]:
        done = subprocess.run([BINARY, verb], capture_output=True, text=True, timeout=PATIENCE_S)
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and lines[0].startswith("tidewire 0."), done
        linked = dict(line.split() for line in lines[1:] if len(line.split()) == 2)
        assert {"nng", "libwebsockets", "SQLite", "libmongoc"} <= set(linked)
