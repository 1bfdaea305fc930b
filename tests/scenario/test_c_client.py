"""libtidewire as it is installed: plain gcc and g++ by pkg-config, its examples, and kills."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from server import PATIENCE_S, ROOT, free_port_run, wait_until
from services import Service

EXAMPLES = ROOT / "clients" / "c" / "examples"
PKG_CONFIG_PATH = str(ROOT / "zig-out" / "lib" / "pkgconfig")
LIBRARY_PATH = str(ROOT / "zig-out" / "lib")
RECORDS = int(os.environ.get("TIDEWIRE_RECORDS", "20000"))  # 100000 for the full measure


def pkg_config(*words):
    env = dict(os.environ, PKG_CONFIG_PATH=PKG_CONFIG_PATH)
    done = subprocess.run(
        ["pkg-config", *words, "tidewire"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def compile_with(compiler, source, out, *more, static=False):
    flags = pkg_config("--cflags", "--libs", *(["--static"] if static else []))
    if static:  # the library of that name that is no shared one
        flags = [
            f"{LIBRARY_PATH}/libtidewire.a" if word == "-ltidewire" else word for word in flags
        ]
    command = [compiler, "-Wall", "-Wextra", "-Werror", *more, str(source), "-o", str(out), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(out)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    return {
        "publish": compile_with("gcc", EXAMPLES / "publish.c", folder / "publish"),
        "follow": compile_with("gcc", EXAMPLES / "follow.c", folder / "follow", static=True),
    }


@pytest.fixture
def url(tmp_path):
    return f"ipc://{tmp_path}/service"


@pytest.fixture
def service_server(make_server, url):
    return make_server(flags=["--service", url]).start()


def start(*command, **options):  # its pipes are text
    env = dict(os.environ, LD_LIBRARY_PATH=LIBRARY_PATH)
    return subprocess.Popen(command, env=env, text=True, stderr=subprocess.PIPE, **options)


def run(*command, text=None, seconds=PATIENCE_S):
    env = dict(os.environ, LD_LIBRARY_PATH=LIBRARY_PATH)
    return subprocess.run(
        command, env=env, input=text, capture_output=True, text=True, timeout=seconds
    )


def test_the_header_compiles_alone_as_c99_and_as_cpp(tmp_path):
    source = (
        '#include <tidewire.h>\nint main(void) { return tidewire_json("{}").len == 2 ? 0 : 1; }\n'
    )
    for compiler, name, standard in (
        ("gcc", "header.c", "-std=c99"),
        ("gcc", "header.c", "-std=c17"),
        ("g++", "header.cpp", "-std=c++11"),
    ):
        (tmp_path / name).write_text(source)
        out = compile_with(compiler, tmp_path / name, tmp_path / "header", standard, "-pedantic")
        assert run(out).returncode == 0


def test_only_the_public_names_are_seen():
    for words, file in (("-D", "libtidewire.so"), ("-g", "libtidewire.a")):
        done = subprocess.run(
            ["nm", words, "--defined-only", f"{LIBRARY_PATH}/{file}"],
            capture_output=True,
            text=True,
        )
        names = re.findall(r"^[0-9a-f]+ [A-Z] (\w+)$", done.stdout, re.MULTILINE)
        assert "tidewire_open" in names
        assert [name for name in names if not name.startswith("tidewire_")] == []


def test_the_examples_publish_and_follow(service_server, url, programs, tmp_path):
    done = run(programs["publish"], url, "c", "1000")
    assert (done.returncode, done.stdout) == (0, "1000 acknowledged\n"), done.stderr
    done = run(programs["publish"], url, "c", text='{"_id":"x","n":{"$numberLong":"5"}}\n')
    assert done.stdout == "1 acknowledged\n", done.stderr
    position = str(tmp_path / "position")
    first = run(programs["follow"], url, "c", position, "1000")
    lines = first.stdout.splitlines()
    assert len(lines) == 1000 and re.match(r'\d+ put 0 \{"_id":0,"n":0,"text":"record 0"', lines[0])
    last = run(programs["follow"], url, "c", position, "1").stdout
    assert re.match(r'\d+ put "x" \{"_id":"x","n":5', last)


def test_errors_are_told_in_words(service_server, url, programs, tmp_path):
    done = run(programs["publish"], "nonsense", "c", "1")
    assert done.returncode == 1 and "ipc:///PATH" in done.stderr
    begun = time.monotonic()
    done = run(programs["publish"], f"tcp://127.0.0.1:{free_port_run(2)}", "c", "1", "300")
    assert done.returncode == 1 and "nobody listens there" in done.stderr
    assert time.monotonic() - begun < PATIENCE_S
    done = run(programs["publish"], url, "c", text='{"_id":1}\n{"_id":\n')
    assert done.returncode == 1 and "bad_message" in done.stderr and "doc" in done.stderr
    done = run(programs["publish"], url, "$c", "1")
    assert done.returncode == 1 and "$c" in done.stderr
    with Service(url) as service:
        srv_id = service.one("replay", collection="c")["srv_id"]
    (tmp_path / "position").write_text(f"{srv_id} 999999\n")
    done = run(programs["follow"], url, "c", str(tmp_path / "position"), "1")
    assert done.returncode == 1 and "ahead" in done.stderr and "0" in done.stderr


def test_a_replaced_log_is_told_and_not_read_from_a_position_of_before(
    service_server, url, programs, tmp_path
):
    position = str(tmp_path / "position")
    assert run(programs["publish"], url, "c", "10").returncode == 0
    assert len(run(programs["follow"], url, "c", position, "10").stdout.splitlines()) == 10
    live = start(programs["follow"], url, "c", "", "10000", stdout=subprocess.PIPE)
    for _ in range(10):  # it is there, and knows the log
        assert " put " in live.stdout.readline()
    service_server.kill()
    shutil.rmtree(service_server.directory / "data")
    service_server.start()
    assert run(programs["publish"], url, "c", "500").returncode == 0
    done = run(programs["follow"], url, "c", position, "1")
    assert (done.returncode, done.stdout) == (1, "") and "reset" in done.stderr, done
    _, said = live.communicate(timeout=PATIENCE_S)  # one that was open hears of it too
    assert live.returncode == 1 and "reset" in said and "forget" in said, said
    os.remove(position)
    assert len(run(programs["follow"], url, "c", position, "500").stdout.splitlines()) == 500


def test_a_server_that_stands_still_is_told_by_the_deadline(service_server, url, programs):
    (process,) = service_server.processes.values()
    process.send_signal(signal.SIGSTOP)
    try:
        done = run(programs["publish"], url, "c", "1", "300")
        assert done.returncode == 1 and "timeout" in done.stderr
    finally:
        process.send_signal(signal.SIGCONT)


CLOSE_FEEDS = """
#include <stdio.h>
#include <tidewire.h>
#include <time.h>

int main(int argc, char **argv) /* closes 100 feeds that hear something; the longest close in s */
{
    long longest_s = 0;
    for (int i = 0; argc == 2 && i < 100; i++) {
        tidewire_feed *feed;
        tidewire_error error;
        tidewire_row row;
        struct timespec begun, ended;
        tidewire_feed_options options = {.after = TIDEWIRE_NOW, .deadline_ms = 60000};
        if (tidewire_feed_open(&feed, argv[1], "c", &options, &error) != TIDEWIRE_OK ||
            tidewire_feed_next(feed, 60000, &row, &error) != TIDEWIRE_OK) {
            fprintf(stderr, "feed %d: %s: %s\\n", i, error.code, error.message);
            return 1;
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &begun);
        tidewire_feed_close(&feed);
        (void)clock_gettime(CLOCK_MONOTONIC, &ended);
        long took_s = ended.tv_sec - begun.tv_sec;
        longest_s = took_s > longest_s ? took_s : longest_s;
    }
    printf("%ld\\n", longest_s);
    return 0;
}
"""


def test_feeds_close_while_messages_arrive(service_server, url, programs, tmp_path):
    """nng 1.5.2 hangs in some of these closes: each ends in time, and so does the process."""
    (tmp_path / "close.c").write_text(CLOSE_FEEDS)
    close_feeds = compile_with("gcc", tmp_path / "close.c", tmp_path / "close")
    publishers = [start(programs["publish"], url, "c", stdin=subprocess.PIPE) for _ in range(2)]
    ended = threading.Event()

    def publish(publisher, n=0):
        try:
            while not ended.is_set():
                publisher.stdin.write(f'{{"_id":{n % 1000},"n":{n}}}\n')
                n += 1
        except BrokenPipeError:
            pass

    threads = [threading.Thread(target=publish, args=(each,)) for each in publishers]
    try:
        for thread in threads:
            thread.start()
        done = run(close_feeds, url, seconds=150)
        assert done.returncode == 0, done.stderr
        print(f"the longest close: {int(done.stdout)} s")
        assert int(done.stdout) < 30, "6 s at most, on a machine that has time"
        assert all(publisher.poll() is None for publisher in publishers), "messages came all along"
    finally:
        ended.set()
        for publisher in publishers:
            publisher.kill()
        for publisher, thread in zip(publishers, threads):
            thread.join(60)
            publisher.communicate()


class Feeder(threading.Thread):
    """Writes records to a publisher as fast as it takes them; `fed` of them are written. The last
    quarter waits for leave, so that a kill before it comes while records are on their way."""

    def __init__(self, publisher):
        super().__init__(daemon=True)
        self.publisher, self.fed = publisher, 0
        self.may_end = threading.Event()
        self.start()

    def run(self):
        with self.publisher.stdin as pipe:
            for self.fed in range(RECORDS):
                if self.fed == RECORDS * 3 // 4:
                    pipe.flush()
                    self.may_end.wait()
                pipe.write(f'{{"_id":{self.fed},"text":"record {self.fed}"}}\n')
        self.fed = RECORDS


def test_kills_lose_and_repeat_nothing(service_server, url, programs):
    """Two kills while a C service publishes and another follows."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    follower = start(programs["follow"], url, "c", "", str(RECORDS), stdout=subprocess.PIPE)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(follower.stdout), daemon=True)
    reader.start()
    begun = time.monotonic()
    publisher = start(programs["publish"], url, "c", **pipes)
    feeder = Feeder(publisher)
    for part in (RECORDS // 4, RECORDS // 2):

        def is_fed(part=part):
            assert publisher.poll() is None, publisher.stderr.read()
            return feeder.fed >= part

        wait_until(is_fed, 60, f"{part} records")
        service_server.kill()
        service_server.start()
    feeder.may_end.set()
    feeder.join(PATIENCE_S)
    out, err = publisher.stdout.read(), publisher.stderr.read()
    assert (publisher.wait(PATIENCE_S), out) == (0, f"{RECORDS} acknowledged\n"), err
    took = time.monotonic() - begun
    reader.join(PATIENCE_S)
    assert follower.wait(PATIENCE_S) == 0, follower.stderr.read()
    with Service(url) as service:
        count = service.until_ok(20, "count", collection="c")["count"]
        changed = service.one("count", collection="c", query={"_version": {"$ne": 1}})["count"]
    assert (count, changed) == (RECORDS, 0)
    rows = [line.split(" ", 3) for line in lines]
    assert sorted(int(row[2]) for row in rows) == list(range(RECORDS))
    positions = [int(row[0]) for row in rows]
    assert positions == sorted(set(positions))
    print(f"{RECORDS} records over two kills: {RECORDS / took:,.0f}/s")
