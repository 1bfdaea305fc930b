"""Changes that others make in MongoDB reach subscribers: against a real server, killed processes,
and servers that fail.

TIDEWIRE_LONG=1 kills 200 times (or TIDEWIRE_CYCLES) while tailing, as often while copying, and the
server; TIDEWIRE_FULL=1 runs all the full sizes: these, 100,000 documents, 10,000 subscriptions."""

import asyncio
import datetime
import json
import os
import random
import time

import bson
import pymongo
import pytest

from clients import Client, run
from deployment import BulkWriter, Deployment, Follower, Writer, tailer
from server import wait_until

FULL = os.environ.get("TIDEWIRE_FULL") == "1"
LONG = FULL or os.environ.get("TIDEWIRE_LONG") == "1"
DOCUMENTS = 100_000 if FULL else 10_000
WRITES_A_SECOND = 1_000
CYCLES = int(os.environ.get("TIDEWIRE_CYCLES", "200")) if LONG else 12
SUBSCRIPTIONS = 10_000 if FULL else 1_000
RECONNECTS = 1_000 if FULL else 200

pytestmark = pytest.mark.timeout(7200 if LONG else 900)

POINTS = [
    "tailer_read_before_commit",
    "tailer_committed",
    "tailer_mid_copy",
    "tailer_between_barriers",
    "store_append_prepared",
    "store_append_committed",
]


@pytest.fixture
def make_deployment():
    made = []

    def make(**options):
        made.append(Deployment(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def deployment(make_deployment):
    return make_deployment()


@pytest.fixture
def make_server(make_deployment, make_server):
    """Ends before its deployment: a client of MongoDB waits for a server that is away."""
    return make_server


def serve(make_server, deployment, **options):
    flags = ["--mongo", deployment.uri, *options.pop("flags", [])]
    return make_server(flags=flags, **options)


# ---- what others write ----


def test_writes_of_others_reach_subscribers(make_server, deployment):
    server = serve(make_server, deployment).start()
    client, people = deployment.client, deployment.people

    async def scenario():
        everything = Follower(server)
        some = Follower(server, query={"filter": {"n": {"$gte": 5}}})
        await everything.until(lambda: everything.syncs > 0, 20, "sync")
        await some.until(lambda: some.syncs > 0, 20, "sync")
        people.insert_one({"_id": "a", "n": 1, "_version": 1})
        await everything.until(lambda: everything.set == {"a": {"_id": "a", "n": 1, "_version": 1}},
                               10, "an insert")  # fmt: skip
        people.update_one({"_id": "a"}, {"$set": {"n": 5}, "$inc": {"_version": 1}})
        await some.until(lambda: "a" in some.set, 10, "an update that enters a filter")
        people.replace_one({"_id": "a"}, {"n": 2, "_version": 3})
        await some.until(lambda: "a" not in some.set, 10, "a replacement that leaves a filter")
        people.insert_many([{"_id": i, "n": i} for i in range(3000)])
        people.bulk_write([pymongo.UpdateOne({"_id": i}, {"$inc": {"n": 1}}) for i in range(500)]
                          + [pymongo.DeleteOne({"_id": i}) for i in range(500, 700)])  # fmt: skip
        with client.start_session() as session, session.start_transaction():
            people.insert_one({"_id": "t"}, session=session)
            people.update_one({"_id": "a"}, {"$set": {"n": 9}}, session=session)
            people.delete_one({"_id": 3}, session=session)
        await everything.until_equal(people)
        assert await some.until(lambda: len(some.set) == people.count_documents({"n": {"$gte": 5}}),
                                20, "the filtered set")  # fmt: skip
        people.drop()
        await everything.until(lambda: everything.drops == 1 and not everything.set, 10, "a drop")
        people.insert_one({"_id": "again"})
        await everything.until_equal(people)
        other = client.main.others
        other.insert_many([{"_id": f"o{i}"} for i in range(50)])
        other.rename("people", dropTarget=True)
        await everything.until_equal(people)
        assert len(everything.set) == 50 and everything.drops == 2
        client.drop_database("main")
        await everything.until(lambda: everything.drops == 3, 10, "a dropped database")
        assert not everything.set and not everything.breaches and not some.breaches
        assert not everything.resets and not some.resets
        for each in (everything, some):
            await each.close()

    run(scenario())


def test_transaction_is_told_whole_and_marked(make_server, deployment):
    server = serve(make_server, deployment).start()

    async def scenario():
        async with await Client.open(server.url()) as client:
            await client.send(type="subscribe", mux_id=1, collections={"people": "*"})
            await client.until_sync(1, 20)
            with deployment.client.start_session() as session:
                for number in range(20):
                    with session.start_transaction():
                        for i in range(5):
                            deployment.people.insert_one(
                                {"_id": f"{number}-{i}"}, session=session
                            )
            for number in range(20):
                frames = [await client.next() for _ in range(5)]
                assert [f["key"] for f in frames] == [f"{number}-{i}" for i in range(5)]
                assert len({f["seqno"] for f in frames}) == 1
                assert [f["last"] for f in frames] == [False] * 4 + [True]

    run(scenario())


def test_transaction_above_the_limit_comes_in_pieces(make_server, deployment):
    """Rows of one transaction beyond TW_TRANSACTION_ROWS_MAX: all of them, in one position."""
    server = serve(make_server, deployment).start()

    async def scenario():
        follower = Follower(server)
        await follower.until(lambda: follower.syncs > 0, 20, "sync")
        with deployment.client.start_session() as session, session.start_transaction():
            for first in range(0, 9000, 1000):
                deployment.people.insert_many(
                    [{"_id": first + i} for i in range(1000)], session=session
                )
        await follower.until_equal(deployment.people, 60)
        assert tailer(server)[1]["tailer_transaction_pieces_total"] > 0
        await follower.close()

    run(scenario())


# ---- the first copy ----


def test_copy_while_writes_go_on(make_server, deployment):
    people = deployment.people
    for first in range(0, DOCUMENTS, 10_000):
        count = min(10_000, DOCUMENTS - first)
        people.insert_many([{"_id": first + i, "text": "x" * 150} for i in range(count)])
    deployment.client.main.others.insert_many([{"_id": i} for i in range(500)])
    server = serve(make_server, deployment)
    bulks = BulkWriter(deployment.uri, WRITES_A_SECOND, DOCUMENTS)
    writer = Writer(deployment.uri, 20)

    async def scenario():
        wait_until(lambda: bulks.writes > 500, 30, "writes before the first start")
        begun, before = time.monotonic(), bulks.writes
        server.start(ready=False)
        followers = [Follower(server) for _ in range(3)]
        seen = set()
        while not server.http_ready():
            synced = any(follower.syncs > 0 for follower in followers)
            state = tailer_or_none(server)
            seen.add(state.split()[0] if state else "")
            assert not (synced and state.startswith("copying")), "a sync before the second barrier"
            await asyncio.sleep(0.01)  # the poll of a condition
        copied, beside = time.monotonic() - begun, bulks.writes - before
        for follower in followers:
            await follower.until(lambda f=follower: f.syncs > 0, 60, "sync")
        await asyncio.sleep(1 if not FULL else 5)  # the load goes on over the live streams
        await asyncio.to_thread(writer.end)
        await asyncio.to_thread(bulks.end)
        for follower in followers:
            await follower.until_equal(people, 60)
            assert follower.resets == []
        gauges = tailer(server)[1]
        print(f"copied {DOCUMENTS} documents in {copied:.1f} s beside {beside} writes of others")
        assert "copying" in seen
        assert gauges["tailer_scans_first_total"] == 1
        for follower in followers:
            await follower.close()

    run(scenario())


def tailer_or_none(server):
    try:
        return tailer(server)[0]
    except (OSError, ValueError, KeyError):
        return ""


def test_copy_of_ids_of_every_type(make_server, deployment):
    """_id in brackets of types: a comparison by $gt stays within one."""
    people = deployment.people
    people.insert_many([{"_id": i} for i in range(1000)])  # one step, and nothing left of numbers
    people.insert_many([{"_id": f"s{i}"} for i in range(1500)])
    people.insert_many([{"_id": {"a": i}} for i in range(10)])
    people.insert_many([{"_id": value} for value in (
        bson.Binary(b"x", 5), bson.ObjectId(), True, bson.Timestamp(1, 1), 1.5, 2**60,
        datetime.datetime(2020, 1, 1), bson.Decimal128("9.99"), bson.MinKey(), bson.MaxKey())])
    server = serve(make_server, deployment).start()

    async def scenario():
        follower = Follower(server)
        await follower.until(lambda: follower.syncs > 0, 20, "sync")
        assert len(follower.set) == people.count_documents({})
        await follower.close()

    run(scenario())


# ---- kills ----


async def through_kills(server, deployment, cycles, kill, rate=200):
    """Followers and a writer while kill(server, i) ends something, `cycles` times; then each set is
    what find tells, without a reset."""
    writer = Writer(deployment.uri, rate, keys=100, seed=cycles)
    followers = [Follower(server) for _ in range(3)]
    for cycle in range(cycles):
        before = [follower.syncs for follower in followers]
        await asyncio.to_thread(kill, server, cycle)
        for follower, syncs in zip(followers, before):
            await follower.until(lambda f=follower, s=syncs: f.syncs > s, 60, "a sync")
    await asyncio.to_thread(writer.end)
    for follower in followers:
        await follower.until_equal(deployment.people, 60)
        assert follower.resets == [], follower.resets
    told = [follower.told for follower in followers]
    assert writer.writes > 0 and all(each for each in told)
    for follower in followers:
        await follower.close()
    return writer


def killed_at(server, point, count):
    """One life that ends at a point, and the start after it."""
    server.stop() if server.processes else None
    server.env["TIDEWIRE_FAULT"] = f"{point}:{count}"
    server.start(ready=False)
    try:
        server.wait_end(20)
    finally:
        server.env.pop("TIDEWIRE_FAULT")
        server.kill()
    server.start()


LIVE_POINTS = [p for p in POINTS if p not in ("tailer_mid_copy", "tailer_between_barriers")]


@pytest.mark.parametrize("point", LIVE_POINTS)
def test_killed_at_a_point_while_tailing(make_server, deployment, point):
    server = serve(make_server, deployment).start()
    cycles = max(CYCLES // len(POINTS), 2)
    chance = random.Random(point)

    def kill(server, _):
        killed_at(server, point, chance.randrange(1, 40))

    run(through_kills(server, deployment, cycles, kill), 60 + cycles * 20)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_of_the_first_copy(make_server, deployment, point):
    """The copy goes on where it was; nobody is told sync before it is whole."""
    deployment.people.insert_many([{"_id": i, "n": i} for i in range(6000)])
    deployment.client.main.more.insert_many([{"_id": i} for i in range(10)])
    server = serve(make_server, deployment)
    writer = Writer(deployment.uri, 200)
    count = 1 if point == "tailer_between_barriers" else 3
    server.env["TIDEWIRE_FAULT"] = f"{point}:{count}"
    server.start(ready=False)
    server.wait_end(30)
    server.env.pop("TIDEWIRE_FAULT")
    server.start()
    writer.end()

    async def scenario():
        follower = Follower(server)
        await follower.until_equal(deployment.people, 30)
        state, gauges = tailer(server)
        assert gauges["tailer_scans_first_total"] == 0, "the copy began anew"
        assert state == "tailing"
        await follower.close()

    run(scenario())


async def copied_through_kills(make_server, deployment, kills, chance):
    """A first copy with a kill in each of its lives, at any point; then its set is right."""
    server = serve(make_server, deployment)
    follower = Follower(server)
    within = [point for point in POINTS if point != "tailer_between_barriers"]
    for life in range(kills):
        is_last = life == kills - 1 and chance.random() < 0.5  # it copies to the end
        point = "tailer_between_barriers" if is_last else chance.choice(within)
        count = 1 if is_last else chance.randrange(1, 3)  # of the copy's twelve steps
        server.env["TIDEWIRE_FAULT"] = f"{point}:{count}"
        server.start(ready=False)
        await asyncio.to_thread(server.wait_end, 60)
    server.env.pop("TIDEWIRE_FAULT")
    await asyncio.to_thread(server.start)
    await follower.until(lambda: follower.syncs > 0, 60, "a sync")
    return server, follower


def test_killed_again_and_again_through_first_copies(make_server, deployment):
    """Each copy is killed at points drawn at random, some of them at its end; a writer goes on. No
    follower is told sync before its copy is whole, a record twice, or a reset."""
    deployment.people.insert_many([{"_id": i, "n": i} for i in range(12000)])
    chance = random.Random(4)
    kills = 5

    async def scenario():
        writer = Writer(deployment.uri, 200, keys=100)
        for _ in range(CYCLES // kills):
            server, follower = await copied_through_kills(make_server, deployment, kills, chance)
            assert len(follower.set) >= 12000, "a sync before the copy was whole"
            await asyncio.to_thread(writer.end)
            await follower.until_equal(deployment.people, 60)
            assert follower.resets == [], follower.resets
            await follower.close()
            await asyncio.to_thread(server.close)
            writer = Writer(deployment.uri, 200, keys=100, seed=chance.random())
        await asyncio.to_thread(writer.end)

    run(scenario(), 100 + CYCLES * 20)


def test_server_of_mongodb_killed(make_server, deployment):
    """SIGKILL of the server while others and clients of Tidewire write; its journal is synced with
    each commit. Followers stay connected; no acknowledged write is lost, none told twice."""
    server = serve(make_server, deployment).start()
    kept = []

    def kill(server, cycle):
        server.run("put", "people", json.dumps({"_id": f"c{cycle}"}))  # acknowledged
        kept.append(f"c{cycle}")
        deployment.kill()
        deployment.start()
        wait_until(lambda: tailer(server)[0] == "tailing", 60, f"tailing\n{server.tail()}")
        deployment.people.insert_one({"_id": f"k{cycle}"})
        kept.append(f"k{cycle}")

    async def scenario():
        writer = Writer(deployment.uri, 200, keys=100)
        followers = [Follower(server) for _ in range(3)]
        for cycle in range(max(CYCLES // 4, 3) if not LONG else CYCLES):
            await asyncio.to_thread(kill, server, cycle)
            for follower in followers:
                await follower.until(lambda f=follower: kept[-1] in f.set, 60, "a live write")
        await asyncio.to_thread(writer.end)
        for follower in followers:
            await follower.until_equal(deployment.people, 60)
            assert follower.resets == [] and follower.connections == 1
            assert all(key in follower.set for key in kept)
            await follower.close()
        assert writer.writes > 0

    run(scenario(), 100 + CYCLES * 30)


# ---- failures of the server ----


def sees(server, condition, what, seconds=30):
    """Waits until the tailer tells it; while it waits for a server, it tells nothing."""

    def holds():
        state, gauges = tailer(server)
        return gauges and condition(state, gauges)

    try:
        return wait_until(holds, seconds, what)
    except AssertionError as error:
        raise AssertionError(f"{error}: {tailer(server)}\n{server.tail()}") from None


LABEL = ["ResumableChangeStreamError"]
FAILURES = {
    "with the label": {"errorCode": 91, "errorLabels": LABEL},
    "without the label": {"errorCode": 91},
    "cursor not found": {"errorCode": 43},
    "connection closed": {"closeConnection": True},
    "unknown code": {"errorCode": 7777},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failed_get_more_is_resumed(make_server, deployment, failure):
    server = serve(make_server, deployment).start()

    async def scenario():
        follower = Follower(server)
        await follower.until(lambda: follower.syncs > 0, 20, "sync")
        for number in range(5):
            before = tailer(server)[1]["tailer_resumes_total"]
            data = {"failCommands": ["getMore"], **FAILURES[failure]}
            deployment.fail({"times": 1 + number % 2}, **data)
            deployment.people.insert_many([{"_id": f"{number}-{i}"} for i in range(20)])
            await asyncio.to_thread(
                sees, server, lambda _, g: g["tailer_resumes_total"] > before, "a resume"
            )
            await follower.until_equal(deployment.people)
        assert follower.resets == [] and follower.connections == 1
        state, gauges = tailer(server)
        assert gauges["tailer_scans_history_lost_total"] == 0
        await asyncio.to_thread(
            sees, server, lambda _, g: g["tailer_cursor_opens_total"] > 5, "a sixth cursor"
        )
        await follower.close()

    run(scenario())


LOST = {"history_lost": 286, "oversize": 10334, "token_refused": 280}


@pytest.mark.parametrize("reason", LOST)
def test_lost_history_is_compared_and_told_as_changes(make_server, deployment, reason):
    """The same token is never tried again; streams go on without a reset."""
    people = deployment.people
    people.insert_many([{"_id": i, "n": i} for i in range(3000)])
    server = serve(make_server, deployment).start()

    async def scenario():
        follower = Follower(server)
        await follower.until_equal(people)
        deployment.fail({"times": 1}, failCommands=["getMore"], errorCode=LOST[reason])
        await asyncio.to_thread(
            sees, server, lambda _, g: g[f"tailer_scans_{reason}_total"] == 1, "a scan"
        )
        people.insert_one({"_id": "after"})
        people.delete_one({"_id": 7})
        await follower.until_equal(people)
        await asyncio.to_thread(sees, server, lambda s, _: s == "tailing", "tailing")
        assert follower.resets == [] and follower.connections == 1
        assert server.metric(f"tidewire_tailer_scans_{reason}_total") == 1
        await follower.close()

    run(scenario())


def test_pruned_oplog_is_compared(make_server, make_deployment):
    """Records that were written, changed and deleted, and collections that went, while nobody
    listened and the oplog forgot: all of it is told, deletes too, without a reset."""
    deployment = make_deployment(arguments="--oplog-max-entries 60")
    if deployment.given:
        pytest.skip("needs a server with a short oplog")
    people, client = deployment.people, deployment.client
    people.insert_many([{"_id": i, "n": i} for i in range(2500)])
    client.main.gone.insert_many([{"_id": i} for i in range(30)])
    server = serve(make_server, deployment).start()

    async def scenario():
        follower, other = Follower(server), Follower(server, collection="gone")
        await follower.until_equal(people)
        await other.until_equal(client.main.gone)
        server.kill()
        people.delete_many({"_id": {"$lt": 100}})
        people.update_many({"_id": {"$gte": 2400}}, {"$set": {"late": True}})
        people.insert_many([{"_id": f"new{i}"} for i in range(50)])
        client.main.gone.drop()
        for i in range(400):  # these push all of it out of the oplog
            client.main.noise.update_one({"_id": 1}, {"$set": {"i": i}}, upsert=True)
        server.start()
        await asyncio.to_thread(
            sees, server, lambda s, g: g["tailer_scans_history_lost_total"] == 1 and s == "tailing",
            "a scan")  # fmt: skip
        await follower.until_equal(people)
        await other.until(lambda: other.drops == 1 and not other.set, 20, "the drop")
        assert follower.resets == [] and other.resets == []
        await follower.close()
        await other.close()

    run(scenario())


def test_step_down_pauses_and_goes_on(make_server, deployment):
    server = serve(make_server, deployment).start()

    async def scenario():
        follower = Follower(server)
        await follower.until(lambda: follower.syncs > 0, 20, "sync")
        try:
            deployment.client.admin.command({"replSetStepDown": 2, "force": True})
        except pymongo.errors.AutoReconnect:
            pass
        wait_until(lambda: written(deployment), 30, "a write after the step-down")
        await follower.until_equal(deployment.people)
        assert follower.resets == [] and follower.connections == 1
        await follower.close()

    run(scenario())


def written(deployment):
    try:
        return deployment.people.insert_one({"_id": f"s{time.time_ns()}"}).acknowledged
    except pymongo.errors.PyMongoError:
        return False


def test_what_needs_somebody_turns_health_red_and_heals(make_server, deployment):
    deployment.people.insert_many([{"_id": i} for i in range(10)])
    server = serve(make_server, deployment).start()

    async def scenario():
        follower = Follower(server)
        await follower.until_equal(deployment.people)
        deployment.fail("alwaysOn", failCommands=["getMore", "aggregate"], errorCode=13)
        await asyncio.to_thread(
            sees, server, lambda s, _: s.startswith("failed(13)"), "the state", 30
        )
        status, body = server.http("/healthz")
        assert status == 503 and "change_tailer: failed(13)" in body
        late = Follower(server)  # the last good data is served
        await late.until(lambda: len(late.set) == 10, 20, "the last good data")
        deployment.client.admin.command("configureFailPoint", "failCommand", mode="off")
        deployment.people.insert_one({"_id": "healed"})
        await follower.until_equal(deployment.people, 40)
        wait_until(lambda: server.http("/healthz")[0] == 200, 20, "green health")
        for each in (follower, late):
            await each.close()

    run(scenario())


def test_hanging_server_is_left_and_found_again(make_server, deployment):
    if deployment.given:
        pytest.skip("a server of the user's is not stopped")
    server = serve(make_server, deployment).start()

    async def scenario():
        follower = Follower(server)
        await follower.until(lambda: follower.syncs > 0, 20, "sync")
        deployment.pause()
        try:
            await asyncio.to_thread(
                wait_until, lambda: "change stream failed" in server.tail(), 30, "a failure"
            )
        finally:
            deployment.resume()
        deployment.people.insert_one({"_id": "after"})
        await follower.until_equal(deployment.people, 40)
        await follower.close()

    run(scenario())


def test_answers_that_come_at_once_are_slowed(make_server, deployment):
    """A server that does not wait in getMore is not asked without end."""
    server = serve(make_server, deployment).start()
    sees(server, lambda s, _: s == "tailing", "tailing")
    before = tailer(server)[1]["tailer_commands_total"]
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 2, 5, "two seconds of an idle stream")
    commands = tailer(server)[1]["tailer_commands_total"] - before
    seconds = time.monotonic() - begun
    assert commands < seconds * 60, f"{commands} commands in {seconds:.1f} s"


# ---- what belongs to another ----


def test_data_of_another_store_is_refused(make_server, deployment):
    embedded = make_server().start()
    embedded.run("put", "people", '{"_id":"mine"}')
    embedded.stop()
    server = serve(make_server, deployment, directory=embedded.directory)
    server.start(ready=False)
    wait_until(lambda: "give another --data" in tailer_or_none(server), 20, "the refusal")
    assert "give another --data" in server.http("/healthz")[1]


# ---- cost ----


def test_one_cursor_and_no_reads_for_subscribers(make_server, deployment):
    deployment.people.insert_many([{"_id": i, "n": i % 50} for i in range(200)])
    server = serve(make_server, deployment).start()

    async def scenario():
        connections = [await Client.open(server.url()) for _ in range(SUBSCRIPTIONS // 500)]
        for client in connections:
            for mux_id in range(500):
                query = {"people": {"filter": {"n": mux_id % 50}}}
                await client.send(type="subscribe", mux_id=mux_id, collections=query)
        for client in connections:
            for _ in range(500):
                await client.until_sync(None, 60)
        assert deployment.cursors() == 1
        assert server.metric("tidewire_streams") == 500 * len(connections)
        since = (await Client.open(server.url()))
        await since.send(type="subscribe", mux_id=1, collections={"people": "*"})
        at = (await since.until_sync(1))[-1]["since"]
        before = deployment.counters()
        for _ in range(RECONNECTS // 50):
            clients = [await Client.open(server.url()) for _ in range(50)]
            for client in clients:
                await client.send(
                    type="subscribe", mux_id=1, collections={"people": "*"}, since=at
                )
            for client in clients:
                await client.until_sync(1)
                await client.socket.close()
        after = deployment.counters()
        assert after["query"] == before["query"], "a reconnect read from MongoDB"
        assert deployment.cursors() == 1
        for client in [*connections, since]:
            await client.socket.close()

    run(scenario())
