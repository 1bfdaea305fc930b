"""What bench/report.py and bench/growth.py share: runs of bench/wsload and of the other programs of
bench/, one at a time, kept as rows of JSON.

A run is known by its label, its peer and its round. A row is written when its run ends, so a second
start goes on where the first stopped; what failed or was disturbed runs again then. Others' use of
the machine stands in each row: a run that they disturbed is repeated, and is marked if it stays so.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "zig-out" / "bench"
OTHERS_MAX = 0.15  # of a core, used by anything else: the run is disturbed
RUN_DEADLINE_S = 600
PROGRAM = "program"  # stands for the peer where a program measures both sides itself
TICK = os.sysconf("SC_CLK_TCK")

# Peers that have the script of another.
SCRIPTS = {
    "nchan-resume": "nchan",
    "nchan-all": "nchan",
    "nchan-topics": "nchan",
    "mosquitto-retained": "mosquitto",
}


@dataclass
class Work:
    """One workload at some sizes. tags: goals (G1) and groups (W1) that --only selects by.
    options: of wsload; or, where `reads` is given, the arguments of the program `workload`, whose
    output `reads` turns into figures: a name and a pattern with one group each."""

    label: str
    workload: str
    tags: tuple
    peers: tuple = ("tidewire",)
    options: tuple = ()
    reads: tuple = ()
    rounds: int = 0  # 0: as many as the command makes
    cost_s: float = 3  # of a run, beside what it measures
    # Where only the command is tested: more options of wsload, or other arguments of the program.
    tiny: tuple = ("--subscribers", 5)


@dataclass
class Settings:
    """How the command runs: sizes is full, quick or tiny."""

    folder: Path  # of the rows
    told: Path  # of what is told of them
    sizes: str = "full"
    rounds: int = 3
    seconds: int = 3
    tries: int = 3
    wait_s: int = 60
    strict: bool = False  # nothing runs while the machine is not idle
    end_s: float = float("inf")  # of the monotonic clock: no run begins that would end later
    versions: dict = field(default_factory=dict)


# ---- the machine ----


def busy_s():
    """CPU seconds that the whole machine has been busy with."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / TICK


def processes():
    """CPU ticks and name of each process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue  # it has ended
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :]
        fields = rest.split()
        found[folder.name] = (int(fields[11]) + int(fields[12]), name)
    return found


def users_of_machine(seconds=1.0):
    """What is used for a second: cores in all, and [(cores, name)] of those who use most."""
    before, busy = processes(), busy_s()
    time.sleep(seconds)
    used = (busy_s() - busy) / seconds
    shares = []
    for number, (ticks, name) in processes().items():
        own = (ticks - before.get(number, (0, name))[0]) / TICK / seconds
        if own >= 0.02 and int(number) != os.getpid():
            shares.append((own, name))
    return used, sorted(shares, reverse=True)[:5]


def wait_idle(seconds):
    """Waits until nobody uses the machine. False: it does not become idle; who uses it is told."""
    end = time.monotonic() + seconds
    while True:
        used, shares = users_of_machine()
        if used <= OTHERS_MAX:
            return True
        if time.monotonic() >= end:
            names = ", ".join(f"{name} {share:.0%}" for share, name in shares) or "the system"
            print(f"the machine is not idle: {used:.0%} of a core ({names})", flush=True)
            print("runs that are disturbed count for no goal", flush=True)
            return False


def version_of(peer):
    """What would run, in one line; None: it is not installed."""
    script = ROOT / "bench" / "peers" / SCRIPTS.get(peer, peer)
    done = subprocess.run(
        [script, "version"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


# ---- rows ----


def is_disturbed(row):
    return row["figures"].get("other_cpu", 0) > OTHERS_MAX


class Rows:
    """The rows of a file, the best of each run: one that was not disturbed, else the newest."""

    def __init__(self, path):
        self.path = path
        self.rows = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self.take(json.loads(line))

    def take(self, row):
        key = (row["label"], row["peer"], row["round"])
        old = self.rows.get(key)
        if old and old["status"] == "ok" and not is_disturbed(old):
            if row["status"] != "ok" or is_disturbed(row):
                return
        self.rows[key] = row

    def add(self, row):
        self.take(row)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def is_done(self, label, peer, number):
        row = self.rows.get((label, peer, number))
        return row is not None and row["status"] == "ok" and not is_disturbed(row)

    def of(self, label, peer):
        found = [row for key, row in self.rows.items() if key[:2] == (label, peer)]
        return sorted(found, key=lambda row: row["round"])

    def median(self, label, peer, figure):
        values = [
            row["figures"].get(figure, 0) for row in self.of(label, peer) if row["status"] == "ok"
        ]
        return statistics.median(values) if values else None


# ---- one run ----


def run_wsload(work, peer, number, settings):
    with tempfile.NamedTemporaryFile(dir=settings.folder, suffix=".json") as file:
        command = [BUILT / "wsload", "--only", work.workload, "--peers", peer, "--no-wait"]
        command += ["--rounds", 1, "--round", number, "--tries", 1, "--seconds", settings.seconds]
        command += [*work.options, *(work.tiny if settings.sizes == "tiny" else ())]
        command += ["--json", file.name]
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=RUN_DEADLINE_S,
        )
        lines = Path(file.name).read_text(encoding="utf-8").splitlines()
    if done.returncode != 0 or len(lines) != 1:
        return {"status": "failed", "why": (done.stderr or done.stdout)[-500:], "figures": {}}
    row = json.loads(lines[0])
    row["figures"]["round_trip_us"] = row.pop("round_trip_us")
    return {**row, "status": "ok"}


def run_program(work, settings):
    """Figures from what the program prints; what others used, by the machine's and its own CPU."""
    arguments = work.tiny if settings.sizes == "tiny" else work.options
    busy, began = busy_s(), time.monotonic()
    env = {**os.environ, "TIDEWIRE_BIN": str(ROOT / "zig-out" / "bin" / "tidewire")}
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(
            [BUILT / work.workload, *map(str, arguments)],
            cwd=settings.folder, env=env, stdout=out, stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    took = time.monotonic() - began
    used = usage.ru_utime + usage.ru_stime
    figures = {"other_cpu": max(0.0, (busy_s() - busy - used) / took)}
    for name, pattern in work.reads:
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            return {"status": "failed", "why": text[-500:], "figures": {}}
        figures[name] = float(found.group(1))
    return {"status": "ok", "workload": work.workload, "figures": figures}


def run_one(work, peer, number, settings):
    """Repeats what others disturb; returns its row."""
    for tries in range(1, settings.tries + 1):
        try:
            if work.reads:
                row = run_program(work, settings)
            else:
                row = run_wsload(work, peer, number, settings)
        except subprocess.TimeoutExpired:
            row = {"status": "failed", "why": "it did not end in time", "figures": {}}
        if row["status"] != "ok" or not is_disturbed(row):
            break
    row.update(label=work.label, peer=peer, round=number, tries=tries, sizes=settings.sizes)
    row.setdefault("version", settings.versions.get(peer) or settings.versions["tidewire"])
    return row


def summary(row):
    """What a line of progress tells of a run."""
    if row["status"] != "ok":
        return f"failed: {row['why'].strip().splitlines()[-1] if row['why'].strip() else '?'}"
    shown = ("delivered_s", "acked_s", "connects_s", "catch_up_s", "rss_per_connection", "p99_ms")
    shown += ("us_per_event", "ratio", "told_p50_ms")
    figures = row["figures"]
    text = ", ".join(f"{name} {figures[name]:,.4g}" for name in shown if figures.get(name))
    others = figures.get("other_cpu", 0)
    return f"{text}, others {others:.0%}" + (" DISTURBED" if is_disturbed(row) else "")


def run_all(works, rows, settings):
    """Runs what is not there yet, rounds interleaved; tells the time that is left."""
    jobs = []
    for work in works:
        for number in range(work.rounds or settings.rounds):
            for peer in (PROGRAM,) if work.reads else work.peers:
                skipped = not work.reads and settings.versions.get(peer) is None
                if not skipped and not rows.is_done(work.label, peer, number):
                    jobs.append((work, peer, number))
    left = sum(work.cost_s + (0 if work.reads else settings.seconds + 1) for work, _, _ in jobs)
    if jobs and not wait_idle(settings.wait_s) and settings.strict:
        print("nothing was run", flush=True)
        return
    for i, (work, peer, number) in enumerate(jobs):
        expected = work.cost_s + (0 if work.reads else settings.seconds + 1)
        if time.monotonic() + expected > settings.end_s:
            print(f"stopped, {left / 60:.0f} min are left; the same command goes on", flush=True)
            break
        row = run_one(work, peer, number, settings)
        rows.add(row)
        left -= expected
        print(
            f"[{i + 1}/{len(jobs)}, {left / 60:.0f} min left] {work.label} {peer} {number + 1}: "
            f"{summary(row)}",
            flush=True,
        )


def find_peers(works, settings):
    """Fills settings.versions; says what is not installed."""
    for peer in dict.fromkeys(["tidewire", *(peer for work in works for peer in work.peers)]):
        settings.versions[peer] = version_of(peer)
        if settings.versions[peer] is None:
            print(f"skipped: {peer} is not installed (script/install bench)", flush=True)
    if settings.versions["tidewire"] is None or not (BUILT / "wsload").exists():
        sys.exit("report: build first: script/build install bench")


def add_options(parser):
    parser.add_argument("--only", default="", help="goals, workloads or labels: G5,W2,max100")
    parser.add_argument("--quick", action="store_true", help="one round of a second, fewer points")
    parser.add_argument("--tiny", action="store_true", help="tests the command; no figure counts")
    parser.add_argument("--out", type=Path, default=ROOT / "zig-out" / "report")
    parser.add_argument("--into", type=Path, help="write what is told there, not beside the rows")
    parser.add_argument("--rounds", type=int, help="3")
    parser.add_argument("--tries", type=int, help="of a run that others disturb; 3")
    parser.add_argument("--wait", type=int, default=60, help="seconds, for an idle machine; 60")
    parser.add_argument("--strict", action="store_true", help="runs nothing if it is not idle")
    parser.add_argument("--minutes", type=float, help="stop then; the same command goes on later")
    parser.add_argument("--no-run", action="store_true", help="only tell what was run before")


def settings_of(given):
    settings = Settings(given.out, given.out, wait_s=given.wait)
    if given.quick:
        settings.sizes, settings.rounds, settings.seconds, settings.tries = "quick", 1, 1, 2
    if given.tiny:
        settings.sizes, settings.rounds, settings.seconds, settings.tries = "tiny", 1, 1, 1
        settings.wait_s = 0
    settings.strict = given.strict
    if given.minutes:
        settings.end_s = time.monotonic() + 60 * given.minutes
    settings.tries = given.tries or settings.tries
    if given.rounds:
        settings.rounds = given.rounds
    settings.folder = settings.folder / settings.sizes
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.told = given.into or settings.folder
    settings.told.mkdir(parents=True, exist_ok=True)
    return settings


def chosen(works, only):
    """Those that have one of the names; a name that none has is an error."""
    names = [name for name in only.split(",") if name]
    for name in names:
        if not any(name in (work.label, *work.tags) for work in works):
            sys.exit(f"report: nothing is named {name}")
    return [work for work in works if not names or set(names) & {work.label, *work.tags}]


def command(name, text, arguments, works_of, tell, kept):
    """What both commands do with their arguments: run what is asked and not there yet, then tell.
    works_of: from sizes to all Work. tell: all works, rows, settings. kept: the file of the rows.
    Returns the exit status; 130 where somebody stopped it."""
    parser = argparse.ArgumentParser(
        prog=name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    given = parser.parse_args(arguments)
    settings = settings_of(given)
    works = works_of(settings.sizes)
    wanted = chosen(works, given.only)
    find_peers(wanted, settings)
    rows = Rows(settings.folder / kept)
    if not given.no_run:
        try:
            run_all(wanted, rows, settings)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", flush=True)
            return 130
    tell(works, rows, settings)
    return 0
