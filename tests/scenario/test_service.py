"""The service socket: other programs over nng, in msgpack; the feed of what was committed."""

import os
import random
import shutil
import socket
import stat
import threading

import pynng
import pytest

from clients import Client, log_reaches, run
from server import PATIENCE_S, free_port_run, wait_until
from services import Feed, Service


@pytest.fixture(params=["ipc", "tcp"])
def url(request, tmp_path):
    if request.param == "ipc":
        return f"ipc://{tmp_path}/service"
    return f"tcp://127.0.0.1:{free_port_run(2)}"


@pytest.fixture
def service_server(make_server, url):
    return make_server(flags=["--service", url]).start()


@pytest.fixture
def service(service_server, url):
    with Service(url) as one:
        yield one


def ops_of(keys, **fields):
    return [{"op": "put", "doc": {"_id": key, **fields}} for key in keys]


# ---- requests ----
@pytest.mark.sanitize
def test_put_get_find_and_remove(service):
    put = service.one("put", collection="c", doc={"_id": 7, "name": "Ada", "tags": ["a", None]})
    assert put["key"] == 7 and put["version"] == 1 and len(put["since"]) == 1
    service.one("insert", collection="c", doc={"_id": "x", "raw": b"\x00\xff", "big": 2**60})
    got = service.one("getByIds", collection="c", ids=[7, "x", "none"])
    docs = {doc["_id"]: doc for doc in got["docs"]}
    assert docs[7]["tags"] == ["a", None] and docs[7]["_version"] == 1
    assert docs["x"]["raw"] == b"\x00\xff" and docs["x"]["big"] == 2**60
    assert got["count"] == 2 and got["missing"] == ["none"]
    service.one("update", collection="c", id=7, operations=[["INC", "n", 3]])
    found = service.one("find", collection="c", query={"n": {"$gte": 3}})
    assert [doc["name"] for doc in found["docs"]] == ["Ada"] and found["count"] == 1
    assert service.one("find", collection="c", query={"n": 9})["docs"] == []
    service.one("remove", collection="c", id=7)
    assert service.refused("getByIds", collection="c", ids=[7])["code"] == "not_found"
    assert service.one("count", collection="c")["count"] == 1


def test_the_same_request_id_comes_back(service):
    for req_id in ("abc", 17, True):
        assert service.one("count", collection="c", reqID=req_id)["reqID"] == req_id
    assert service.one("replay", collection="c", reqID="r")["reqID"] == "r"
    assert service.refused("count", collection="$c", reqID=5)["reqID"] == 5


def test_conflicts_name_the_version_that_stands(service):
    service.one("put", collection="c", doc={"_id": 1})
    service.one("put", collection="c", doc={"_id": 1, "n": 2}, if_version=1)
    stale = service.refused("put", collection="c", doc={"_id": 1, "n": 3}, if_version=1)
    assert stale["code"] == "conflict" and stale["version"] == 2
    taken = service.refused("insert", collection="c", doc={"_id": 1})
    assert taken["code"] == "conflict"


def test_a_batch_is_on_disk_when_it_is_acknowledged(service_server, service):
    keys = range(4096)
    done = service.one("batch", collection="c", ops=ops_of(keys, text="x" * 100))
    assert done["count"] == 4096 and "failed" not in done
    assert [result["key"] for result in done["results"]] == list(keys)
    assert all(result["version"] == 1 for result in done["results"])
    service_server.kill()
    service_server.start()
    assert service.until_ok(20, "count", collection="c")["count"] == 4096
    more = service.refused("batch", collection="c", ops=ops_of(range(4097)))
    assert more["code"] == "too_many"


def test_operations_of_a_batch_fail_alone_and_of_an_atomic_one_together(service):
    ops = [
        {"op": "insert", "doc": {"_id": 1}},
        {"op": "insert", "doc": {"_id": 1}},
        {"op": "update", "id": "none", "fields": {"a": 1}},
        {"op": "remove", "id": 1, "if_version": 1},
        {"op": "insert", "doc": {"_id": 2}, "collection": "d"},
    ]
    done = service.one("batch", collection="c", ops=ops)
    assert done["count"] == 3 and done["failed"] == 2
    assert [result.get("code") for result in done["results"]] == [
        None,
        "conflict",
        "not_found",
        None,
        None,
    ]
    assert service.one("count", collection="d")["count"] == 1
    together = [*ops_of(range(10, 20)), {"op": "insert", "doc": {"_id": 2}, "collection": "d"}]
    refused = service.refused("batch", collection="c", ops=together, atomic=True)
    assert refused["code"] == "conflict" and "ops[10]" in refused["message"]
    assert service.one("count", collection="c")["count"] == 0
    service.one("batch", collection="c", ops=together[:-1], atomic=True)
    assert service.one("count", collection="c")["count"] == 10


def test_a_repeated_operation_id_gives_the_first_result(service_server, service):
    def results():
        once = service.until_ok(20, "put", collection="c", doc={"_id": 1, "n": 1}, opid="one")
        many = service.until_ok(20, "batch", collection="c", ops=ops_of([2, 3], n=1), opid="two")
        return (
            once["version"],
            once["since"],
            many["since"],
            [result["version"] for result in many["results"]],
        )

    first = results()
    service.one("put", collection="c", doc={"_id": 1, "n": 2})
    assert results() == first
    service_server.kill()
    service_server.start()
    again = results()
    # A fence may be a later one: it is passed by what has passed the first.
    assert (again[0], again[3]) == (first[0], first[3])
    assert again[1] >= first[1] and again[2] >= first[2]
    if service_server.database == "main":
        assert again == first
    docs = service.one("getByIds", collection="c", ids=[1, 2, 3])["docs"]
    assert [(doc["n"], doc["_version"]) for doc in docs] == [(2, 2), (1, 1), (1, 1)]


GARBAGE = {
    "empty": b"",
    "text": b"hello",
    "nil": b"\xc0",
    "array": b"\x93\x01\x02\x03",
    "reserved": b"\xc1",
    "cut": b"\x82\xa2op\xa3put",
    "more behind": b"\x80\x80",
    "no fields": b"\x80",
    "five bytes for 8 GB": b"\xdd\xff\xff\xff\xff",
    "map of 2^32": b"\xdf\xff\xff\xff\xff",
    "deep": b"\x91" * 10000,
    "deep in a document": b"\x81\xa1a" * 5000 + b"\xc0",
    "bad UTF-8": b"\x81\xa2op\xa2\xff\xfe",
    "key twice": b"\x82\xa2op\xa3put\xa2op\xa3put",
    "key of a number": b"\x81\x01\x02",
}


@pytest.mark.sanitize
def test_garbage_is_answered_and_does_no_harm(service):
    for name, data in GARBAGE.items():
        answer = service.raw(data)
        assert answer["ok"] is False and answer["code"] and answer["message"], (name, answer)
    chance = random.Random(4)
    for _ in range(500):
        answer = service.raw(chance.randbytes(chance.randrange(1, 200)))
        assert answer["ok"] is False, answer
    requests = [
        ({"op": "unheard"}, "unknown"),
        ({"op": 7}, None),
        ({"op": "put", "collection": "c"}, "bad_message"),
        ({"op": "put", "collection": "c", "doc": {}, "more": 1}, "bad_message"),
        ({"op": "batch", "collection": "c", "ops": [{"op": "jump"}]}, "bad_message"),
        ({"op": "batch", "collection": "c", "ops": []}, None),
        ({"op": "find", "collection": "c", "query": {"$where": "1"}}, "bad_filter"),
        ({"op": "replay"}, "bad_message"),
        ({"op": "replay", "collection": "c", "after": -1}, "bad_message"),
        ({"op": "replay", "collection": "c", "after": 2**53}, "bad_message"),
        ({"op": "replay", "collection": "c", "limit": 0}, "bad_message"),
        ({"op": "replay", "collection": "c", "after": 99}, "ahead"),
        ({"op": "replay", "collection": "c", "after": 0, "srv_id": -1}, "bad_message"),
        ({"op": "replay", "collection": "c", "after": 0, "srv_id": 1}, "reset"),
    ]
    for fields, code in requests:
        answer = service.refused(**fields)
        assert code is None or answer["code"] == code, (fields, answer)
    assert service.one("count", collection="c")["count"] == 0


def test_a_replay_ahead_of_the_log_waits_for_a_log_that_follows(service, service_server, url):
    """On MongoDB the log is behind what its writers know; the embedded store is the log."""
    service.one("put", collection="c", doc={"_id": 0})
    wait_until(lambda: service.one("replay", collection="c", after=0)["rows"], 20, "the row")
    head = service.one("replay", collection="c")["head"]
    with Service(url, 30) as asker:
        if not service_server.on_mongo:
            assert asker.refused("replay", collection="c", after=head + 1)["code"] == "ahead"
            return
        for i in range(1, 6):
            asker.send("replay", collection="c", after=head + i)
            service.one("put", collection="c", doc={"_id": i})
            answer = asker.received()
            assert answer["ok"] is True and answer["head"] >= head + i, answer
        assert asker.refused("replay", collection="c", after=head + 99)["code"] == "ahead"


def test_a_message_above_the_limit_ends_that_connection_alone(service, url):
    with Service(url, 1) as big:
        with pytest.raises(pynng.exceptions.Timeout):
            big.ask("put", collection="c", doc={"_id": 1, "text": "x" * 1100000})
    assert service.one("count", collection="c")["count"] == 0
    service.one("put", collection="c", doc={"_id": 1, "text": "x" * 1000000})


def test_peers_that_do_not_speak_nng_are_ended(service, url):
    service.one("count", collection="c")  # the server is ready before the service listens
    for data in (
        b"",
        b"\0SP\0\0\x99\0\0",
        b"\0SP\0\0\x30\0\0" + b"\xff" * 8,
        b"GET / HTTP/1.1\r\n",
    ):
        if url.startswith("tcp"):
            raw = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        else:
            raw = socket.socket(socket.AF_UNIX)
            raw.connect(url.removeprefix("ipc://"))
        raw.sendall(data)
        raw.close()
        assert service.one("count", collection="c")["count"] == 0
    with Service(url) as later:
        later.one("count", collection="c")


def test_a_local_socket_is_for_its_user_alone(make_server, tmp_path):
    make_server(flags=["--service", f"ipc://{tmp_path}/service"]).start()

    def is_private(path):  # the server is ready before they are there
        return path.exists() and stat.S_IMODE(path.stat().st_mode) == 0o600

    for name in ("service", "service.feed"):
        wait_until(lambda path=tmp_path / name: is_private(path), PATIENCE_S, f"{name} of 0600")


@pytest.mark.slow
def test_an_answer_holds_ten_thousand_documents(service):
    for first in range(0, 12000, 4000):
        service.one("batch", collection="c", ops=ops_of(range(first, first + 4000), t="y" * 50))
    found = service.one("find", collection="c", query={})
    assert found["count"] == len(found["docs"]) == 10000 and found["more"] is True


def test_many_services_at_once(service_server, url):
    failures = []

    def work(number):
        try:
            with Service(url) as one:
                for i in range(50):
                    one.one("put", collection="c", doc={"_id": f"{number}-{i}", "n": number})
                    answer = one.one("getByIds", collection="c", ids=[f"{number}-{i}"])
                    assert answer["docs"][0]["n"] == number
        except Exception as failure:
            failures.append(failure)
            raise

    workers = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures
    with Service(url) as one:
        assert one.one("count", collection="c")["count"] == 800


# ---- the feed ----
@pytest.mark.sanitize
def test_the_feed_tells_in_numbered_batches_what_was_committed(service, url):
    service.one("put", collection="c", doc={"_id": "before"})
    with Feed(url, "c") as feed:
        before = feed.until(lambda rows: len(rows) >= 1, 10)
        assert [(row["op"], row["key"], row["version"]) for row in before] == [("put", "before", 1)]
        feed.until(lambda _: not feed.behind, 10)
        service.one("put", collection="other", doc={"_id": 1})
        done = service.one("put", collection="c", doc={"_id": 1, "n": 1})
        service.one("batch", collection="c", ops=ops_of([2, 3]), atomic=True)
        service.one("remove", collection="c", id=1)
        rows = feed.until(lambda rows: len(rows) >= 4, 10)
        assert [(row["op"], row["key"]) for row in rows] == [
            ("put", 1),
            ("put", 2),
            ("put", 3),
            ("remove", 1),
        ]
        assert [[rows[0]["srv_id"], rows[0]["seqno"]]] == done["since"]
        assert rows[0]["doc"]["n"] == 1 and "doc" not in rows[3]
        assert [row.get("last") for row in rows] == [None, False, True, None]
        assert feed.batches == sorted(set(feed.batches))
    # one that comes later reads all of it, the squashed left out, and needs no message for it
    with Feed(url, "c") as late:
        keys = [row["key"] for row in late.until(lambda rows: len(rows) >= 4, 10)]
        assert set(keys) == {"before", 1, 2, 3}


def test_a_follower_that_hears_nothing_reads_what_it_missed(service, url):
    with Feed(url, "c") as feed:
        feed.until(lambda _: not feed.behind, 10)
        service.one("put", collection="c", doc={"_id": 0})
        feed.until(lambda rows: len(rows) >= 1, 10)
        replays = feed.replays
        # It does not read meanwhile: the messages are more than all queues between hold.
        for number in range(400):
            service.one("batch", collection="c", ops=ops_of([number + 1], text="z" * 8000))
        rows = feed.until(lambda rows: len(rows) >= 400, 30)
        assert [row["key"] for row in rows] == list(range(1, 401))
        assert feed.replays > replays, "messages were lost, and the log was read instead"


def test_pages_of_a_replay_have_a_bound(service_server, service, url):
    done = service.one("batch", collection="c", ops=ops_of(range(1000)))
    run(log_reaches(service_server.url(), done["since"]))
    page = service.one("replay", collection="c", after=0, limit=10)
    assert [row["key"] for row in page["rows"]] == list(range(10))
    assert page["upto"] == page["rows"][-1]["n"] < page["head"]
    assert page["topic"] == f"{service_server.database}.c"
    now = service.one("replay", collection="c")
    assert now["rows"] == [] and now["upto"] == now["head"] == page["head"]
    for number in range(40):  # documents that are more than one answer is to hold
        service.one("put", collection="big", doc={"_id": number, "text": "x" * 100000})
    with Feed(url, "big") as feed:
        rows = feed.until(lambda rows: len(rows) >= 40, 20)
        assert [row["key"] for row in rows] == list(range(40)) and feed.replays > 2


def keep(held, docs):
    """Does what a sync says to {collection: {key: version}}."""
    for verdict in docs:
        of = held[verdict["collection"]]
        if verdict["op"] == "remove":
            del of[verdict["key"]]
        else:
            assert (verdict["op"] == "update") == (verdict["key"] in of)
            assert verdict["doc"]["_version"] == verdict["version"]
            of[verdict["key"]] = verdict["version"]


def test_a_service_syncs_and_its_feed_goes_on_from_there(service_server, service, url):
    for key in "abcd":
        done = service.one("put", collection="c", doc={"_id": key, "n": 1})
    done = service.one("put", collection="c", doc={"_id": "b", "n": 2})
    run(log_reaches(service_server.url(), done["since"]))
    held = {"c": {"a": 1, "b": 1, "gone": 7}, "other": {"x": 1}}
    answer = service.one("sync", manifests=held, reqID="s")
    assert answer["reqID"] == "s" and "more" not in answer
    assert {(v["op"], v["key"]) for v in answer["docs"]} == {
        ("update", "b"), ("insert", "c"), ("insert", "d"), ("remove", "gone"), ("remove", "x"),
    }  # fmt: skip
    assert [answer[k] for k in ("inserted", "updated", "removed", "same")] == [2, 1, 2, 1]
    keep(held, answer["docs"])
    assert held == {"c": {"a": 1, "b": 2, "c": 1, "d": 1}, "other": {}}
    again = service.one("sync", manifests=held)
    assert again["docs"] == [] and again["same"] == 4
    with Feed(url, "c", after=answer["after"]) as feed:
        assert service.one("replay", collection="c")["srv_id"] == answer["srv_id"]
        service.one("put", collection="c", doc={"_id": "e"})
        assert [row["key"] for row in feed.until(lambda rows: len(rows) >= 1, 60)] == ["e"]
    filtered = service.one(
        "sync", manifests={"c": {}}, collections={"c": {"filter": {"n": 2}, "fields": ["n"]}}
    )
    assert [(v["key"], v["doc"]["n"]) for v in filtered["docs"]] == [("b", 2)]
    # bad input
    for words, code in (
        ({}, "bad_message"),
        ({"manifests": []}, "bad_message"),
        ({"manifests": {"$c": {}}}, None),
        ({"manifests": {"c": {"a": "one"}}}, "bad_message"),
        ({"manifests": {"c": {}}, "mux_id": 1}, "bad_message"),
        ({"manifests": {"c": {}}, "collections": {"c": {"filter": {"$where": 1}}}}, "bad_filter"),
    ):
        refused = service.refused("sync", **words)
        assert code is None or refused["code"] == code, (words, refused)
    assert service.one("sync", manifests=held)["updated"] == 0


def test_a_sync_of_more_than_an_answer_is_asked_again(service_server, service):
    for key in range(12):
        done = service.one("put", collection="c", doc={"_id": key, "text": "x" * 900000})
    run(log_reaches(service_server.url(), done["since"]))
    held, answers = {"c": {}}, 0
    while True:
        manifests = {"c": [[key, version] for key, version in held["c"].items()]}
        answer = service.one("sync", manifests=manifests)
        keep(held, answer["docs"])
        answers += 1
        if "more" not in answer:
            break
        assert "after" not in answer and 0 < len(answer["docs"]) < 12
    assert held == {"c": dict.fromkeys(range(12), 1)} and answers > 2


def test_the_feed_of_a_database_of_its_own(service, url):
    with Feed(url, "c", database="shop") as feed:
        feed.service.one("put", database="shop", collection="c", doc={"_id": 1})
        assert feed.service.one("replay", database="shop", collection="c")["topic"] == "shop.c"
        message = feed.socket.recv()
        assert message.startswith(b"shop.c\0")


@pytest.mark.sanitize
def test_websocket_subscribers_see_what_a_service_wrote(service_server, url):
    async def scenario():
        async with await Client.open(service_server.url()) as ws, await Client.open(
            service_server.url("/db")
        ) as db:
            await ws.send(type="subscribe", mux_id=1, collections={"c": {"filter": {"n": 1}}})
            await ws.until_sync()
            with Service(url) as service, Feed(url, "c") as feed:
                done = service.one("batch", collection="c", ops=ops_of([1, 2], n=1), opid="o")
                told = [await ws.next() for _ in range(2)]
                assert [frame["key"] for frame in told] == [1, 2]
                assert [[told[1]["srv_id"], told[1]["seqno"]]] <= done["since"]  # the fence
                # and the other way round
                await db.one("put", collection="c", doc={"_id": 3, "n": 2})
                rows = feed.until(lambda rows: len(rows) >= 3, 10)
                assert [row["key"] for row in rows] == [1, 2, 3]

    run(scenario())


# ---- other logs, other gateways ----
def test_a_position_of_a_replaced_log_is_refused(service_server, service, url):
    service.one("put", collection="c", doc={"_id": 1})
    answer = wait_until(
        lambda: (a := service.one("replay", collection="c", after=0))["rows"] and a, 20, "the row"
    )
    position = {"after": answer["upto"], "srv_id": answer["srv_id"]}
    assert service.one("replay", collection="c", **position)["rows"] == []
    service_server.kill()
    shutil.rmtree(service_server.directory / "data")
    service_server.start()
    with Service(url) as later:
        assert later.refused("replay", collection="c", **position)["code"] == "reset"
        anew = later.one("replay", collection="c", after=0)
    assert anew["srv_id"] != position["srv_id"]
    # MongoDB keeps the record, and its image is made anew; the embedded store was its log
    kept = [1] if service_server.on_mongo else []
    assert [row["key"] for row in anew["rows"]] == kept


def test_a_feed_goes_on_when_gateways_alone_are_killed(make_server, url):
    """The log stays where it is: positions hold, acknowledged records are there once."""
    server = make_server(layout="ipc", flags=["--service", url]).start()
    rows = []
    with Service(url, 2) as service, Feed(url, "c", idle_s=0.2) as feed:
        for life in range(3):
            for first in range(life * 100, life * 100 + 100, 20):
                ops = ops_of(range(first, first + 20))
                service.until_ok(60, "batch", collection="c", ops=ops, opid=f"b{first}")
            feed.until(lambda rows, life=life: len(rows) >= life * 100 + 50, 60, rows)
            if life < 2:
                server.kill("gateway")
                server.start()
        feed.until(lambda rows: len(rows) >= 300, 60, rows)
        answer = service.until_ok(60, "replay", collection="c", after=0)
        position = {"after": feed.position, "srv_id": answer["srv_id"]}
        assert service.one("replay", collection="c", **position)["rows"] == []
    assert sorted(row["key"] for row in rows) == list(range(300))
    assert [row["n"] for row in rows] == sorted({row["n"] for row in rows})
    assert {row["version"] for row in rows} == {1}


# ---- kills ----
RECORDS, BATCH, KILLS = int(os.environ.get("TIDEWIRE_RECORDS", "20000")), 100, 6
AHEAD = 20  # batches that the publisher may be beyond what was waited for


class Publishing:
    """A publisher and a follower of the same records, in threads of their own."""

    def __init__(self, url):
        self.url = url
        self.acknowledged, self.rows, self.failures = [], [], []
        self.replays = self.heard = 0
        self.upto = 0  # batches that may be published
        self.away = threading.Event()  # the follower is to leave
        self.left = threading.Event()  # and has left
        self.back = threading.Event()  # and may come back
        self.threads = [
            threading.Thread(target=self.guarded, args=[work], daemon=True)
            for work in (self.publish, self.follow)
        ]
        for thread in self.threads:
            thread.start()

    def guarded(self, work):
        try:
            work()
        except BaseException as failure:
            self.failures.append(failure)
            raise

    def publish(self):
        with Service(self.url, 2) as service:
            for first in range(0, RECORDS, BATCH):
                wait_until(lambda: len(self.acknowledged) < self.upto, 120, "leave to go on")
                ops = ops_of(range(first, first + BATCH), n=first)
                done = service.until_ok(60, "batch", collection="c", ops=ops, opid=f"b{first}")
                assert done["count"] == BATCH, done
                self.acknowledged.append(first)

    def follow(self):
        position = 0
        while len(self.rows) < RECORDS:
            with Feed(self.url, "c", after=position, idle_s=0.2) as feed:
                while len(self.rows) < RECORDS and not self.away.is_set():
                    self.rows.extend(feed.next())
                if len(self.rows) >= RECORDS:
                    feed.behind = True  # nothing comes behind the last one
                    self.rows.extend(feed.next())
                position = feed.position
                self.replays += feed.replays
                self.heard += len(feed.batches)
            if self.away.is_set():
                self.left.set()
                self.back.wait(60)
                for event in (self.away, self.left, self.back):
                    event.clear()

    def wait_batches(self, goal):
        self.upto = goal + AHEAD
        wait_until(lambda: self.failures or len(self.acknowledged) >= goal, 60, f"{goal} batches")
        assert not self.failures, self.failures

    def finish(self):
        self.upto = RECORDS
        for thread in self.threads:
            thread.join(60)
        assert not self.failures, self.failures
        alive = any(thread.is_alive() for thread in self.threads)
        assert not alive, (len(self.acknowledged), len(self.rows))


@pytest.mark.slow
def test_records_are_published_once_and_the_feed_resumes_under_kills(service_server, url):
    """The server is killed while a service publishes; the follower misses each second kill, and
    comes back when more was published."""
    chance = random.Random(11)
    publishing = Publishing(url)
    step = RECORDS // BATCH // (KILLS + 1)
    for kill in range(KILLS):
        if kill % 2 == 1:
            publishing.away.set()
            wait_until(publishing.left.is_set, 30, "the follower to leave")
        publishing.wait_batches(step * (kill + 1) + chance.randrange(5))
        service_server.kill()
        service_server.start()
        if kill % 2 == 1:
            publishing.wait_batches(len(publishing.acknowledged) + 5)
            publishing.back.set()
    publishing.finish()
    rows = publishing.rows
    # each record is there, written once, told once, in the order of the log
    assert sorted(row["key"] for row in rows) == list(range(RECORDS))
    assert {row["version"] for row in rows} == {1}
    assert {row["op"] for row in rows} == {"put"}
    assert len({row["srv_id"] for row in rows}) == 1
    assert [row["n"] for row in rows] == sorted(row["n"] for row in rows)
    assert publishing.replays > KILLS // 2 and publishing.heard > 0
    with Service(url) as service:
        assert service.one("count", collection="c")["count"] == RECORDS
        assert service.one("count", collection="c", query={"_version": {"$ne": 1}})["count"] == 0
