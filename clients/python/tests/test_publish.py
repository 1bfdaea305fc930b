"""put_many: batches, order, refusals, progress, and what a killed server leaves of it."""

import io
import os
import threading
import time

import pytest
from server import PATIENCE_S, wait_until

from tidewire import BadInput, Client, PartlyRefused, PublishInterrupted
from tidewire._progress import Progress, line

RECORDS = int(os.environ.get("TIDEWIRE_RECORDS", "20000"))  # 100000 for the full measure


def test_all_records_of_an_iterable_are_put(client):
    done = client.put_many("c", ({"_id": i, "n": i} for i in range(2500)), batch_records=100)
    assert (done.count, done.batches, done.repeats) == (2500, 25, 0)
    assert client.count("c") == 2500 and client.count("c", {"_version": 1}) == 2500
    assert client.put_many("c", []).count == 0


def test_batches_end_by_bytes_too(client):
    done = client.put_many(
        "c", ({"_id": i, "t": "x" * 1000} for i in range(100)), batch_bytes=10000
    )
    assert done.batches == 10
    done = client.put_many("c", ({"_id": i, "t": "x" * 400000} for i in range(5)))
    assert done.count == 5 and client.count("c", {"_version": 2}) == 5


def test_puts_of_one_key_keep_their_order(client):
    keys = [0, "a", {"$oid": "5f0000000000000000000001"}, 1.5]
    docs = [{"_id": keys[n % 4], "n": n} for n in range(400)]
    assert client.put_many("c", docs, batch_records=3).count == 400
    assert sorted(doc["n"] for doc in client.find("c")) == [396, 397, 398, 399]
    assert {doc["_version"] for doc in client.find("c")} == {100}


def test_what_was_refused_is_told_when_the_rest_is_on_disk(client):
    docs = [{"_id": i if i % 50 else [i]} for i in range(1, 200)]
    with pytest.raises(PartlyRefused) as refused:
        client.put_many("c", docs, batch_records=10)
    error = refused.value
    assert error.code == "bad_document" and error.count == len(error.refused) == 3
    assert error.acknowledged == client.count("c") == 196


def test_a_record_that_cannot_be_sent_stops_at_its_place(client):
    docs = [{"_id": i} for i in range(10)]
    docs[5] = {"_id": 5, "x": object()}
    with pytest.raises(PublishInterrupted) as stopped:
        client.put_many("c", docs)
    assert stopped.value.code == "bad_document"
    done = client.put_many("c", resume=stopped.value)
    assert done.count == 9 and client.count("c") == 9
    for wrong in (dict(window=0), dict(batch_records=5000), dict(batch_bytes=2**21)):
        with pytest.raises(BadInput):
            client.put_many("c", [], **wrong)


def test_a_run_that_was_interrupted_is_resumed_with_the_same_opids(server, client):
    def docs():
        for i in range(3000):
            if i == 1500:
                server.kill()  # with batches on their way: written or not, nobody knows
            yield {"_id": i}

    with pytest.raises(PublishInterrupted) as broken:
        client.put_many("c", docs(), batch_records=50, deadline=2)
    error = broken.value
    assert error.retry == "backoff" and error.pending and error.acknowledged < 1500
    server.start()
    with pytest.raises(BadInput):
        client.put_many("another", resume=error)
    done = client.put_many("c", resume=error, batch_records=50)
    assert error.acknowledged + done.count == 3000
    assert client.count("c") == 3000 and client.count("c", {"_version": 1}) == 3000


def test_kills_while_publishing_lose_and_repeat_nothing(server, url, backend):
    made = []
    may_end = threading.Event()  # the last quarter waits: a kill comes while some are on their way

    def docs():
        for i in range(RECORDS):
            if i == RECORDS * 3 // 4:
                may_end.wait()
            made.append(i)
            yield {"_id": i, "n": i}

    results, rows, begun = [], [], time.monotonic()

    def publish():
        with Client(url, backend=backend) as client:
            results.append(client.put_many("c", docs(), batch_records=100))

    def follow():
        with Client(url, backend=backend) as client, client.feed("c") as feed:
            for row in feed:
                rows.append(row)
                if len(rows) == RECORDS:
                    return

    publisher = threading.Thread(target=publish)
    publisher.start()
    follower = threading.Thread(target=follow)
    follower.start()
    for part in (RECORDS // 4, RECORDS // 2):
        wait_until(lambda: len(made) >= part, 60, f"{part} records")
        server.kill()
        server.start()
    may_end.set()
    publisher.join(PATIENCE_S)
    took = time.monotonic() - begun
    follower.join(PATIENCE_S)
    assert results and results[0].count == RECORDS
    with Client(url, backend=backend) as client:
        assert client.count("c") == RECORDS and client.count("c", {"_version": 1}) == RECORDS
    assert sorted(row.key for row in rows) == list(range(RECORDS))
    assert [row.position for row in rows] == sorted({row.position for row in rows})
    print(f"{RECORDS} records over two kills: {RECORDS / took:,.0f}/s")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_drawn_on_a_terminal_only():
    assert line(500, 1000, 2.0) == (
        "500 of 1,000 records [############            ]  50%  250/s  0:02 left"
    )
    assert line(500, None, 2.0) == "500 records  250/s"
    terminal, pipe = Terminal(), io.StringIO()
    for out in (terminal, pipe):
        bar = Progress(True, 10, out)
        bar.show(5)
        bar.show(10, final=True)
    assert "100%" in terminal.getvalue() and terminal.getvalue().endswith("\n")
    assert pipe.getvalue() == ""
