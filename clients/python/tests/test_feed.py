"""The feed: each row once and in order, whatever was lost on the way."""

import shutil
import threading

import pytest

from tidewire import NOW, START, BadInput, Client, Refused


def take(feed, count):
    rows = []
    for row in feed:
        rows.append(row)
        if len(rows) == count:
            return rows
    raise AssertionError(f"the feed ended after {len(rows)} rows")


def test_what_is_stored_and_what_comes_then(client):
    client.put("c", {"_id": 1, "n": 1})
    with client.feed("c", idle=120) as feed:
        (first,) = take(feed, 1)
        assert (first.op, first.key, first.version, first.doc["n"]) == ("put", 1, 1, 1)
        written = client.put("c", {"_id": 2})
        client.put("other", {"_id": 3})
        client.put("c", {"_id": 4}, dispatch=False)
        client.remove("c", 1)
        second, third = take(feed, 2)
        assert [[second.srv_id, second.seqno]] == written.since
        assert (third.op, third.key, third.doc) == ("remove", 1, None)
        assert feed.position == third.position > second.position > first.position
        position = feed.position
    with client.feed("c", second.position, idle=120) as later:
        assert take(later, 1)[0].op == "remove"
    client.put("c", {"_id": 5})
    with client.feed("c", position, idle=120) as later:
        assert take(later, 1)[0].key == 5


def test_an_idle_feed_ends_and_one_from_now_tells_nothing_old(client):
    client.put("c", {"_id": 1})
    with client.feed("c", NOW, idle=0.2) as feed:
        assert list(feed) == [] and feed.position.row > 0 and feed.position.srv_id > 0
        client.put("c", {"_id": 2})
        assert feed.poll(120).key == 2
        assert feed.poll(0.05) is None


def test_lost_messages_are_read_again(client):
    with client.feed("c", NOW) as feed:
        for number in range(400):  # it does not read meanwhile: more than all queues hold
            client.put("c", {"_id": number, "t": "z" * 4000})
        assert [row.key for row in take(feed, 400)] == list(range(400))
        assert feed.replays > 1


def test_a_position_is_kept_in_a_file(server, url, backend, tmp_path):
    path = str(tmp_path / "position")
    with Client(url, backend=backend) as client:
        for number in range(3):
            client.put("c", {"_id": number})
            with client.feed("c", position_file=path, idle=120) as feed:
                assert take(feed, 1)[0].key == number
                feed.save()
        with client.feed("c", position_file=path, idle=0.2) as feed:
            assert list(feed) == []
        for text in ("soon", "17", "1 2 3", "1 x"):
            (tmp_path / "position").write_text(text)
            with pytest.raises(BadInput, match="holds no position"):
                client.feed("c", position_file=path)
        with client.feed("c") as feed, pytest.raises(BadInput):
            feed.save()


def test_wrong_positions_and_names_are_refused(client):
    client.put("c", {"_id": 1})
    with client.feed("c") as feed:
        srv_id = feed.position.srv_id
    for since, code in (((srv_id, 10**6), "ahead"), ((srv_id + 1, 1), "reset")):
        with pytest.raises(Refused) as refused:
            client.feed("c", since)
        assert refused.value.code == code
    for since in (-1, 7, "yesterday", (0, 7), (7,), (7, -1), (7, "1"), {}):
        with pytest.raises(BadInput):
            client.feed("c", since)
    with pytest.raises(Refused):
        client.feed("$c")


def replace_log(server, url, count):
    """The server's log is another one, with `count` records: more than any position of before."""
    server.kill()
    shutil.rmtree(server.directory / "data")
    server.start()
    with Client(url) as client:
        client.put_many("c", ({"_id": f"new{i}"} for i in range(count)))


def test_a_replaced_log_is_told_and_not_read_from_a_position_of_before(
    server, client, url, tmp_path
):
    path = str(tmp_path / "position")
    client.put_many("c", ({"_id": i} for i in range(10)))
    with client.feed("c", position_file=path) as feed, client.feed("c") as live:
        assert [row.key for row in take(feed, 10)] == list(range(10))
        feed.save()
        assert len(take(live, 10)) == 10
        replace_log(server, url, 500)
        with pytest.raises(Refused) as refused:  # a feed that is open hears of it too
            take(live, 1)
        assert refused.value.code == "reset"
    for options in ({"position_file": path}, {"since": feed.position}):
        with pytest.raises(Refused) as refused:
            client.feed("c", **options)
        assert refused.value.code == "reset" and "forget" in str(refused.value)
    with client.feed("c", START) as feed:
        assert {row.key for row in take(feed, 500)} == {f"new{i}" for i in range(500)}


def test_the_feed_goes_on_over_kills(server, client):
    rows, failures = [], []

    def follow():
        try:
            with Client(client.url, backend=client._backend) as other, other.feed("c") as feed:
                rows.extend(take(feed, 3000))
        except BaseException as failure:
            failures.append(failure)

    follower = threading.Thread(target=follow)
    follower.start()
    for part in range(3):
        ops = ({"_id": part * 1000 + i} for i in range(1000))
        client.put_many("c", ops, batch_records=20)
        server.kill()
        server.start()
    follower.join(120)
    assert not failures
    assert sorted(row.key for row in rows) == list(range(3000))
    assert [row.position for row in rows] == sorted({row.position for row in rows})
