#!/usr/bin/env python3
"""Counts the instructions of the hot paths and holds them against bench/guard/instructions.csv.

  guard.py                    fails where a path takes over 3 % more than the table says
  guard.py --accept "WHY"     writes what it counts into the table, with WHY as the note of the
                              paths that moved (also after an improvement, or it can be lost)
  guard.py --planted          also: each path with 5 % more work must be red, and must be the same
                              when counted under other circumstances (the suite guard)

`script/build guard` builds what it counts: zig-out/guard/guard, for the oldest processor of its
kind. Callgrind counts, so neither the machine's speed nor its load matters. Two columns: `all` are
instructions with those of libraries, compared where the libraries are those of the table; `own` are
the program's alone, compared where they are not. Only the standard library is used here.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / "zig-out" / "guard" / "guard"
TABLE = Path(__file__).with_name("instructions.csv")
RISE_MAX = 0.03  # of a path, against the table
SAME_MAX = 0.002  # between two runs of one program: buffers that the system places elsewhere
PLANTED_PERCENT = 5
DEADLINE_S = 120
PACKAGES = ("libc6", "libsqlite3-0", "libbson-1.0-0", "libmsgpackc2", "libmsgpack-c2")

# The C library picks a variant of memcpy and its like by processor; these leave it one choice.
SAME_EVERYWHERE = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM"}


def libraries():
    """The versions of the libraries that take part; what is not installed is not named."""
    ask = ["dpkg-query", "-W", "-f", "${Package}=${Version} ${db:Status-Status}\n", *PACKAGES]
    said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    known = [line.split()[0] for line in said.splitlines() if line.endswith(" installed")]
    return " ".join(sorted(known)) or "unknown"


def count(path, more=0, padding=0):
    """Instructions of one path: {"own", "all"}. more: per cent of rounds more."""
    with tempfile.TemporaryDirectory(prefix="tidewire-guard-") as folder:
        out = Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=guard_measured"]
        command += [f"--callgrind-out-file={out}", str(PROGRAM), path, str(more)]
        env = {"PATH": os.environ.get("PATH", ""), "PADDING": "x" * padding, **SAME_EVERYWHERE}
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=DEADLINE_S
        )
        if done.returncode != 0 or not out.exists():
            raise RuntimeError(f"{path}: {done.stdout}{done.stderr}")
        return read_callgrind(out.read_text())


def read_callgrind(text):
    """Sums the self cost by object file (the format stands in valgrind's manual)."""
    names, sums, current, skip = {}, {}, "", False
    for line in text.splitlines():
        if line.startswith(("ob=", "cob=")):
            number, _, name = line.split("=", 1)[1].partition(" ")
            names.setdefault(number, name)
            current = number if line.startswith("ob=") else current
        elif line.startswith("calls="):
            skip = True  # the next line is the callee's cost, which is counted there
        elif line[:1] in "0123456789+-*" and line[:1]:
            if not skip:
                cost = line.split()
                sums[current] = sums.get(current, 0) + (int(cost[1]) if len(cost) > 1 else 0)
            skip = False
    own = sum(cost for number, cost in sums.items() if names.get(number) == str(PROGRAM))
    if own == 0:
        raise RuntimeError("nothing was counted")
    return {"own": own, "all": sum(sums.values())}


def paths():
    listed = subprocess.run([PROGRAM], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def count_all(names, more=0, padding=0):
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(names, pool.map(lambda name: count(name, more, padding), names)))


def read_table():
    """(rows by path, machine, libraries of the table)"""
    about, rows = {}, {}
    with TABLE.open(newline="") as file:
        lines = [line for line in file if line.strip()]
    for line in lines:
        if line.startswith("# "):
            key, _, value = line[2:].strip().partition(": ")
            about[key] = value
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        rows[row["path"]] = row
    return rows, about.get("machine", ""), about.get("libraries", "")


def write_table(rows):
    with TABLE.open("w", newline="") as file:
        file.write("# Instructions of 100 rounds of each path; bench/guard/guard.py writes it.\n")
        file.write(f"# machine: {platform.machine()}\n# libraries: {libraries()}\n")
        table = csv.DictWriter(file, ("path", "own", "all", "note"), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def rise(now, before):
    return now / before - 1


def judge(rows, counted, same_libraries):
    """The paths that are red, each with the reason."""
    red = {}
    for path, now in counted.items():
        if path not in rows:
            red[path] = "is not in the table"
            continue
        column = "all" if same_libraries else "own"
        more = rise(now[column], int(rows[path][column]))
        if more > RISE_MAX:
            red[path] = f"{column} {more:+.1%}"
    for path in rows:
        if path not in counted:
            red[path] = "is in the table, not in the program"
    return red


def accept(counted, why):
    rows = read_table()[0] if TABLE.exists() else {}
    written = []
    for path, now in counted.items():
        old = rows.get(path)
        stays = old and all(abs(rise(now[c], int(old[c]))) <= SAME_MAX for c in ("own", "all"))
        written.append(old if stays else {"path": path, **now, "note": why})
        if not stays:
            print(f"{path}: accepted")
    write_table(written)


def show(rows, counted, red):
    for path, now in counted.items():
        old = rows.get(path)
        moved = f"{rise(now['own'], int(old['own'])):+7.1%} " if old else "        "
        moved += f"{rise(now['all'], int(old['all'])):+7.1%} " if old else "        "
        print(f"{path:16}{now['own']:>12,}{now['all']:>12,} {moved}{red.get(path, '')}")


def planted(counted):
    """The paths in which the guard does not see what it should, each with the reason."""
    blind = {}
    table = {path: {column: str(n) for column, n in now.items()} for path, now in counted.items()}
    seen = judge(table, count_all(list(counted), more=PLANTED_PERCENT), True)
    again = count_all(list(counted), padding=4321)
    for path, now in again.items():
        if path not in seen:
            blind[path] = f"{PLANTED_PERCENT} % more was not seen"
        for column, number in now.items():
            if abs(rise(number, counted[path][column])) > SAME_MAX:
                blind[path] = f"{column} is {number}, was {counted[path][column]}"
    return blind


def tell(what, names, bad):
    """Results as TAP, which tests/run.py counts."""
    for name in names:
        print(f"not ok - {what} {name}: {bad[name]}" if name in bad else f"ok - {what} {name}")


def check(with_planted=False):
    """True when no path is red; with_planted also prints TAP."""
    counted = count_all(paths())
    rows, machine, known = read_table()
    if machine != platform.machine():
        print(f"the table is of {machine}: there are no figures for {platform.machine()}")
        return False
    same = known == libraries()
    if not same:
        print("other libraries, so `all` is not compared")
        print(f"  table  {known}\n  here   {libraries()}")
    red = judge(rows, counted, same)
    show(rows, counted, red)
    if red:
        print('red: make it cheaper, or say why: bench/guard/guard.py --accept "WHY"')
    if not with_planted:
        return not red
    blind = planted(counted)
    names = list(dict.fromkeys([*counted, *red]))
    print(f"1..{len(names) + len(counted)}")
    tell("instructions of", names, red)
    tell("a planted slow-down is seen in", counted, blind)
    return not red and not blind


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--accept", metavar="WHY")
    parser.add_argument("--planted", action="store_true")
    args = parser.parse_args()
    if not PROGRAM.exists():
        print("there is no zig-out/guard/guard: run script/build guard", file=sys.stderr)
        return 2
    if args.accept:
        accept(count_all(paths()), args.accept)
        return 0
    return 0 if check(args.planted) else 1


if __name__ == "__main__":
    sys.exit(main())
