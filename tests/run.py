#!/usr/bin/env python3
"""Runs the tests and counts them. script/test calls it; the build calls its first four commands.

  one       one test program, with a deadline; quiet when it passes (build.zig)
  compare   a committed document against a generated one (build.zig)
  format    clang-format over the C sources, without changing them (build.zig)
  fuzz      one fuzz target for some seconds (build.zig)
  scenario  pytest over tests/scenario, against the built program
  suites    the suites in order, with progress; the last line is `N passed, N failed`

Each leaves its counts as JSON in zig-out/results/SUITE/, where `suites` adds them up, so a test
that did not run cannot count as passed. Only the standard library is used here.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "zig-out" / "results"
TOOLS = Path(os.environ.get("TIDEWIRE_TOOLS") or ROOT / ".tools")
ON_CI = os.environ.get("CI", "") == "true"

# Of one suite may be run once more: nng 1.5.2, which Debian 12 has, may hang a client that closes
# (docs/decisions/0031), and that cannot be mended here. Each is shown and counted as flaky.
SECOND_TRIES_MAX = 2

# Scenarios wait more than they work: one worker more than there are cores. Each may have a server
# of MongoDB and one of OpenSearch, about 1.5 GB.
WORKERS = min(4, (os.cpu_count() or 1) + 1)

# Seconds until a test program is ended; the sanitizers make programs 5 to 15 times slower.
DEADLINE_S = {"unit": 120, "tidy": 60, "asan": 300, "tsan": 600}
GUARD_DEADLINE_S = 300

SANITIZER_ENV = {
    "asan": {
        "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "LSAN_OPTIONS": f"suppressions={ROOT}/tests/support/lsan.supp:print_suppressions=0",
    },
    # The libraries are not built for the thread sanitizer: what they touch themselves is ignored,
    # their locks are seen.
    "tsan": {
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:second_deadlock_stack=1:exitcode=66"
    },
}


class Counts:
    """Passed, failed and skipped; a sum of what the result files say. Flaky: of those that passed,
    how many did at the second try."""

    def __init__(self, passed=0, failed=0, skipped=0, flaky=0):
        self.passed, self.failed, self.skipped, self.flaky = passed, failed, skipped, flaky

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.flaky += other.flaky

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        text += f", {self.skipped} skipped" if self.skipped else ""
        return text + (f", {self.flaky} flaky" if self.flaky else "")


def record(results, name, counts, seconds, first=""):
    """Leaves the counts of one program; a name holds no slash in the file system. first: what it
    said when it failed before it passed."""
    folder = Path(results)
    folder.mkdir(parents=True, exist_ok=True)
    row = {"name": name, "seconds": round(seconds, 3), **vars(counts), "first": first}
    (folder / (name.replace("/", "_") + ".json")).write_text(json.dumps(row) + "\n")


def collect(suite):
    """The sum of a suite, and its rows."""
    total, rows = Counts(), []
    for path in sorted((RESULTS / suite).glob("*.json")):
        row = json.loads(path.read_text())
        rows.append(row)
        total.add(Counts(row["passed"], row["failed"], row["skipped"], row["flaky"]))
    return total, rows


def run_bounded(command, deadline_s, env=None):
    """Runs a program in a process group of its own. Returns (code, stdout, stderr, timed out)."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    late = False
    try:
        out, err = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGABRT)  # a core or a sanitizer's stack is worth having
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace"), late


def count_tap(text):
    """Counts of a TAP stream: (counts, number of tests its plans promised or None)."""
    counts, planned = Counts(), None
    for line in text.splitlines():
        if plan := re.match(r"1\.\.(\d+)\b", line):
            planned = (planned or 0) + int(plan.group(1))
        elif re.match(r"(not )?ok\b.*#\s*skip\b", line, re.IGNORECASE):  # cmocka says "not ok"
            counts.skipped += 1
        elif re.match(r"not ok\b", line):
            counts.failed += 1
        elif re.match(r"ok\b", line):
            counts.passed += 1
    return counts, planned


def judge(code, out, late):
    """What a test program's end means: a crash, a lost test and a bad exit code are failures."""
    counts, planned = count_tap(out)
    if planned is None:  # no TAP: the exit code is the one result
        return Counts(failed=1) if code != 0 or late else Counts(passed=1)
    seen = counts.passed + counts.failed + counts.skipped
    if seen < planned or late:
        counts.failed += max(1, planned - seen)
    elif code != 0 and counts.failed == 0:
        counts.failed += 1
    return counts


def run_one(args):
    """Runs a test program. Returns its counts, and what there is to say when it failed."""
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", **SANITIZER_ENV.get(args.suite, {}))
    deadline_s = DEADLINE_S.get(args.suite, 120)
    code, out, err, late = run_bounded(args.command, deadline_s, env)
    counts = judge(code, out, late)
    end = f"ended after {deadline_s} s" if late else f"exit code {code}"
    said = f"FAILED {args.suite} {args.name}: {counts}, {end}\n"
    return counts, said + f"again: {' '.join(args.command)}\n{out}{err}"


def may_try_again(results):
    """Takes one of the second tries that the suites give to the programs of a suite."""
    folder = Path(results) / "second"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(SECOND_TRIES_MAX if os.environ.get("TIDEWIRE_SECOND_TRY") else 0):
        try:
            (folder / str(number)).touch(exist_ok=False)
            return True
        except FileExistsError:
            continue
    return False


def command_one(args):
    began = time.monotonic()
    counts, said = run_one(args)
    first = ""
    if counts.failed and may_try_again(args.results):
        first, failed = said, counts.failed
        counts, said = run_one(args)
        counts.flaky = failed if counts.failed == 0 else 0
    record(args.results, args.name, counts, time.monotonic() - began, first)
    if counts.failed:
        print(first + said, file=sys.stderr)
    return 1 if counts.failed else 0


def command_compare(args):
    committed, generated = ROOT / args.committed, Path(args.generated)
    same = committed.exists() and committed.read_bytes() == generated.read_bytes()
    name = "compare/" + args.committed
    record(args.results, name, Counts(passed=int(same), failed=int(not same)), 0)
    if not same:
        print(f"FAILED {args.committed} is stale: run zig build docs", file=sys.stderr)
        diff = ["diff", "-u", str(committed), str(generated)]
        subprocess.run(diff, stdout=sys.stderr, check=False)
    return 0 if same else 1


def command_format(args):
    tool, files = args.command[0], args.command[1:]
    began = time.monotonic()
    stale = []
    for file in files:
        text = (ROOT / file).read_bytes()
        command = [tool, "--style=file", file]
        if subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout != text:
            stale.append(file)
    counts = Counts(passed=int(not stale), failed=int(bool(stale)))
    record(args.results, "format", counts, time.monotonic() - began)
    if stale:
        print("FAILED not formatted: run zig build format", file=sys.stderr)
        print("\n".join("  " + file for file in stale), file=sys.stderr)
    return 1 if stale else 0


def command_fuzz(args):
    """New inputs go to zig-out; what crashes is named, and belongs into the corpus once fixed."""
    found = Path(args.found)
    found.mkdir(parents=True, exist_ok=True)
    crashes = found.parent / "crashes"
    crashes.mkdir(exist_ok=True)
    prefix = crashes / (found.name + "-")
    command = [*args.command, f"-max_total_time={args.seconds}", "-print_final_stats=0"]
    command += ["-timeout=10", "-rss_limit_mb=2048", "-verbosity=0", f"-artifact_prefix={prefix}"]
    dictionary = ROOT / (args.seeds + ".dict")
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    command.append(str(found))
    if (ROOT / args.seeds).is_dir():
        command.append(str(ROOT / args.seeds))
    env = dict(os.environ, **SANITIZER_ENV["asan"])
    began = time.monotonic()
    code, out, err, late = run_bounded(command, args.seconds + 60, env)
    good = code == 0 and not late
    counts = Counts(passed=int(good), failed=int(not good))
    record(args.results, args.name, counts, time.monotonic() - began)
    if not good:
        print(f"FAILED fuzz {args.name}: the input is {prefix}*", file=sys.stderr)
        print(out + err, file=sys.stderr)
    return 0 if good else 1


# -----------------------------------------------------------------------------------------------
# pytest and node


def count_junit(path):
    counts = Counts()
    if not path.exists():
        return Counts(failed=1)
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        counts.add(Counts(max(0, tests - skipped - failed), failed, skipped))
    return counts


def test_python():
    python = TOOLS / "py" / "bin" / "python"
    return str(python) if python.exists() else sys.executable


def test_env(binary):
    env = dict(os.environ, TIDEWIRE_BIN=str(binary), TIDEWIRE_ROOT=str(ROOT))
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env["MONGOC_DISABLE_SHM"] = "1"  # see tests/scenario/conftest.py
    env["NODE_PATH"] = str(TOOLS / "node" / "node_modules")
    env["TIDEWIRE_NODE_MODULES"] = env["NODE_PATH"]
    chromium = shutil.which("chromium")
    if chromium:
        env.setdefault("TIDEWIRE_CHROMIUM", chromium)
    return env


def run_pytest(suite, folder, binary, extra, env_more=None, marks=""):
    """pytest over one folder, of the tests with these marks. Its output is shown as it comes; the
    counts are taken from JUnit. Whoever gives words of his own (extra) has it in one process."""
    pytest = [test_python(), "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", str(ROOT)]
    pytest += ["-q", "-ra", "--tb=short"]
    env = dict(test_env(binary), **(env_more or {}))
    began = time.monotonic()
    counts, failed = Counts(), []
    for part, words in parts_of(marks, extra).items():
        report = RESULTS / suite / f"{part}.xml"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        command = [*pytest, f"--junitxml={report}", folder, *words]
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        if code == 5 and not report_has_tests(report):  # nothing was collected
            continue
        told = count_junit(report)
        if code != 0 and told.failed == 0:
            told.failed = 1
        counts.add(told)
        failed += failed_tests(report)
    if failed:
        second_try([*pytest, *extra], failed, env, counts)
    record(RESULTS / suite, suite, counts, time.monotonic() - began)
    return counts


def parts_of(marks, extra):
    """{name: words} of the runs of pytest that make a suite: by several workers, then what must
    not have others beside it."""
    if extra:
        return {"junit": extra}
    of = f"{marks} and " if marks else ""
    spread = ["-n", str(WORKERS), "--dist=loadscope", "--no-loadscope-reorder"]
    return {
        "junit": [*spread, "-m", f"{of}not alone"],
        "alone": ["-m", f"{of}alone"],
    }


def failed_tests(report):
    """Names for pytest of the tests that failed or whose set-up or end did."""
    if not report.exists():
        return []
    failed = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            name = case.get("name")
            path = case.get("classname").replace(".", "/")
            failed[f"{path}.py::{name}" if path else name.replace(".", "/") + ".py"] = True
    return list(failed)


def second_try(pytest, failed, env, counts):
    """Runs what failed once more, alone, where it is little; both outcomes are shown."""
    if len(failed) > SECOND_TRIES_MAX or not os.environ.get("TIDEWIRE_SECOND_TRY"):
        return
    print("second try:", *failed, sep="\n  ", flush=True)
    done = subprocess.run([*pytest, *failed], cwd=ROOT, env=env, check=False)
    if done.returncode == 0:
        print("second try: all of them passed; the first failure is above", flush=True)
        counts.passed += len(failed)
        counts.failed = 0
        counts.flaky = len(failed)


def report_has_tests(report):
    return report.exists() and sum(vars(count_junit(report)).values()) > 0


def has_files(folder, pattern):
    return any((ROOT / folder).rglob(pattern)) if (ROOT / folder).is_dir() else False


def command_scenario(args):
    binary = os.environ.get("TIDEWIRE_BIN") or ROOT / "zig-out" / "bin" / "tidewire"
    counts = run_pytest("scenario", "tests/scenario", binary, args.rest)
    return 1 if counts.failed else 0


# -----------------------------------------------------------------------------------------------
# The suites


def zig(*steps):
    """`zig build`; its output is shown in full when it fails, else not at all."""
    command = [str(TOOLS / "zig" / "bin" / "python"), "-m", "ziglang", "build", *steps]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        sys.stdout.write((done.stdout + done.stderr).decode(errors="replace"))
    return done.returncode


def suite_of_zig(suite, *steps, also=()):
    """A suite that is a step of the build. A build that fails without a failed test is one."""
    code = zig(*steps)
    total = Counts()
    for name in (suite, *also):
        counts, rows = collect(name)
        total.add(counts)
        for row in rows:
            if row["flaky"]:
                print(f"second try: {row['name']} passed; before:\n{row['first']}", flush=True)
    if code != 0 and total.failed == 0:
        total.failed = 1
    return total


def suite_unit():
    return suite_of_zig("unit", "install", "test", also=("tidy",))


def suite_warnings():
    code = zig("warnings", "bench")
    return Counts(passed=int(code == 0), failed=int(code != 0))


def suite_format():
    if shutil.which("clang-format-14") is None:  # another version breaks lines elsewhere
        return Counts()
    code = zig("format-check")
    return Counts(passed=int(code == 0), failed=int(code != 0))


def suite_asan():
    return suite_of_zig("asan", "asan")


def suite_tsan():
    return suite_of_zig("tsan", "tsan")


def built():
    """The program as the sources are now, also where the suite of unit tests did not run before."""
    return zig("install") == 0


def suite_scenario():
    if zig("install", "bench") != 0:  # test_bench_report runs programs of bench/
        return Counts(failed=1)
    if not has_files("tests/scenario", "test_*.py"):
        return Counts()
    return run_pytest("scenario", "tests/scenario", ROOT / "zig-out/bin/tidewire", [])


def sanitized_scenarios(kind):
    """The scenarios marked `sanitize`, once more with a slower and stricter program."""
    binary = ROOT / "zig-out" / kind / "tidewire"
    if not binary.exists():
        print(f"{binary} is missing: the suite {kind} builds it", flush=True)
        return Counts(failed=1)
    return run_pytest(
        "scenario-" + kind, "tests/scenario", binary, [], SANITIZER_ENV[kind], marks="sanitize"
    )


def suite_scenario_asan():
    return sanitized_scenarios("asan")


def suite_scenario_tsan():
    return sanitized_scenarios("tsan")


def suite_python():
    if not built():
        return Counts(failed=1)
    if not has_files("clients/python", "test_*.py"):
        return Counts()
    path = {"PYTHONPATH": str(ROOT / "clients" / "python")}
    return run_pytest("python", "clients/python", ROOT / "zig-out/bin/tidewire", [], path)


def suite_node():
    files = []
    for folder in ("clients/js", "tests/node", "web"):
        for pattern in ("*.test.js", "*.test.mjs"):
            files += [p for p in (ROOT / folder).rglob(pattern) if "node_modules" not in p.parts]
    if not files:
        return Counts()
    if not built():
        return Counts(failed=1)
    began = time.monotonic()
    compiled = subprocess.run(
        ["npm", "run", "--silent", "build"],
        cwd=ROOT / "clients" / "js",
        capture_output=True,
        text=True,
        check=False,
    )
    if compiled.returncode != 0:
        print(compiled.stdout + compiled.stderr)
        counts = Counts(failed=1)
        record(RESULTS / "node", "node", counts, time.monotonic() - began)
        return counts
    counts = run_node_twice(sorted(map(str, files)), test_env(ROOT / "zig-out/bin/tidewire"))
    record(RESULTS / "node", "node", counts, time.monotonic() - began)
    return counts


def run_node_twice(files, env):
    """node's test runner; files with a failure once more, where these are few, one at a time."""
    counts, failed_files = run_node(files, env, WORKERS)
    is_little = 0 < counts.failed <= SECOND_TRIES_MAX and failed_files
    if is_little and os.environ.get("TIDEWIRE_SECOND_TRY"):
        print("second try:", *failed_files, sep="\n  ", flush=True)
        again, _ = run_node(failed_files, env, 1)
        if again.failed == 0:
            print("second try: all of them passed; the first failure is above", flush=True)
            counts.passed, counts.flaky = counts.passed + counts.failed, counts.failed
            counts.failed = 0
    return counts


def run_node(files, env, workers):
    """(counts, files with a failure). A dot is shown for each test, all output when one fails."""
    flags = ["--test", "--test-force-exit", "--test-timeout=600000", "--test-reporter=tap"]
    command = ["node", *flags, f"--test-concurrency={workers}", *files]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.match(r"(not )?ok \d", line):
                print("F" if found.group(1) else ".", end="", flush=True)
    print(flush=True)
    out = "".join(lines)
    counts = count_node(process.returncode, out)
    if counts.failed:
        print(out)
    failed = re.findall(r"^ +location: '(.+?):\d+:\d+'$", out, re.MULTILINE)
    return counts, sorted(set(failed) & set(files))


def count_node(code, out):
    counts = Counts()
    for word, key in (("passed", "pass"), ("failed", "fail"), ("skipped", "skipped")):
        found = re.findall(rf"^# {key} (\d+)$", out, re.MULTILINE)
        setattr(counts, word, int(found[-1]) if found else 0)
    cancelled = re.findall(r"^# cancelled (\d+)$", out, re.MULTILINE)
    counts.failed += int(cancelled[-1]) if cancelled else 0
    if code != 0 and counts.failed == 0:
        counts.failed = 1
    return counts


def suite_guard():
    """Instructions of the hot paths against the table, and that the guard sees what it should."""
    if zig("guard") != 0:
        return Counts(failed=1)
    guard = [sys.executable, "bench/guard/guard.py", "--planted"]
    began = time.monotonic()
    code, out, err, late = run_bounded(guard, GUARD_DEADLINE_S)
    counts = judge(code, out, late)
    if counts.failed:
        print(out + err)
    record(RESULTS / "guard", "guard", counts, time.monotonic() - began)
    return counts

SUITES = {  # in the order in which they run; True: also with --quick
    "unit": (suite_unit, True, "unit tests, corpus replay, tidy, generated documents"),
    "guard": (suite_guard, False, "instructions of the hot paths, by callgrind"),
    "format": (suite_format, False, "clang-format 14"),
    "warnings": (suite_warnings, False, "gcc and clang, -Werror; benches build"),
    "scenario": (suite_scenario, True, "the whole program from outside"),
    "node": (suite_node, True, "the JavaScript client"),
    "python": (suite_python, True, "the Python client"),
    "asan": (suite_asan, False, "unit tests: address and undefined behaviour"),
    "tsan": (suite_tsan, False, "unit tests: data races"),
    "scenario-asan": (suite_scenario_asan, False, "marked scenarios: address"),
    "scenario-tsan": (suite_scenario_tsan, False, "marked scenarios: data races"),
}


def command_suites(args):
    unknown = [name for name in args.names if name not in SUITES]
    if unknown:
        print(f"no suite named {unknown[0]}; there are: {' '.join(SUITES)}", file=sys.stderr)
        return 2
    names = args.names or [name for name in SUITES if SUITES[name][1] or not args.quick]
    shutil.rmtree(RESULTS, ignore_errors=True)
    os.environ["TIDEWIRE_SECOND_TRY"] = "1"  # who runs one suite by hand wants to see it fail
    total, lines = Counts(), []
    began_all = time.monotonic()
    for number, name in enumerate(names, 1):
        run, _, doc = SUITES[name]
        print(f"[{number}/{len(names)}] {name}: {doc}", flush=True)
        began = time.monotonic()
        try:
            counts = run()
        except Exception as error:  # a runner's own fault is a failure, and the rest still runs
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            counts = Counts(failed=1)
        if counts.passed + counts.failed + counts.skipped == 0:
            print(f"{name}: nothing was tested", flush=True)
            counts.failed = 1
        seconds = time.monotonic() - began
        total.add(counts)
        lines.append(f"  {name:14} {counts} ({seconds:.0f} s)")
        print(lines[-1], flush=True)
    print(f"\nsummary, {time.monotonic() - began_all:.0f} s in all:")
    print("\n".join(lines))
    if total.skipped and ON_CI:
        print("a skip is a failure on CI")
    if total.flaky:
        print(f"flaky: {total.flaky} passed at the second try only")
    print(Counts(total.passed, total.failed, total.skipped), flush=True)
    return 1 if total.failed or (total.skipped and ON_CI) else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(dest="what", required=True)
    one = commands.add_parser("one")
    one.add_argument("--suite", required=True)
    compare = commands.add_parser("compare")
    form = commands.add_parser("format")
    fuzz = commands.add_parser("fuzz")
    for sub in (one, fuzz):
        sub.add_argument("--name", required=True)
    for sub in (one, compare, form, fuzz):
        sub.add_argument("--results", required=True)
    compare.add_argument("committed")
    compare.add_argument("generated")
    fuzz.add_argument("--seconds", type=int, required=True)
    fuzz.add_argument("--seeds", required=True)
    fuzz.add_argument("--found", required=True)
    for sub in (one, form, fuzz):
        sub.add_argument("command", nargs="+")
    commands.add_parser("scenario")  # all that follows goes to pytest
    suites = commands.add_parser("suites")
    suites.add_argument("--quick", action="store_true")
    suites.add_argument("names", nargs="*")
    args, rest = parser.parse_known_args()
    if rest and args.what != "scenario":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    return globals()["command_" + args.what](args)


if __name__ == "__main__":
    sys.exit(main())
