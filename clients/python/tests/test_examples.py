"""The recipes, run as programs beside a real server, seen by a browser's kind of watcher."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import clients as websockets_clients  # tests/support: a websocket client of its own
import pytest
from server import PATIENCE_S, ROOT, wait_until

from tidewire import Client

EXAMPLES = ROOT / "clients" / "python" / "examples"


@contextlib.contextmanager
def program(name, *words):
    """An example that runs; it must end by SIGTERM, with 0, here or before."""
    env = dict(os.environ, PYTHONPATH=str(ROOT / "clients" / "python"))
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *map(str, words)],
        env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
        process.send_signal(signal.SIGTERM)  # to one that has ended it does nothing
        out = process.communicate(timeout=PATIENCE_S)[0]
        assert process.returncode == 0, out
    finally:
        process.kill()
        process.wait()


def watch(server, collection, work):
    """Runs work(until) with a subscriber: until(condition) gives the frames up to the one that
    fulfils it. The blocking parts of `work` run in a thread."""

    async def scenario():
        async with await websockets_clients.Client.open(server.url()) as ws:
            await ws.send(type="subscribe", mux_id=1, collections={collection: "*"})
            await ws.until_sync()
            loop = asyncio.get_running_loop()

            def until(condition):
                return asyncio.run_coroutine_threadsafe(
                    ws.until(lambda frame: frame["type"] in ("record", "remove", "dispatch")
                             and condition(frame), 30), loop
                ).result(40)  # fmt: skip

            await asyncio.to_thread(work, until)

    websockets_clients.run(scenario())


def is_put(key, **fields):
    def condition(frame):
        doc = frame.get("doc", {})
        return frame.get("key") == key and all(doc.get(name) == fields[name] for name in fields)

    return condition


def test_files_of_a_directory_are_a_collection(server, client, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "old.txt").write_text("old")

    def work(until):
        with program("files.py", folder, "--url", client.url, "--interval", 60):
            until(is_put("old.txt", size=3, name="old.txt"))
            (folder / "new.txt").write_text("12345")
            until(is_put("new.txt", size=5))
            (folder / "deep").mkdir()
            (folder / "deep" / "er").mkdir()
            (folder / "deep" / "er" / "in.txt").write_text("1")
            until(is_put("deep/er/in.txt", size=1, folder="deep/er"))
            with open(folder / "new.txt", "a") as file:
                file.write("67")
            until(is_put("new.txt", size=7))
            os.rename(folder / "new.txt", folder / "moved.txt")
            frames = until(lambda frame: frame["type"] == "remove" and frame["key"] == "new.txt")
            assert any(is_put("moved.txt", size=7)(frame) for frame in frames)
            (folder / "old.txt").unlink()
            until(lambda frame: frame["type"] == "remove" and frame["key"] == "old.txt")
        # while it is away
        (folder / "moved.txt").unlink()
        (folder / "later.txt").write_text("x")
        before = client.get("files", "deep/er/in.txt")["_version"]
        with program("files.py", folder, "--url", client.url, "--interval", 60):
            frames = until(lambda frame: frame["type"] == "remove" and frame["key"] == "moved.txt")
            assert any(is_put("later.txt", size=1)(frame) for frame in frames)
            wait_until(lambda: client.count("files") == 2, 10, "both to be seen")
        assert client.get("files", "deep/er/in.txt")["_version"] == before, "it had not changed"

    watch(server, "files", work)


def test_files_that_change_while_the_server_is_away_are_told_later(server, client, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    with program("files.py", folder, "--url", client.url, "--interval", 0.1):
        (folder / "a").write_text("1")
        wait_until(lambda: client.count("files") == 1, 20, "the first file")
        server.kill()
        (folder / "b").write_text("2")
        server.start()
        wait_until(lambda: client.count("files") == 2, 30, "the second file")


def test_jobs_tell_their_progress(server, client):
    def work(until):
        with program("jobs.py", "--url", client.url, "--slots", 2):
            client.put(
                "jobs", {"_id": "j1", "task": "count", "args": {"to": 100}, "state": "waiting"}
            )
            frames = until(is_put("j1", state="complete"))
            docs = [frame["doc"] for frame in frames if frame.get("key") == "j1"]
            assert [doc["state"] for doc in docs] == ["waiting", "running", "complete"]
            assert docs[-1]["progress"] == 1 and docs[-1]["result"] == {"counted": 100}
            told = [frame["message"] for frame in frames if frame["type"] == "dispatch"]
            progress = [message["progress"] for message in told]
            assert {message["job"] for message in told} == {"j1"}
            assert progress and progress == sorted(progress) and progress[-1] < 1

            client.put("jobs", {"_id": "j2", "task": "fly", "state": "waiting"})
            frames = until(is_put("j2", state="error"))
            assert "fly" in frames[-1]["doc"]["error"]

            args = {"to": 10**6}
            client.put("jobs", {"_id": "j3", "task": "count", "args": args, "state": "waiting"})
            until(lambda frame: frame.get("message", {}).get("job") == "j3")
            client.update("jobs", "j3", {"state": "cancelled"})
            until(is_put("j3", state="cancelled"))
            # the worker is free again, and has let the cancelled one be
            client.put(
                "jobs", {"_id": "j4", "task": "count", "args": {"to": 2}, "state": "waiting"}
            )
            until(is_put("j4", state="complete"))
            assert client.get("jobs", "j3")["state"] == "cancelled"

    watch(server, "jobs", work)


def test_a_job_is_taken_by_one_worker_and_outlives_it(server, client):
    args = {"to": 10**6}
    with program("jobs.py", "--url", client.url) as first:
        client.put("jobs", {"_id": 1, "task": "count", "args": args, "state": "waiting"})
        wait_until(lambda: client.get("jobs", 1)["state"] == "running", 20, "a worker")
        name = client.get("jobs", 1)["worker"]
        with program("jobs.py", "--url", client.url):
            before = client.get("jobs", 1)["alive"]
            wait_until(lambda: client.get("jobs", 1)["alive"] > before, 20, "a sign of life")
            assert client.get("jobs", 1)["worker"] == name
            server.kill()
            server.start()
            first.send_signal(signal.SIGTERM)  # it gives the job back
            wait_until(lambda: client.get("jobs", 1)["worker"] != name, 20, "the other worker")
            assert first.wait(20) == 0
        assert client.get("jobs", 1)["state"] == "waiting"


def test_wrong_words_are_told(tmp_path, backend):
    env = dict(os.environ, PYTHONPATH=str(ROOT / "clients" / "python"))
    for words, said in (
        (["files.py", str(tmp_path / "none"), "--url", "ipc:///x"], "no directory"),
        (["files.py", str(tmp_path), "--url", "nonsense"], "no address"),
        (["jobs.py", "--url", "tcp://127.0.0.1:0"], "no port"),
    ):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / words[0]), *words[1:]],
            env=env, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode != 0 and said in done.stderr
