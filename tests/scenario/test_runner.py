"""tests/run.py: what it counts is what ran, by several workers, alone, and at a second try."""

import importlib.util
import json
import shutil

import pytest

from server import ROOT

SHARED = """
import pathlib, os, pytest

@pytest.fixture(scope="module")
def of_module():
    return os.getpid()

@pytest.mark.parametrize("n", range(4))
def test_share(of_module, n):
    with open({log!r}, "a") as log:
        log.write(f"{{os.getpid()}}\\n")

@pytest.mark.parametrize("text", ["a.b@c", "x[1]"])
def test_good(text):
    pass
"""
OTHERS = """
import os, pathlib, pytest

@pytest.mark.skip
def test_skipped():
    pass

@pytest.mark.alone
def test_alone():
    assert "PYTEST_XDIST_WORKER" not in os.environ

@pytest.mark.sanitize
def test_with_others():
    assert "PYTEST_XDIST_WORKER" in os.environ
"""
FLAKY = """
import pathlib, pytest

@pytest.fixture(scope="module")
def of_module():
    pass

def test_second(of_module):
    seen = pathlib.Path({seen!r})
    if not seen.exists():
        seen.touch()
        assert False
"""
BROKEN = """
import pytest

@pytest.fixture
def wrong():
    yield
    raise ValueError

def test_bad():
    assert False

def test_bad_end(wrong):
    pass
"""
NODE = """
import { test } from "node:test";
import fs from "node:fs";
test("good", () => {});
test("skipped", { skip: true }, () => {});
test("second", () => {
  if (fs.existsSync(SEEN)) return;
  fs.writeFileSync(SEEN, "");
  throw new Error("the first try");
});
"""


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """tests/run.py on a checkout that holds nothing but a few tests."""
    spec = importlib.util.spec_from_file_location("run_py", ROOT / "tests" / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    folder = tmp_path / "tests" / "scenario"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "pytest.ini", tmp_path / "tests")
    shutil.copy(ROOT / "tests" / "support" / "parallel.py", folder / "conftest.py")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "WORKERS", 2)
    monkeypatch.setenv("TIDEWIRE_SECOND_TRY", "1")
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)

    def counts(marks="", words=(), **files):
        for path in folder.glob("test_*.py"):
            path.unlink()
        for name, text in files.items():
            (folder / f"test_{name}.py").write_text(text)
        found = run.run_pytest("s", "tests/scenario", "none", list(words), marks=marks)
        kept = json.loads((tmp_path / "results" / "s" / "s.json").read_text())
        assert vars(found) == {name: kept[name] for name in vars(found)}
        return tuple(vars(found).values())

    run.counts = counts
    return run


def test_counts_are_those_of_all_workers(runner, tmp_path):
    log, seen = str(tmp_path / "log"), str(tmp_path / "seen")
    files = {"shared": SHARED.format(log=log), "others": OTHERS, "flaky": FLAKY.format(seen=seen)}
    assert runner.counts(**files) == (9, 0, 1, 1)  # passed, failed, skipped, flaky
    processes = (tmp_path / "log").read_text().split()
    assert len(processes) == 4 and len(set(processes)) == 1, "one worker has what a module shares"
    assert runner.counts(marks="sanitize", **files) == (1, 0, 0, 0)
    assert runner.counts(words=["-k", "second"], **files) == (1, 0, 0, 0)


def test_what_fails_twice_has_failed(runner, capfd):
    assert runner.counts(broken=BROKEN) == (0, 2, 0, 0)
    assert "second try:" in capfd.readouterr().out
    bad = "".join(f"def test_{i}():\n    assert False\n" for i in range(4))
    assert runner.counts(bad=bad) == (0, 4, 0, 0)
    assert "second try:" not in capfd.readouterr().out, "too many"
    assert runner.counts(bad="this is no Python")[1] > 0
    assert runner.counts(words=["-k", "nothing"], broken=BROKEN)[:2] == (0, 0)


def test_files_of_node_are_tried_twice(runner, tmp_path, capfd):
    if shutil.which("node") is None:
        pytest.skip("node is not installed (script/install test)")
    one, two = tmp_path / "one.test.mjs", tmp_path / "two.test.mjs"
    one.write_text(NODE.replace("SEEN", json.dumps(str(tmp_path / "seen"))))
    two.write_text('import { test } from "node:test";\ntest("good", () => {});\n')
    env = runner.test_env("none")
    found = runner.run_node_twice([str(one), str(two)], env)
    assert tuple(vars(found).values()) == (3, 0, 1, 1)
    assert f"second try:\n  {one}\n" in capfd.readouterr().out
    two.write_text('throw new Error("no test");\n')
    found = runner.run_node_twice([str(one), str(two)], env)
    assert (found.passed, found.failed, found.skipped, found.flaky) == (2, 1, 1, 0)
