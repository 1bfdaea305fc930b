"""Keys that are fetched, rules that change under live connections, and tokens of services."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from clients import Client, run
from keys import Key, KeyServer, make_authority
from server import BINARY, PATIENCE_S, free_port_run, wait_until
from services import Service
from test_auth import closed_with

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python"))

import tidewire  # noqa: E402

ADMIN = """
    - role: admin
      collection: "*"
      verbs: [read, search, insert, update, remove, dispatch, admin]
"""
OWN = """
    - role: own
      collection: notes
      verbs: [read, insert, update]
      filter: '{"owner": "$claims.sub"}'
"""
READER = """
    - {role: reader, collection: notes, verbs: [read], hidden: [secret]}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)
    return folder


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    """The keys of an identity provider, by algorithm."""
    folder = tmp_path_factory.mktemp("provider")
    return {name: Key(folder, f"key-{name}", name) for name in ("RS256", "ES256", "EdDSA")}


@pytest.fixture
def key_server(authority):
    made = KeyServer(authority)
    yield made
    made.close()


class Guarded:
    """A server whose section auth is a file that a test rewrites."""

    def __init__(self, make_server, folder, layout="one", flags=(), **auth):
        self.file, self.auth = folder / "tidewire.yaml", auth
        self.write(ADMIN)
        self.server = make_server(flags=["--config", str(self.file), *flags], layout=layout)

    def write(self, *rules, more=""):
        lines = "".join(f"  {name}: {value}\n" for name, value in self.auth.items())
        text = "auth:\n  leeway_s: 0\n" + lines + "  rules:" + "".join(rules) + more
        self.file.write_text(text)

    def log(self):
        return (self.server.directory / "server.log").read_text(errors="replace")

    def reload(self, words):
        """SIGHUP to the gateway's process; waits until its log says the words once more."""
        before = self.log().count(words)
        processes = self.server.processes
        process = processes.get("gateway") or processes[None]
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log().count(words) > before, PATIENCE_S, words)


async def said_hello(server, token):
    """A client whose hello was answered, with the answer; an error comes as it is."""
    client = await Client.open(server.url())
    await client.send(type="hello", token=token)
    return client, await client.next()


async def is_let_in(server, token):
    client, answer = await said_hello(server, token)
    await client.socket.close()
    return answer["type"] == "welcome"


def let_in(server, token):
    return run(is_let_in(server, token))


def refusal(server, token):
    """(code, number of the close)"""

    async def scenario():
        async with await Client.open(server.url()) as client:
            await client.send(type="hello", token=token)
            number, frames = await closed_with(client)
            return frames[-1]["code"], number

    return run(scenario())


def test_auth_keys_of_a_set_over_https(make_server, tmp_path, authority, provider, key_server):
    key_server.tell(provider["RS256"])
    guarded = Guarded(
        make_server, tmp_path, jwks=key_server.url, jwks_ca=str(authority / "ca.pem")
    )
    server = guarded.server.start()
    tokens = {name: key.token(roles=["admin"]) for name, key in provider.items()}
    assert let_in(server, tokens["RS256"])
    asked = key_server.asked
    for _ in range(3):  # a set was fetched within the minute: an unknown kid is just a wrong one
        assert refusal(server, tokens["ES256"]) == ("token", 4401)
    assert key_server.asked == asked == 1
    key_server.tell(*provider.values())
    guarded.reload("rules hold now")
    wait_until(lambda: let_in(server, tokens["ES256"]), PATIENCE_S, "the new set")
    assert let_in(server, tokens["EdDSA"]) and let_in(server, tokens["RS256"])
    forged = tokens["ES256"][:-4] + ("AAAA" if tokens["ES256"][-4:] != "AAAA" else "BBBB")
    assert refusal(server, forged) == ("token", 4401)
    # what cannot be used does not replace what can
    for body in (b'{"keys":[]}', b"x" * 70000, b'{"keys":[{"kty":"RSA","n":"AA","e":"AQAB"}]}'):
        key_server.body = body
        guarded.reload("the last good set holds")
        assert let_in(server, tokens["EdDSA"])
    log = guarded.log()
    assert "it has no key for RS256" in log and "it has over 65536 bytes" in log
    assert "is no whole public key" in log
    assert not any(token in log for token in tokens.values())


def test_auth_keys_server_that_is_not_there_yet(make_server, tmp_path, authority, provider):
    port = free_port_run(1)
    guarded = Guarded(
        make_server,
        tmp_path,
        jwks=f"https://localhost:{port}/keys",
        jwks_ca=str(authority / "ca.pem"),
    )
    server = guarded.server.start()
    token = provider["EdDSA"].token(roles=["admin"])
    assert refusal(server, token) == ("unavailable", 4503)  # the client comes again
    status, body = server.http("/api/v1/notes", headers={"Authorization": f"Bearer {token}"})
    assert status == 503 and '"unavailable"' in body
    late = KeyServer(authority, port)
    try:
        late.tell(provider["EdDSA"])
        wait_until(lambda: let_in(server, token), PATIENCE_S, "the set of a server that came late")
    finally:
        late.close()
    assert let_in(server, token)


def test_auth_keys_of_a_stranger_and_of_a_slow_server(
    make_server, tmp_path, provider, key_server
):
    key_server.tell(provider["EdDSA"])
    guarded = Guarded(make_server, tmp_path, jwks=key_server.url)  # the system's authorities
    server = guarded.server.start()
    token = provider["EdDSA"].token(roles=["admin"])
    assert refusal(server, token) == ("unavailable", 4503)
    assert "certificate" in guarded.log() and key_server.asked == 0


def test_auth_keys_hanging_server_delays_nobody_for_long(
    make_server, tmp_path, authority, provider, key_server
):
    key_server.tell(provider["EdDSA"])
    key_server.hold.clear()
    guarded = Guarded(
        make_server, tmp_path, jwks=key_server.url, jwks_ca=str(authority / "ca.pem")
    )
    server = guarded.server.start()  # is ready although nobody answers
    assert "the last good set holds" in guarded.log()
    assert key_server.asked >= 2  # one retry
    key_server.hold.set()
    wait_until(
        lambda: let_in(server, provider["EdDSA"].token(roles=["admin"])), PATIENCE_S, "the set"
    )


@pytest.mark.parametrize("layout", ["one", "ipc"])
def test_auth_rules_change_under_live_connections(make_server, tmp_path, provider, layout):
    (tmp_path / "set").write_text(
        '{"keys":[' + ",".join(json.dumps(k.jwk()) for k in provider.values()) + "]}"
    )
    guarded = Guarded(make_server, tmp_path, layout=layout, jwks=str(tmp_path / "set"))
    guarded.write(ADMIN, OWN)
    server = guarded.server.start()
    admin_token = provider["EdDSA"].token(sub="root", roles=["admin"])
    ada_token = provider["EdDSA"].token(sub="ada", roles=["own"])

    async def scenario():
        admin, _ = await said_hello(server, admin_token)
        await admin.one("put", collection="notes", doc={"_id": 1, "owner": "ada"})
        ada, _ = await said_hello(server, ada_token)
        await ada.send(type="subscribe", mux_id=1, collections={"notes": "*"})
        assert [f.get("key") for f in await ada.until_sync(1)][0] == 1
        # a bad file: the rules before hold, and the log says why
        guarded.write(ADMIN, OWN, more="    - {role: x, collection: y, verbs: [fly]}\n")
        guarded.reload("the rules before hold")
        assert "fly" in guarded.log()
        await ada.one("count", collection="notes")
        # less: whoever it concerns starts anew, others notice nothing
        guarded.write(ADMIN)
        guarded.reload("rules hold now")
        number, frames = await closed_with(ada)
        assert number == 4503 and frames[-1]["code"] == "forbidden", frames
        ada, _ = await said_hello(server, ada_token)
        await ada.send(type="subscribe", mux_id=1, collections={"notes": "*"})
        assert (await ada.next())["code"] == "forbidden"
        await admin.one("put", collection="notes", doc={"_id": 2, "owner": "ada"})
        # more: the same
        guarded.write(ADMIN, OWN)
        guarded.reload("rules hold now")
        assert (await closed_with(ada))[0] == 4503
        ada, _ = await said_hello(server, ada_token)
        await ada.send(type="subscribe", mux_id=1, collections={"notes": "*"})
        told = await ada.until_sync(1)
        assert sorted(f["key"] for f in told[:-1]) == [1, 2]
        await admin.one("count", collection="notes")
        for client in (ada, admin):
            await client.socket.close()

    run(scenario())


CREW = """
    - {role: crew, collection: notes, verbs: [read], filter: '{"team": {"$in": "$claims.teams"}}'}
"""


@pytest.mark.embedded
def test_auth_watch_tells_revoked_and_goes_on_under_other_rules(make_server, tmp_path, provider):
    key = provider["EdDSA"]
    (tmp_path / "set").write_text(json.dumps({"keys": [key.jwk()]}))
    guarded = Guarded(make_server, tmp_path, jwks=str(tmp_path / "set"))
    guarded.write(ADMIN, CREW)
    server = guarded.server.start()
    tokens = {
        name: key.token(sub=name, roles=[role], teams=["red"])
        for name, role in (("root", "admin"), ("ada", "crew"))
    }
    (tmp_path / "token").write_text(tokens["ada"])
    (tmp_path / "token").chmod(0o600)
    out = tmp_path / "watched"

    def put(key, team, owner):
        asks = {"Authorization": f"Bearer {tokens['root']}"}
        doc = {"team": team, "owner": owner}
        assert server.http(f"/api/v1/notes/{key}", "PUT", doc, headers=asks)[0] == 200

    def told(count):
        """Key and fate of so many records, and what is said between, once there is all of it."""
        wait_until(lambda: len(out.read_text().splitlines()) >= count, PATIENCE_S, f"{count} lines")
        frames = [
            json.loads(line) if line[0] == "{" else line for line in out.read_text().splitlines()
        ]
        return [f if isinstance(f, str) else (f["key"], f.get("why", "put")) for f in frames]

    put("a", "red", "ada")
    put("b", "red", "bob")
    words = ["watch", "notes", "--url", server.url(""), "--token", str(tmp_path / "token")]
    with out.open("w") as to:
        watch = subprocess.Popen([BINARY, *words], stdout=to, stderr=to, stdin=subprocess.DEVNULL)
    try:
        begun = told(3)
        assert sorted(begun[:2]) == [("a", "put"), ("b", "put")] and begun[2] == "synced (2)"
        put("b", "blue", "bob")
        put("b", "red", "bob")
        assert told(5)[3:] == [("b", "revoked"), ("b", "put")]
        guarded.write(ADMIN, OWN.replace("own", "crew", 1))
        guarded.reload("rules hold now")
        lost, back, *after = told(10)[5:]
        assert "The rights are others than before" in lost and "resuming from [[" in back
        assert after == ["reset: a whole copy follows", ("a", "put"), "synced (1)"]
        guarded.write(ADMIN)  # none are left: now it ends
        guarded.reload("rules hold now")
        assert watch.wait(timeout=PATIENCE_S) == 1 and "there is no collection" in told(12)[-1]
    finally:
        watch.kill()
        watch.wait()


@pytest.mark.parametrize("layout", ["one", "ipc"])
def test_auth_tokens_of_services(make_server, tmp_path, provider, layout):
    (tmp_path / "set").write_text(json.dumps({"keys": [provider["EdDSA"].jwk()]}))
    url = f"ipc://{tmp_path}/service"
    guarded = Guarded(
        make_server, tmp_path, layout=layout, flags=["--service", url],
        jwks=str(tmp_path / "set"), services="token",
    )  # fmt: skip
    guarded.write(ADMIN, OWN, READER)
    guarded.server.start()
    key = provider["EdDSA"]
    admin, own, reader = (
        key.token(sub="ada", roles=[role]) for role in ("admin", "own", "reader")
    )
    with Service(url) as service:
        doc = {"_id": 1, "owner": "ada", "secret": "s"}

        def code(op, token, **fields):
            fields |= {} if token is None else {"token": token}
            answer = service.ask(op, **fields)
            return "ok" if answer["ok"] else answer["code"]

        assert code("put", None, collection="notes", doc=doc) == "token"
        assert code("put", "a.b.c", collection="notes", doc=doc) == "token"
        assert code("put", 5, collection="notes", doc=doc) == "token"
        assert code("put", key.token(seconds=-5), collection="notes", doc=doc) == "token"
        assert code("put", admin, collection="notes", doc=doc) == "ok"
        assert code("put", reader, collection="notes", doc=doc) == "forbidden"
        other = {"_id": 2, "owner": "bob"}
        assert code("put", own, collection="notes", doc=other) == "forbidden"
        ops = [{"op": "put", "doc": other}]
        answer = service.ask("batch", collection="notes", token=own, ops=ops)
        assert "forbidden" in str(answer) and not answer.get("ok"), str(answer)
        assert code("batch", admin, collection="notes", ops=ops) == "ok"
        assert code("dispatch", own, collection="notes", message=1) == "forbidden"
        assert code("dispatch", admin, collection="notes", message=1) == "ok"
        assert [d["_id"] for d in service.ask("find", collection="notes", token=own)["docs"]] == [1]
        docs = service.ask("find", collection="notes", token=reader)["docs"]
        assert len(docs) == 2 and all("secret" not in d for d in docs)
        sync = service.ask("sync", collection="notes", token=own, manifest=[])
        assert "2" not in str([v.get("key") for v in sync.get("docs", [])]), sync
        assert code("replay", own, collection="notes", after=0) == "forbidden"
        assert code("replay", None, collection="notes", after=0) == "token"
        rows = service.ask("replay", collection="notes", after=0, token=reader)["rows"]
        assert [r["key"] for r in rows] == [1, 2] and "secret" not in rows[0]["doc"], rows
        assert admin not in guarded.log()
    feeds(url, key, guarded)


def feeds(url, key, guarded):
    """The Python client's function gives a token, is asked again, and its feed asks with it."""
    given = []

    def give():
        # the first is over at once: the server refuses it, and another is asked for
        seconds = -5 if not given else 600
        given.append(key.token(sub="ada", roles=["reader"], seconds=seconds))
        return given[-1]

    admin = key.token(sub="root", roles=["admin"])
    with tidewire.Client(url, token=admin) as writer, tidewire.Client(url, token=give) as reader:
        assert reader.count("notes") == 2 and len(given) == 2
        with pytest.raises(tidewire.Refused):
            reader.put("notes", {"_id": 9})
        with reader.feed("notes", idle=PATIENCE_S) as feed:
            rows = iter(feed)
            assert [next(rows).key for _ in range(2)] == [1, 2]
            writer.put("notes", {"_id": 3, "secret": "x"})
            row = next(rows)
            assert row.key == 3 and "secret" not in row.doc
            assert writer.put_many("notes", ({"_id": i} for i in range(10, 40))).count == 30
            assert [next(rows).key for _ in range(30)] == list(range(10, 40))
        assert len(given) == 2  # it is kept until shortly before its end
        with tidewire.Client(url) as nobody, pytest.raises(tidewire.Refused) as refused:
            nobody.count("notes")
        assert refused.value.code == "token"
    # who loses the right is told so by the next request
    guarded.write(ADMIN)
    guarded.reload("rules hold now")
    with tidewire.Client(url, token=given[-1]) as reader:
        with pytest.raises(tidewire.Refused) as refused:
            reader.count("notes")
        assert refused.value.code == "forbidden"


def test_auth_service_without_token_is_trusted_by_default(make_server, tmp_path, provider):
    (tmp_path / "set").write_text(json.dumps({"keys": [provider["EdDSA"].jwk()]}))
    url = f"ipc://{tmp_path}/service"
    guarded = Guarded(
        make_server, tmp_path, flags=["--service", url], jwks=str(tmp_path / "set")
    )
    guarded.write(ADMIN, READER)
    guarded.server.start()
    with Service(url) as service:
        assert service.ask("put", collection="notes", doc={"_id": 1})["ok"]
        token = provider["EdDSA"].token(roles=["reader"])
        held = service.ask("put", collection="notes", doc={"_id": 2}, token=token)
        assert held["code"] == "forbidden"  # whoever shows one is held to it


def test_auth_bad_options_are_refused(make_server, tmp_path):
    cases = {
        "jwks: http://localhost/keys": "is neither https://... nor a file",
        "services: all": "allowed are trusted and token",
        "services: token": "there are no keys",
    }
    for line, words in cases.items():
        file = tmp_path / "tidewire.yaml"
        more = "" if "jwks" in line or "token" in line else "  jwks: /nowhere\n"
        file.write_text(f"auth:\n  {line}\n{more}")
        server = make_server(flags=["--config", str(file)]).start(ready=False)
        wait_until(lambda: server.processes[None].poll() is not None, PATIENCE_S, "the end")
        assert server.processes.pop(None).returncode == 1
        assert words in server.tail(), server.tail()


def test_auth_secrets_are_shown_nowhere(make_server, tmp_path):
    secret = "a-secret-of-more-than-32-bytes-of-text"
    file = tmp_path / "secret.key"
    file.write_text(secret + "\n")
    file.chmod(0o600)
    config = tmp_path / "tidewire.yaml"
    config.write_text(
        f'auth:\n  keys: [{{kid: main, alg: HS256, file: "{file}"}}]\n  rules:{ADMIN}'
    )
    server = make_server(flags=["--config", str(config)]).start()
    words = [BINARY, "token", "--config", str(config), "--role", "admin"]
    token = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert let_in(server, token)
    assert refusal(server, token[:-6] + "AAAAAA") == ("token", 4401)
    headers = {"Authorization": f"Bearer {token}"}
    assert server.http("/api/v1/notes", headers=headers)[0] == 200
    shown = (server.directory / "server.log").read_text()
    for page in ("/metrics", "/varz", "/connz", "/streamz", "/actorz", "/configz"):
        shown += server.http(page, admin=True)[1]
    env = dict(os.environ, TIDEWIRE_MONGO_URI="mongodb://ada:s3cret@nowhere/x")
    for verb in (["config", "show", "--config"], ["check-config"]):
        done = subprocess.run(
            [BINARY, *verb, str(config)], capture_output=True, text=True, check=True, env=env
        )
        shown += done.stdout + done.stderr
    assert "mongodb://ada:***@nowhere/x" in shown
    assert secret not in shown and "s3cret" not in shown
    assert token not in shown and token.rpartition(".")[2] not in shown
    file.chmod(0o640)
    refused = make_server(flags=["--config", str(config)]).start(ready=False)
    wait_until(lambda: refused.processes[None].poll() is not None, PATIENCE_S, "the end")
    assert refused.processes.pop(None).returncode == 1
    assert "others may read it: chmod 600 it" in refused.tail()
