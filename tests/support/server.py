"""A Tidewire under test: the real program, started from outside, killed and started again.

Layouts: `one` = all actors in one process; `ipc`, `tcp` = store (with its readers), subscription
manager, and gateway (with the service socket) in three processes; with MongoDB the change tailer
(with the other actors that speak to it) in a fourth.
"""

import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("TIDEWIRE_BIN", str(ROOT / "zig-out" / "bin" / "tidewire"))
# No wait for something that must come gives up before: a deadline ends a test that hangs, it says
# nothing about how fast a machine is on which others work too.
PATIENCE_S = 120
READY_S = PATIENCE_S  # a sanitizer's program on a busy machine
RUN_S = 600  # for a scenario, or a verb of the command line
PROCESSES = {
    "one": [None],
    "ipc": ["store", "subscription_manager", "gateway"],
    "tcp": ["store", "subscription_manager", "gateway"],
}


# Ports are taken below those that the system gives to outgoing connections, in blocks, each locked
# until this process ends: servers of tests that run side by side never meet, nor does a client's
# connection sit on the port of a server that is being started again.
PORTS_FIRST, PORTS_END, PORTS_BLOCK = 12000, 32000, 64
_blocks = []  # (descriptor of the lock, next port, end)


def _take_block():
    folder = Path(tempfile.gettempdir()) / f"tidewire-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    firsts = list(range(PORTS_FIRST, PORTS_END, PORTS_BLOCK))
    random.SystemRandom().shuffle(firsts)
    for first in firsts:
        lock = os.open(folder / str(first), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        _blocks.append([lock, first, first + PORTS_BLOCK])
        return
    raise AssertionError("no block of ports is free")


def free_port_run(count):
    """The first of `count` neighbouring ports that are this process's and that nobody uses."""
    assert count <= PORTS_BLOCK
    while True:
        if not _blocks or _blocks[-1][1] + count > _blocks[-1][2]:
            _take_block()
        first = _blocks[-1][1]
        _blocks[-1][1] += count
        if all(_is_free(first + i) for i in range(count)):
            return first


def _is_free(port):
    with socket.socket() as each:
        try:
            each.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(condition, seconds, what):
    """Polls a condition of the program's outside until it holds; its result is returned."""
    seconds = max(seconds, PATIENCE_S)
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Server:
    def __init__(
        self, layout="one", flags=(), env=None, directory=None, wrapper=(), more_actors=()
    ):
        """wrapper: words before the command, of a program that runs it in its place.
        more_actors: with processes of their own, in another layout than `one`."""
        self.layout = layout
        self.flags = list(flags)
        self.on_mongo = "--mongo" in self.flags
        named = "--mongo-database" in self.flags
        self.database = self.flags[self.flags.index("--mongo-database") + 1] if named else "main"
        self.wrapper = list(wrapper)
        self.env = dict(os.environ, **(env or {}))
        self.own_directory = directory is None
        self.directory = Path(directory or tempfile.mkdtemp(prefix="tidewire-"))
        self.secure = "s" if "--tls-cert" in self.flags else ""  # TLS on the public listener
        self.port = free_port_run(2)
        self.admin_port = self.port + 1
        self.base = {
            "one": "",
            "ipc": f"ipc://{self.directory}/actors",
            "tcp": f"tcp://127.0.0.1:{free_port_run(56) if layout == 'tcp' else 0}",
        }[layout]
        if layout == "ipc":
            (self.directory / "actors").mkdir(exist_ok=True)
        self.actors = PROCESSES[layout] + (
            ["change_tailer"] if layout != "one" and self.on_mongo else []
        )
        self.actors = self.actors + list(more_actors)
        self.processes = {}
        self.log = open(self.directory / "server.log", "ab")

    def command(self, actor):
        # fmt: off
        command = self.wrapper + ([BINARY, "serve"] if actor is None else [BINARY, "actor", actor])
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}",
                    "--data", str(self.directory / "data")]
        # fmt: on
        if self.base:
            command += ["--actors", self.base]
        return command + self.flags

    def start(self, ready=True):
        for actor in self.actors:
            if actor not in self.processes:
                self.processes[actor] = subprocess.Popen(
                    self.command(actor),
                    stdin=subprocess.DEVNULL,
                    stdout=self.log,
                    stderr=self.log,
                    env=self.env,
                )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self):
        def answers():
            for actor, process in self.processes.items():
                if process.poll() is not None:
                    raise AssertionError(
                        f"{actor or 'serve'} ended with {process.returncode}:\n{self.tail()}"
                    )
            try:
                return self.http("/readyz", timeout=2)[0] == 200
            except OSError:
                return False

        wait_until(answers, READY_S, f"readiness\n{self.tail()}")

    def http_ready(self):
        """Whether it says that it is ready; False while it does not answer, too."""
        try:
            return self.http("/readyz", timeout=2)[0] == 200
        except OSError:
            return False

    def tail(self, lines=40):
        text = (self.directory / "server.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def kill(self, actor="all"):
        """SIGKILL; the next start opens the same data on the same ports."""
        for name in list(self.processes) if actor == "all" else [actor]:
            process = self.processes.pop(name)
            process.kill()
            process.wait()

    def wait_end(self, seconds=READY_S):
        """Waits until a process ended by itself (a fault point) and gives the others' end too."""
        wait_until(
            lambda: any(p.poll() is not None for p in self.processes.values()), seconds, "an end"
        )
        self.kill()

    def stop(self):
        """SIGTERM, and every process must end with 0."""
        codes = {}
        for name, process in reversed(list(self.processes.items())):
            process.send_signal(signal.SIGTERM)
            try:
                codes[name] = process.wait(timeout=READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = f"no answer to SIGTERM\n{self.tail()}"
        self.processes.clear()
        bad = {name: code for name, code in codes.items() if code != 0}
        assert not bad, f"{bad}\n{self.tail()}"

    def close(self):
        try:
            if self.processes:
                self.stop()
        finally:
            self.log.close()
            if self.own_directory:
                shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def url(self, path="/ws"):
        return f"ws{self.secure}://127.0.0.1:{self.port}{path}"

    def http(self, path, method="GET", body=None, admin=False, headers=None, timeout=PATIENCE_S):
        """(status, body as text) of an HTTP request; errors of HTTP are results too."""
        secure, port = ("", self.admin_port) if admin else (self.secure, self.port)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http{secure}://127.0.0.1:{port}{path}",
            data=data,
            method=method,
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def metric(self, name):
        """Sum of a metric over its labels."""
        text = self.http("/metrics", admin=True)[1]
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for value in found)

    def run(self, *words, check=True, **more):
        """Runs a verb of the command line against this server."""
        done = subprocess.run(
            [BINARY, *words, "--url", self.url("")],
            capture_output=True,
            text=True,
            timeout=more.pop("timeout", RUN_S),
            stdin=subprocess.DEVNULL,
            **more,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done
