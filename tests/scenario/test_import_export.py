"""Real data in and out: export equals import."""

import json
import os
import threading
from pathlib import Path

import pytest

from clients import run, settled
from server import ROOT

TOOLS = Path(os.environ.get("TIDEWIRE_TOOLS") or ROOT / ".tools")


def vega(name):
    """A file of the npm package vega-datasets, wherever script/install put it."""
    for base in (ROOT, ROOT / "tests" / "node", TOOLS / "node", TOOLS):
        path = base / "node_modules" / "vega-datasets" / "data" / name
        if path.exists():
            return path
    pytest.skip(f"vega-datasets is not installed: {name}")


def canonical(records):
    return sorted(json.dumps(r, sort_keys=True) for r in records)


def exported(server, collection, path):
    server.run("export", collection, "--output", str(path))
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_id(records):
    return [{k: v for k, v in r.items() if k != "_id"} for r in records]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["movies.json", "cars.json", "countries.json"])
def test_three_data_sets_come_back_as_they_went(server, tmp_path, name):
    source = json.loads(vega(name).read_text())
    done = server.run("import", "data", str(vega(name)))
    assert f"imported {len(source)} records" in done.stdout, done.stdout
    run(settled(server))
    back = exported(server, "data", tmp_path / "out.ndjson")
    assert canonical(without_id(back)) == canonical(source)
    watched = server.run("watch", "data", "--synced").stdout.splitlines()
    assert watched[-1] == f"synced ({len(source)})"
    assert len(watched) == len(source) + 1


def test_csv_with_a_key_and_rejects(server, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text('id,name,age\n1,"Lovelace, Ada",36\n2,"say ""hi""",\n3,x,1,too many\n')
    done = server.run("import", "people", str(path), "--key", "id", check=False)
    assert done.returncode == 1 and "imported 2 records" in done.stdout, done.stdout + done.stderr
    run(settled(server))
    reject = json.loads((tmp_path / "people.csv.rejects").read_text())
    assert reject["line"] == 4 and "more cells" in reject["error"]
    back = {r["_id"]: r for r in exported(server, "people", tmp_path / "out.ndjson")}
    assert back[1]["name"] == "Lovelace, Ada" and back[2] == {"_id": 2, "id": 2, "name": 'say "hi"'}


def test_mongoexport_types_survive(server, tmp_path):
    lines = [
        '{"_id":{"$oid":"5f43a1c0e4b0a1b2c3d4e5f6"},"at":{"$date":"2020-01-31T12:00:00.123Z"}}',
        '{"_id":2,"big":9223372036854775807,"f":0.1,"n":null,"deep":{"a":[1,{"b":true}]}}',
    ]
    path = tmp_path / "dump.ndjson"
    path.write_text("\n".join(lines) + "\n")
    server.run("import", "types", str(path))
    run(settled(server))
    out = tmp_path / "out.ndjson"
    server.run("export", "types", "--output", str(out))
    assert sorted(out.read_text().splitlines()) == sorted(lines)


def test_a_dry_run_sends_nothing(server, tmp_path):
    path = tmp_path / "x.ndjson"
    path.write_text('{"a":1}\nnot json\n{"a":2}\n')
    done = server.run("import", "x", str(path), "--dry-run", check=False)
    assert "would import 2 records" in done.stdout and "1 rejected" in done.stdout
    assert server.run("watch", "x", "--synced").stdout.splitlines() == ["synced (0)"]


class MemoryWatch:
    """The highest resident memory of a server while something goes on."""

    def __init__(self, server):
        self.pid = server.processes[None].pid
        self.stop = threading.Event()

    def resident_kb(self):
        with open(f"/proc/{self.pid}/statm") as f:
            return int(f.read().split()[1]) * 4

    def watch(self):
        while not self.stop.wait(0.02):
            self.highest = max(self.highest, self.resident_kb())

    def __enter__(self):
        self.before = self.highest = self.resident_kb()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.growth_kb = self.highest - self.before


@pytest.mark.slow
@pytest.mark.embedded
def test_a_million_records(make_server, tmp_path):
    """Generated records in, watched, out again."""
    server = make_server().start()
    count = int(os.environ.get("TIDEWIRE_RECORDS", "1000000"))
    path = tmp_path / "million.ndjson"
    with open(path, "w") as f:
        for i in range(count):
            f.write(
                '{"_id":%d,"name":"record %d","group":%d,"value":%d.5}\n' % (i, i, i % 97, i % 1000)
            )
    done = server.run("import", "many", str(path))
    assert f"imported {count} records" in done.stdout, done.stdout
    print(done.stdout.strip())
    out = tmp_path / "out.ndjson"
    with MemoryWatch(server) as memory:
        server.run("export", "many", "--output", str(out))
    assert memory.growth_kb < 64 * 1024, f"a snapshot took {memory.growth_kb} kB of the server"
    with open(path) as a, open(out) as b:
        assert sorted(a) == sorted(b)
    watched = server.run("watch", "many", "--filter", '{"group":5}', "--synced").stdout
    assert watched.splitlines()[-1] == f"synced ({len(range(5, count, 97))})"
