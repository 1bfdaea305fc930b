"""Calls: what goes in and comes out, errors, deadlines, repeats."""

import datetime
import os
import signal
import socket
import threading
import time

import pytest
from server import free_port_run

from tidewire import BadInput, Client, Conflict, NotFound, Refused, TidewireError, Unavailable
from tidewire import _nng

LATE_S = 60  # far more than the deadlines below, on a busy machine


def test_the_backend_asked_for_is_the_one_used(client, backend):
    made = type(client._take())
    assert made is _nng.backend(backend) and backend in made.__name__.lower()


def test_a_socket_that_nng_does_not_close_is_left():
    closed, never = threading.Event(), threading.Event()
    _nng.close_within(closed.set)
    assert closed.is_set(), "what closes at once is waited for"
    began = time.monotonic()
    _nng.close_within(never.wait, 0.05)
    _nng.close_within(never.wait, 60)  # nng is known to be stuck: not waited for
    assert time.monotonic() - began < LATE_S
    never.set()
    for thread in list(_nng._left):
        thread.join()
    closed.clear()
    _nng.close_within(closed.set)
    assert closed.is_set(), "and from then on it is waited for again"


def test_documents_go_in_and_come_out(client):
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)
    doc = {
        "_id": 7,
        "name": "Ada",
        "raw": b"\0\xff",
        "when": when,
        "big": 2**60,
        "deep": {"a": [1]},
    }
    written = client.put("c", doc)
    assert (written.key, written.version, written.count) == (7, 1, 1) and len(written.since) == 1
    got = client.get("c", 7)
    assert {name: got[name] for name in doc} == doc and got["_version"] == 1
    made = client.insert("c", {"name": "Grace"})
    assert client.get("c", made.key)["name"] == "Grace"
    assert [each["_id"] for each in client.get("c", [7, "none"])] == [7]
    assert client.update("c", 7, {"name": "Ada L."}).version == 2
    assert client.update("c", 7, operations=[["INC", "n", 3]]).version == 3
    assert client.get("c", 7)["n"] == 3
    found = client.find("c", {"n": {"$gte": 3}}, fields=["name"], sort={"name": 1}, limit=5)
    assert [each["name"] for each in found] == ["Ada L."]
    assert client.find("c", {"n": 99}) == []
    assert client.remove("c", 7).count == 1
    assert client.count("c") == 1 and client.count("c", {"name": "Ada"}) == 0
    with Client(client.url, database="shop", backend=client._backend) as shop:
        shop.put("c", {"_id": 1})
        assert shop.count("c") == 1 and client.count("c") == 1


def test_a_batch_tells_what_failed(client):
    ops = [{"op": "insert", "doc": {"_id": 1}}] * 2 + [{"op": "put", "doc": {"_id": 2}}]
    done = client.batch("c", ops)
    assert (done.count, done.failed) == (2, 1) and done.results[1]["code"] == "conflict"
    with pytest.raises(Conflict) as refused:
        client.batch("c", [{"op": "put", "doc": {"_id": 3}}, *ops[:1]], atomic=True)
    assert "ops[1]" in refused.value.message and client.count("c") == 2


def test_the_same_opid_has_one_effect(server, client):
    first = client.put("c", {"_id": 1}, opid="mine")
    client.put("c", {"_id": 1})
    assert client.put("c", {"_id": 1}, opid="mine") == first
    server.kill()
    server.start()
    assert client.put("c", {"_id": 1}, opid="mine") == first
    assert client.get("c", 1)["_version"] == 2


def test_refusals_are_exceptions_with_code_cause_and_hint(client):
    client.put("c", {"_id": 1})
    with pytest.raises(Conflict) as conflict:
        client.put("c", {"_id": 1}, if_version=9)
    assert conflict.value.code == "conflict" and conflict.value.version == 1
    with pytest.raises(NotFound):
        client.get("c", "none")
    with pytest.raises(NotFound):
        client.update("c", "none", {"a": 1})
    cases = [
        (lambda: client.ask("fly"), "unknown"),
        (lambda: client.ask("put", collektion="c", doc={}), "bad_message"),
        (lambda: client.put("$c", {}), "bad_message"),
        (lambda: client.put("c", 7), "bad_message"),
        (lambda: client.find("c", {"$where": "1"}), "bad_filter"),
        (lambda: client.batch("c", [{"op": "jump"}]), "bad_message"),
        (lambda: client.batch("c", [{"op": "put", "doc": {}}] * 4097), "too_many"),
        (lambda: client.put("c", {"_id": [1]}), "bad_document"),
    ]
    for call, code in cases:
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.code == code and refused.value.message, refused.value
        assert refused.value.retry == "no"
    with pytest.raises(Refused) as typo:
        client.ask("put", collektion="c", doc={})
    assert "collection" in typo.value.hint
    assert client.count("c") == 1


def test_what_cannot_be_sent_is_refused_at_once(client):
    wrong = [
        (lambda: client.put("c", {"_id": 1, "x": object()}), "bad_document"),
        (lambda: client.put("c", {"_id": 2**70}), "bad_document"),
        (lambda: client.put("c", {"_id": 1, "when": datetime.datetime.now()}), "bad_document"),
        (lambda: client.put("c", {"_id": 1, "x": "y" * 1100000}), "too_big"),
    ]
    for call, code in wrong:
        with pytest.raises(BadInput) as refused:
            call()
        assert refused.value.code == code and refused.value.hint
    assert client.count("c") == 0
    client.close()
    with pytest.raises(BadInput):
        client.count("c")


def test_wrong_addresses_are_refused(backend):
    for url in ("", "nonsense", "http://127.0.0.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:x"):
        with pytest.raises(BadInput) as refused:
            Client(url, backend=backend)
        assert "ipc:///PATH" in refused.value.hint
    with pytest.raises(BadInput):
        Client("ipc:///x", backend="carrier pigeon")


def in_time(call, code="timeout"):
    begun = time.monotonic()
    with pytest.raises(TidewireError) as late:
        call()
    assert late.value.code == code and late.value.hint and late.value.retry == "backoff"
    assert time.monotonic() - begun < LATE_S
    return late.value


def test_an_absent_server_is_told_by_the_deadline(tmp_path, backend):
    for url in (f"ipc://{tmp_path}/none", f"tcp://127.0.0.1:{free_port_run(2)}"):
        with Client(url, deadline=0.2, backend=backend) as client:
            assert "nobody answered" in in_time(lambda: client.put("c", {"_id": 1})).message
            in_time(lambda: client.feed("c"))
            in_time(lambda: client.put_many("c", [{"_id": 1}], deadline=0.2))


def test_somebody_else_at_the_address_is_told_by_the_deadline(backend):
    with socket.create_server(("127.0.0.1", 0)) as other:  # accepts, and says nothing
        url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with Client(url, deadline=0.2, backend=backend) as client:
            in_time(lambda: client.put("c", {"_id": 1}))


def test_a_server_that_stands_still_is_told_by_the_deadline(server, client):
    client.put("c", {"_id": 1})
    (process,) = server.processes.values()
    os.kill(process.pid, signal.SIGSTOP)
    try:
        late = in_time(lambda: client.put("c", {"_id": 2}, opid="o", deadline=0.3))
        assert isinstance(late, Unavailable) and "did not answer" in late.message
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert client.put("c", {"_id": 2}, opid="o").version == 1


def test_a_call_goes_on_when_the_server_comes_back(server, client):
    client.put("c", {"_id": 1})
    server.kill()
    results = []
    caller = threading.Thread(
        target=lambda: results.append(client.put("c", {"_id": 2}, deadline=LATE_S).version)
    )
    caller.start()
    server.start()
    caller.join(LATE_S)
    assert results == [1] and client.count("c") == 2


def test_threads_may_share_a_client(client):
    def work(number):
        for i in range(30):
            client.put("c", {"_id": f"{number}-{i}"})
            assert client.get("c", f"{number}-{i}")["_version"] == 1

    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=[i]) for i in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures and client.count("c") == 240
