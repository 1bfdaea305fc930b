"""Every line of the README's tour is run; and the story that it tells of a kill."""

import re
import subprocess

from server import BINARY, PATIENCE_S, ROOT, wait_until


def tour():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_every_line_of_the_tour(make_server, tmp_path):
    server = make_server(flags=["--demo"]).start()
    wait_until(lambda: "demo data is there" in server.tail(100), 30, "demo data")
    lines = tour()
    assert len(lines) >= 8
    env = {
        "PATH": f"{ROOT}/zig-out/bin:/usr/bin:/bin",
        "TIDEWIRE_URL": f"ws://127.0.0.1:{server.port}",
    }
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tidewire").symlink_to(BINARY)
    env["PATH"] = f"{tmp_path}/bin:/usr/bin:/bin"
    outputs = {}
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}\n{server.tail()}"
        outputs[line] = done.stdout
    watched = [out for line, out in outputs.items() if "watch entries" in line][0]
    assert watched.splitlines()[-1] == "synced (5)"
    exported = (tmp_path / "people.ndjson").read_text()
    assert '"name":"Ada"' in exported and '"age":85' in exported


class Watcher:
    def __init__(self, server, path, *words):
        self.path = path
        self.out = open(path, "w")
        self.process = subprocess.Popen(
            [BINARY, "watch", *words, "--url", f"ws://127.0.0.1:{server.port}"],
            stdout=self.out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def lines(self):
        return self.path.read_text().splitlines()

    def close(self):
        self.process.terminate()
        code = self.process.wait(timeout=PATIENCE_S)
        self.out.close()
        assert code == 0


def test_two_watchers_resume_after_a_kill(make_server, tmp_path):
    server = make_server().start()
    for i in range(10):
        server.run("put", "people", f'{{"_id":{i},"n":{i}}}')
    watchers = [Watcher(server, tmp_path / f"w{i}", "people") for i in range(2)]
    for watcher in watchers:
        wait_until(lambda w=watcher: "synced (10)" in w.lines(), 10, "the first sync")
    server.run("put", "people", '{"_id":10,"n":10}')
    server.kill()
    server.start()
    server.run("put", "people", '{"_id":11,"n":11}')
    for watcher in watchers:
        wait_until(
            lambda w=watcher: any('"key":11' in line for line in w.lines()),
            20,
            f"the write after the kill in {watcher.lines()}",
        )
        keys = re.findall(r'"key":(\d+)', watcher.path.read_text())
        assert keys == [str(i) for i in range(12)], keys
        watcher.close()
