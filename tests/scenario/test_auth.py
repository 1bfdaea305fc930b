"""Tokens and rights, from outside: who comes in, until when, and what nobody may see.

Tokens are signed here by Python's own hmac, except where the command line's verb is tested.
"""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time

import pytest
import websockets
from clients import Client, connect, run
from server import BINARY

SECRET = "0123456789abcdef0123456789abcdef"
VERBS = "[read, search, insert, update, remove, dispatch]"
CONFIG = """
auth:
  issuer: https://id.example
  leeway_s: {leeway}
  hello_ms: {hello_ms}
  keys:
    - {{kid: main, alg: HS256, file: "{secret}"}}
  rules:
    - role: admin
      database: "*"
      collection: "*"
      verbs: [read, search, insert, update, remove, dispatch, admin]
    - role: own
      collection: notes
      verbs: {verbs}
      filter: '{{"owner": "$claims.sub"}}'
      hidden: [secret, deep.secret]
    - {{role: guest, collection: news, verbs: [read]}}
    - role: wide
      collection: "*"
      verbs: [read]
      filter: '{{"owner": "$claims.sub"}}'
      hidden: [secret, deep.secret]
collections:
  - name: notes
    search: {{index: notes}}
  - {{name: news}}
  - {{name: others}}
"""


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(sub="ada", roles=("own",), seconds=600, secret=SECRET, **more):
    claims = {"iss": "https://id.example", "sub": sub, "roles": list(roles)}
    claims |= {"exp": time.time() + seconds} | more
    text = ".".join(
        encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "main"}, claims)
    )
    return text + "." + encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))


@pytest.fixture
def guarded(make_server, tmp_path):
    def make(leeway=30, hello_ms=60000, flags=(), start=True):
        secret = tmp_path / "secret.key"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o600)
        config = tmp_path / "tidewire.yaml"
        config.write_text(
            CONFIG.format(leeway=leeway, hello_ms=hello_ms, secret=secret, verbs=VERBS)
        )
        server = make_server(flags=["--config", str(config), *flags])
        return server.start() if start else server

    return make


async def opened(server, path="/ws", **claims):
    client = await Client.open(server.url(path))
    await client.send(type="hello", token=token(**claims))
    welcome = await client.next(30)
    assert welcome["type"] == "welcome", welcome
    return client


async def closed_with(client, seconds=60):
    """The number by which the server ends a connection, and what it said before."""
    frames = []
    try:
        while True:
            frames.append(await client.receive(seconds))
    except websockets.exceptions.ConnectionClosed as closed:
        return closed.rcvd.code, frames


def test_auth_hello_comes_first(guarded):
    server = guarded()

    async def scenario():
        async with await Client.open(server.url()) as client:
            await client.send(type="subscribe", mux_id=1, notes="*")
            refused = await client.next(30)
            assert (refused["code"], refused["mux_id"]) == ("token", 1)
            await client.send(action="find", reqID=2, collection="notes")
            refused = await client.next(30)
            assert (refused["code"], refused["reqID"]) == ("token", 2)
            await client.send(type="hello", token=token())
            welcome = await client.next(30)
            assert welcome["type"] == "welcome" and welcome["collections"] == ["notes"]
            assert 0 < welcome["expires"] - time.time() < 700
            await client.send(type="subscribe", mux_id=1, notes="*")
            assert (await client.next(30))["type"] == "sync"
        for bad in (token(seconds=-60), token(secret="x" * 32), token(iss="other"), "a.b.c", 5):
            async with await Client.open(server.url()) as client:
                await client.send(type="hello", token=bad)
                code, frames = await closed_with(client)
                assert code == 4401 and frames[-1]["code"] == "token", frames
        async with await Client.open(server.url()) as client:
            await client.send(type="hello")
            assert (await closed_with(client))[0] == 4401
        async with await Client.open(server.url()) as client:
            await client.socket.send('{"type":"hello","token":"' + "x" * 20000)
            assert (await closed_with(client))[0] == 4413

    run(scenario())
    assert token()[-20:] not in server.tail(1000)


def test_auth_token_by_the_handshake(guarded):
    server = guarded()

    async def scenario():
        good = token()
        offered = ["tidewire", good]
        async with await connect(server.url(), subprotocols=offered) as socket:
            assert socket.subprotocol == "tidewire"  # never the token
            await socket.send('{"action":"count","reqID":1,"collection":"notes"}')
            assert json.loads(await socket.recv())["count"] == 0
        async with await connect(
            server.url(), additional_headers={"Authorization": f"Bearer {good}"}
        ) as socket:
            await socket.send('{"type":"hello"}')
            assert json.loads(await socket.recv())["type"] == "welcome"
        for wrong in ({"Authorization": "Bearer abc"}, {"Authorization": f"Basic {good}"}):
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                await websockets.connect(server.url(), additional_headers=wrong)
            assert refused.value.response.status_code == 401
        assert good not in server.tail(1000)

    run(scenario())
    asks = {"Authorization": f"Bearer {token()}"}
    assert server.http("/api/v1/notes")[0] == 401
    assert server.http("/api/v1/notes", headers=asks)[0] == 200
    assert server.http("/api/v1/others", headers=asks)[0] == 403
    assert server.http("/healthz")[0] == 200


def test_auth_who_says_no_hello_is_ended(guarded):
    server = guarded(hello_ms=200)

    async def scenario():
        async with await Client.open(server.url()) as client:
            assert (await closed_with(client))[0] == 4408

    run(scenario())


def test_auth_ends_with_its_token(guarded):
    server = guarded(leeway=0)

    async def expired(seconds):
        """What ends a connection whose token is good for so long; None: it came too late."""
        client = await Client.open(server.url())
        await client.send(type="hello", token=token(seconds=seconds))
        await client.send(type="subscribe", mux_id=1, notes="*")
        code, frames = await closed_with(client)
        return (code, frames) if frames[0]["type"] == "welcome" else None

    async def scenario():
        seconds = 2
        while (ended := await expired(seconds)) is None:
            seconds *= 2  # a busy machine
        code, frames = ended
        assert code == 4401 and frames[-1]["code"] == "token"
        async with await opened(server, seconds=300) as client:  # refreshed: it lives on
            await client.send(type="hello", token=token(seconds=600))
            welcome = await client.next(30)
            assert welcome["type"] == "welcome" and welcome["expires"] > time.time() + 300
            await client.send(type="hello", token=token(sub="bob"))
            code, frames = await closed_with(client)
            assert code == 4401 and "subject" in frames[-1]["message"], frames
        async with await opened(server) as client:  # other rights: it begins anew
            await client.send(type="hello", token=token(roles=["guest"]))
            code, frames = await closed_with(client)
            assert code == 4503 and frames[-1]["code"] == "forbidden", frames

    run(scenario())


HIDDEN = "HIDDEN"


def note(key, owner, n=0, shown="mine"):
    mark = shown if owner == "ada" else HIDDEN
    deep = {"secret": HIDDEN, "x": n}
    return {"_id": key, "owner": owner, "n": n, "mark": mark, "secret": HIDDEN, "deep": deep}


async def streams_of(server, **claims):
    """Connections of every family that is told of changes, each with the frames it has heard."""
    stream = await opened(server, **claims)
    await stream.send(type="subscribe", mux_id=1, notes="*")
    await stream.send(type="subscribe", mux_id=2, notes={"fields": ["secret", "deep", "mark"]})
    changes = await opened(server, "/changes", **claims)
    clients = {"stream": stream, "changes": changes}
    if server.database == "main":  # with MongoDB a database must be declared to be listened to
        clients["events"] = await opened(server, **claims)
        await clients["events"].send(event="DB_SCHEMA", db="main")
    heard = {name: [] for name in clients}
    synced = set()  # in whatever order
    while synced != {1, 2}:
        heard["stream"] += await stream.until_sync(None, 30)
        synced.add(heard["stream"][-1]["mux_id"])
    heard["changes"] += await changes.until_sync(None, 30)
    if "events" in clients:
        heard["events"] += await clients["events"].until(lambda f: f.get("event") == "DB_SYNC", 30)
    return clients, heard


def test_auth_no_row_and_no_field_outside_the_rights(guarded):
    """Writes of an admin that ada may see in part: whatever she hears or asks, by whatever door."""
    server = guarded()

    async def scenario():
        admin = await opened(server, "/db", sub="root", roles=["admin"])
        for i in range(30):
            await admin.one("put", collection="notes", doc=note(i, ["ada", "bob", "eve"][i % 3], i))
        done = await admin.one("put", collection="others", doc={"_id": 1, "x": HIDDEN})
        await log_reaches_as(server, admin, done["since"])
        others, _ = await streams_of(server, sub="root", roles=["admin"])  # who may hear all
        clients, heard = await streams_of(server)
        clients["wide"] = await opened(server, "/changes", roles=["wide"])
        heard["wide"] = await clients["wide"].until_sync(None, 30)
        seen = [f["key"] for f in heard["stream"] if f.get("op") == "put" and f["mux_id"] == 1]
        assert sorted(seen) == list(range(0, 30, 3))
        # live: hers change, leave and come; others' change
        for i in (0, 1, 2):
            await admin.one("update", collection="notes", id=i, fields={"secret": HIDDEN + "2"})
        await admin.one("update", collection="notes", id=3, fields={"owner": "bob", "mark": HIDDEN})
        await admin.one("update", collection="notes", id=4, fields={"owner": "ada", "mark": "new"})
        await admin.one("remove", collection="notes", id=5)
        await admin.one("remove", collection="notes", id=6)
        await admin.one("put", collection="others", doc={"_id": 2, "x": HIDDEN})
        last = await admin.one("put", collection="notes", doc=note(99, "ada", shown="last"))
        assert last["version"] == 1
        heard["stream"] += await clients["stream"].until(
            lambda f: f.get("key") == 99 and f["mux_id"] == 1, 30
        )
        for name in ("changes", "wide"):
            heard[name] += await clients[name].until(
                lambda f: f.get("documentKey") == {"_id": 99}, 30
            )
            came = [f["op"] for f in heard[name] if f.get("documentKey") == {"_id": 4}]
            assert came == ["insert"]  # for her it was not there before
        if "events" in clients:
            heard["events"] += await clients["events"].until(lambda f: f.get("key") == 99, 30)
        live = {
            f["key"]: f.get("why", f.get("op"))
            for f in heard["stream"]
            if f.get("mux_id") == 1 and "key" in f
        }
        assert (live[3], live[4], live[6]) == ("revoked", "put", "deleted")
        assert 1 not in live and 2 not in live and 5 not in live
        ada = await opened(server, "/db")
        answers = []
        for words in (
            {"action": "find"},
            {"action": "find", "query": {"n": {"$gte": 0}}, "sort": {"n": -1}},
            {"action": "find", "query": {"secret": HIDDEN}},
            {"action": "getByIds", "ids": list(range(30))},
            {"action": "count", "query": {"owner": "bob"}},
            {"action": "detail", "id": 1},
            {"action": "get_field", "id": 0, "field": "secret"},
            {"action": "aggregate", "pipeline": [{"$sort": {"_id": 1}}]},
            {"action": "find_one", "query": {"owner": "eve"}},
            {"action": "schema"},
            {"action": "sync", "manifests": {"notes": {"0": 1, "1": 1}}},
            {"action": "update", "id": 1, "fields": {"n": 5}},
            {"action": "update", "id": 0, "fields": {"owner": "bob"}},
            {"action": "insert", "doc": {"_id": 1, "owner": "ada"}},
            {"action": "remove", "id": 1},
            {"action": "drop"},
        ):
            if words["action"] not in ("sync", "schema"):
                words["collection"] = "notes"
            answers += await ada.ask(**words, seconds=30)
        for words in ({"action": "search", "query": "HIDDEN"}, {"action": "search", "body": {}}):
            answers += await ada.ask(**words, index="notes", seconds=30)
        answers += await ada.ask("find", collection="others")
        told = json.dumps([heard, answers])
        assert HIDDEN not in told.replace('"query": "HIDDEN"', "")
        codes = [a.get("code") for a in answers if a.get("type") == "error"]
        assert codes.count("forbidden") == 6 and codes.count("not_found") == 3, codes
        asks = {"Authorization": f"Bearer {token()}"}
        for path in ("notes", "notes/0", "notes/1", "others", "notes?limit=5"):
            assert HIDDEN not in server.http(f"/api/v1/{path}", headers=asks)[1]
        for client in (admin, ada, *clients.values(), *others.values()):
            await client.socket.close()

    run(scenario())


def gone(frames, mux_id):
    """What a stream says of records that are gone, and of those that came back: in order."""
    told = []
    for frame in frames:
        if frame.get("mux_id") != mux_id or "key" not in frame or frame["key"] == 99:
            continue
        if frame["type"] == "remove":  # the same names whatever the reason, and no others
            names = "type mux_id collection key why srv_id seqno".split()
            assert sorted(frame.keys() - {"prev"}) == sorted(names), frame
        told.append((frame["seqno"], frame["key"], frame.get("why", "put")))
    return told


NARROW = {"filter": {"n": {"$lt": 10}}}


async def resumed(server, kept, **more):
    """Streams 1 (with a filter) and 2 from kept positions, and their frames up to each sync."""
    client = await opened(server)
    await client.send(type="subscribe", mux_id=1, notes=NARROW, **kept[1], **more)
    await client.send(type="subscribe", mux_id=2, notes="*", **kept[2], **more)
    frames = await client.until_sync(1, 30)
    if not any(f["type"] == "sync" and f["mux_id"] == 2 for f in frames):
        frames += await client.until_sync(2, 30)
    return client, frames


def test_auth_revoked_is_told_live_and_on_resume(guarded):
    """Owner moved: revoked. The stream's own filter: left. The same words to who comes back."""
    server = guarded()

    async def scenario():
        admin = await opened(server, "/db", sub="root", roles=["admin"])
        for key in (1, 2, 3, 4, 5):
            done = await admin.one("put", collection="notes", doc=note(key, "ada", 1))
        await log_reaches_as(server, admin, done["since"])
        live, begun = await resumed(server, {1: {}, 2: {}})
        kept = {
            f["mux_id"]: {"since": f["since"], "query": f["query"]}
            for f in begun
            if f["type"] == "sync"
        }
        changes = await opened(server, "/changes")
        await changes.until_sync(None, 30)
        await admin.one("put", collection="notes", doc=note(1, "bob", 1))
        await admin.one("put", collection="notes", doc=note(2, "ada", 50))
        await admin.one("remove", collection="notes", id=3)
        await admin.one("put", collection="notes", doc=note(4, "bob", 50))
        await admin.one("put", collection="notes", doc=note(5, "bob", 1))
        await admin.one("put", collection="notes", doc=note(1, "eve", 2))  # nothing of hers
        await admin.one("put", collection="notes", doc=note(5, "ada", 2))
        done = await admin.one("put", collection="notes", doc=note(99, "ada", 1))
        heard = []
        while sum(f.get("key") == 99 for f in heard) < 2:
            heard.append(await live.next(30))
        narrow, wide = gone(heard, 1), gone(heard, 2)
        assert [told[1:] for told in narrow] == [
            (1, "revoked"),
            (2, "left"),
            (3, "deleted"),
            (4, "revoked"),  # n of what is not hers any more is not told by another word
            (5, "revoked"),
            (5, "put"),
        ]
        assert [told[1:] for told in wide] == [
            (1, "revoked"),
            (2, "put"),
            (3, "deleted"),
            (4, "revoked"),
            (5, "revoked"),
            (5, "put"),
        ]
        await log_reaches_as(server, admin, done["since"])
        late, again = await resumed(server, kept)
        assert not any(f["type"] == "reset" for f in again)
        assert (gone(again, 1), gone(again, 2)) == (narrow, wide)
        # a copy that is compared: what was never hers and what never was are told alike
        have = {"manifests": {"notes": [[1, 1], [77, 1]]}}
        copies, compared = await resumed(server, {1: {}, 2: {}}, **have)
        told = [(f["key"], f["why"]) for f in compared if f["type"] == "remove"]
        assert sorted(told) == [(1, "left")] * 2 + [(77, "left")] * 2
        other = await changes.until(lambda f: f.get("documentKey") == {"_id": 99}, 30)
        ops = [f["op"] for f in other if f.get("documentKey") == {"_id": 1}]
        assert ops == ["delete"] and "why" not in json.dumps(other)
        assert HIDDEN not in json.dumps([heard, again, other])
        for client in (admin, live, changes, late, copies):
            await client.socket.close()

    run(scenario())


async def log_reaches_as(server, admin, since):
    """Waits until the log has what the store has acknowledged, as clients.log_reaches does."""
    probe = await opened(server, sub="root", roles=["admin"])
    wanted = dict(map(tuple, since))
    while True:
        await probe.send(type="subscribe", mux_id=0, since="now", collections={"none": "*"})
        at = dict(map(tuple, (await probe.until_sync(0, 30))[-1]["since"]))
        if all(at.get(srv, 0) >= seqno for srv, seqno in wanted.items()):
            break
        await probe.send(type="close", mux_id=0)
        await probe.until(lambda f: f.get("type") == "closed", 30)
    await probe.socket.close()


@pytest.mark.embedded
def test_auth_opens_the_door_beyond_loopback(guarded, tmp_path):
    server = guarded(start=False)
    server.flags += ["--listen", f"0.0.0.0:{server.port}", "--insecure"]  # there is no TLS
    server.start()
    assert server.http("/api/v1/notes")[0] == 401
    made = subprocess.run(
        [BINARY, "token", "--config", str(tmp_path / "tidewire.yaml"), "--role", "admin"],
        capture_output=True,
        text=True,
        check=True,
    )
    env = dict(os.environ, TIDEWIRE_TOKEN=made.stdout.strip())
    server.run("put", "notes", '{"_id":1,"owner":"ada"}', env=env)
    assert '"owner":"ada"' in server.run("get", "notes", "1", env=env).stdout
    assert server.run("get", "notes", "1", check=False).returncode != 0
    kept = tmp_path / "token"
    kept.write_text(made.stdout)
    kept.chmod(0o600)
    assert '"owner":"ada"' in server.run("get", "notes", "1", "--token", str(kept)).stdout
