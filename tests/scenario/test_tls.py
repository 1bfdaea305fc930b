"""TLS on the public listener: clients of every kind, what is refused, what an attacker holds.

The clients are OpenSSL's by way of Python's ssl, of the C client (libwebsockets), of Node and of
Chromium.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess

import pytest

from clients import Client, run
from history import check
from server import BINARY, ROOT, wait_until
from workload import History


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_certificate(folder, name):
    """NAME.pem signs itself, for this machine's names; NAME.key is its key."""
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "2", "-subj", f"/CN={name}",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem"),
    )  # fmt: skip
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tls")
    for name in ("one", "two"):
        make_certificate(made, name)
    return made


@pytest.fixture
def files(folder, tmp_path, monkeypatch):
    """A copy that a test may change; all clients of the test believe in both certificates."""
    for each in folder.iterdir():
        shutil.copy(each, tmp_path / each.name)
        (tmp_path / each.name).chmod(0o600)
    both = (tmp_path / "one.pem").read_text() + (tmp_path / "two.pem").read_text()
    (tmp_path / "both.pem").write_text(both)
    for variable in ("SSL_CERT_FILE", "TIDEWIRE_CA", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.setenv(variable, str(tmp_path / "both.pem"))
    return tmp_path


def flags_of(files, name="one"):
    return ["--tls-cert", str(files / f"{name}.pem"), "--tls-key", str(files / f"{name}.key")]


@pytest.fixture
def secure(make_server, files):
    return make_server(flags=flags_of(files), env={}).start()


def connect(server, context=None, **more):
    context = context or ssl.create_default_context(**more)
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    return context.wrap_socket(plain, server_hostname="localhost")


def figure(server, name):
    return int(server.metric(f"tidewire_{name}"))


def begun(server):
    """Handshakes so far, with those that are under way."""
    return sum(figure(server, f"handshakes{more}") for more in ("", "_total", "_failed_total"))


@pytest.mark.sanitize
def test_streams_requests_and_big_documents(secure):
    """A frame over many records in both directions, and one that is cut at a full socket."""
    big = "x" * 60000  # a frame is 64 KiB at most

    async def scenario():
        async with await Client.open(secure.url()) as client:
            await client.send(type="subscribe", mux_id=1, collections={"things": {}})
            await client.until_sync()
            client.socket.transport.pause_reading()
            async with await Client.open(secure.url("/db")) as db:
                count = 0
                while figure(secure, "blocked_total") == 0 or count < 40:
                    await db.one("put", collection="things", doc={"_id": count, "big": big})
                    count += 1
                await db.one("put", collection="things", doc={"_id": "end"})
                assert (await db.one("get", collection="things", id=3))["doc"]["big"] == big
            client.socket.transport.resume_reading()
            told = await client.until(lambda f: f.get("key") == "end")
            assert [f["key"] for f in told if "doc" in f] == [*range(count), "end"]
            assert all(f["doc"]["big"] == big for f in told if f.get("key", "end") != "end")

    run(scenario())
    status, text = secure.http("/api/v1/things/end")
    assert status == 200 and json.loads(text)["_id"] == "end"


@pytest.mark.sanitize
@pytest.mark.timeout(300)
def test_nothing_is_lost_or_repeated_over_tls(make_server, files):
    """The checker's writers and subscribers over TLS, at two gateways that are killed."""
    server = make_server(flags=[*flags_of(files), "--gateways", "2"]).start()

    async def scenario():
        history = History(server, 7)

        async def kill():
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

        subscribers = await history.play(1, kill, most=60)
        check(history.writes, subscribers, squashes=True)

    run(scenario())


def test_versions_and_protocols(secure):
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with connect(secure, context) as peer:
        assert peer.version() == "TLSv1.3"
        assert peer.selected_alpn_protocol() == "http/1.1"
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(secure, context) as peer:
        assert peer.version() == "TLSv1.2" and peer.selected_alpn_protocol() is None
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert peer.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError):
        connect(secure, context)
    old = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", "-tls1_1", "-cipher",
         "ALL:@SECLEVEL=0"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert old.returncode != 0 and "alert protocol version" in old.stderr


def test_plain_http_is_told_where_it_is(secure):
    for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /api/v1/a HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=60) as peer:
            peer.sendall(request)
            answer = peer.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        told = json.loads(answer.split(b"\r\n\r\n")[1])
        assert told["code"] == "bad_message" and "https:// and wss://" in told["message"]


@pytest.mark.sanitize
def test_what_is_no_handshake_ends_and_leaves_nothing(secure):
    hello = bytes.fromhex("160301") + (512).to_bytes(2, "big")  # a head, and nothing of the record
    garbage = [b"\x00" * 64, os.urandom(300), hello + os.urandom(512), b"\x16\x03\x01\xff\xff" * 9]
    for bytes_ in garbage:
        with socket.create_connection(("127.0.0.1", secure.port), timeout=60) as peer:
            peer.sendall(bytes_)
            try:
                while peer.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    before = begun(secure)
    half = [socket.create_connection(("127.0.0.1", secure.port)) for _ in range(20)]
    for peer in half:
        peer.sendall(hello)
    wait_until(lambda: begun(secure) >= before + 20, 60, "20 that have begun")
    assert secure.http("/readyz")[0] == 200, "they are in nobody's way"
    failed = len(garbage) + 20
    for peer in half[10:]:
        peer.close()
    wait_until(lambda: figure(secure, "handshakes_failed_total") >= failed - 10, 60, "10 gone")
    for peer in half[:10]:  # the server ends them
        peer.settimeout(60)
        assert peer.recv(1) == b""
        peer.close()
    wait_until(lambda: figure(secure, "handshakes_failed_total") == failed, 60, "all gone")
    assert figure(secure, "handshakes") == 0


def test_unfinished_handshakes_are_bounded_in_number(secure):
    limit = 1024  # TW_HANDSHAKES_MAX
    before = begun(secure)
    silent = [socket.create_connection(("127.0.0.1", secure.port)) for _ in range(limit + 50)]

    def all_that_may():
        assert figure(secure, "handshakes") <= limit, "the kernel holds the others"
        return begun(secure) >= before + limit

    wait_until(all_that_may, 60, "the limit")
    assert secure.http("/metrics", admin=True)[0] == 200, "the admin listener still accepts"
    for peer in silent:
        peer.close()
    assert secure.http("/readyz", timeout=60)[0] == 200


def test_certificate_is_read_again_on_sighup(make_server, files):
    shutil.copy(files / "one.pem", files / "now.pem")
    shutil.copy(files / "one.key", files / "now.key")
    (files / "now.key").chmod(0o600)
    server = make_server(flags=[*flags_of(files, "now"), "--gateways", "2"]).start()

    def name():
        with connect(server) as peer:
            return dict(pair[0] for pair in peer.getpeercert()["subject"])["commonName"]

    def hang_up():
        server.processes[None].send_signal(signal.SIGHUP)

    def logged(text):
        told = (server.directory / "server.log").read_text(errors="replace")
        return told.count(text) == 2 and told

    old = connect(server)
    assert name() == "one"
    (files / "now.pem").write_text("this is no certificate")
    hang_up()
    told = wait_until(lambda: logged("the old certificate stays"), 60, "a refusal by both")
    assert "tls.cert" in told
    assert name() == "one"
    shutil.copy(files / "two.pem", files / "now.pem")
    shutil.copy(files / "two.key", files / "now.key")
    hang_up()
    wait_until(lambda: logged("the certificate was read again"), 60, "both have read it")
    assert name() == "two"
    old.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert old.makefile("rb").read().startswith(b"HTTP/1.1 200 "), "what was there goes on"
    old.close()


def refused(*flags):
    done = subprocess.run(
        [BINARY, "serve", "--memory", "--listen", "127.0.0.1:0", "--admin", "", *flags],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_files_that_do_not_do_are_refused_by_name(files):
    cert, key = flags_of(files)[:2], flags_of(files)[2:]
    assert "a certificate and its key" in refused(*cert)
    assert "a certificate and its key" in refused(*key)
    assert "none.key cannot be read" in refused(*cert, "--tls-key", str(files / "none.key"))
    assert "tls.cert: " in refused(*key, "--tls-cert", str(files / "none.pem"))
    assert "is not the key of" in refused(*cert, "--tls-key", str(files / "two.key"))
    assert "no private key" in refused(*cert, "--tls-key", str(files / "two.pem"))
    locked = files / "locked.key"
    openssl(
        "pkey", "-in", str(files / "one.key"), "-aes256", "-passout", "pass:secret",
        "-out", str(locked),
    )  # fmt: skip
    locked.chmod(0o600)
    assert "without a password" in refused(*cert, "--tls-key", str(locked))
    (files / "one.key").chmod(0o640)
    assert "others may read it: chmod 600 it" in refused(*cert, *key)


def test_beyond_loopback_needs_tls_as_well_as_auth(files):
    config = files / "auth.yaml"
    secret = files / "secret"
    secret.write_text("s" * 40)
    secret.chmod(0o600)
    config.write_text(
        f"auth:\n  keys: [{{kid: main, alg: HS256, file: {secret}}}]\n"
        "  rules:\n    - {role: admin, collection: notes, verbs: [read]}\n"
    )
    listen = ["--listen", "0.0.0.0:0"]
    assert "let everybody in" in refused(*listen)
    assert "let everybody in" in refused(*listen, *flags_of(files))
    assert "there is no TLS" in refused(*listen, "--config", str(config))


def test_commands_check_the_certificate(secure, files, monkeypatch):
    url = ["--url", f"wss://localhost:{secure.port}"]
    believes = ["--ca", str(files / "one.pem")]
    done = secure.run("put", "people", '{"_id":1,"name":"Ada"}')  # TIDEWIRE_CA is set
    assert done.returncode == 0
    for name in ("SSL_CERT_FILE", "TIDEWIRE_CA"):
        monkeypatch.delenv(name)

    def get(*words):
        return subprocess.run(
            [BINARY, "get", "people", "1", *words],
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    assert '"Ada"' in get(*url, *believes).stdout
    assert '"Ada"' in get(*url, "--any-certificate").stdout
    for words in (url, [*url, "--ca", str(files / "two.pem")]):
        done = get(*words)
        assert done.returncode == 1 and "--ca FILE" in done.stderr, done.stderr
    watch = subprocess.Popen(
        [BINARY, "watch", "people", "--synced", *url, *believes],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    told = [watch.stdout.readline(), watch.stdout.readline()]
    watch.kill()
    watch.communicate()
    assert '"Ada"' in told[0] and "synced (1)" in told[1]


def test_bench_measures_a_server_with_tls(secure, tmp_path):
    words = ["bench", "tls", "-c", "5", "--rate", "50", "--seconds", "1"]
    saved = tmp_path / "run.json"
    secure.run(*words, "--json", str(saved))
    figures = json.loads(saved.read_text())["figures"]
    assert figures["deliveries"] == 5 * figures["events"] > 0
    done = run_words(*words, "--url", f"ws://127.0.0.1:{secure.port}")
    assert done.returncode == 1 and "is without TLS" in done.stderr


def run_words(*words):
    return subprocess.run(
        [BINARY, *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def node(script, *words):
    if shutil.which("node") is None or "TIDEWIRE_NODE_MODULES" not in os.environ:
        pytest.skip("node or its packages are not installed (script/install test)")
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "node" / script), *words],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.strip() == "good", done.stdout + done.stderr


def test_npm_ws(secure):
    node("resume.mjs", secure.url(""))


def test_headless_chromium(secure):
    if "TIDEWIRE_CHROMIUM" not in os.environ:
        pytest.skip("chromium is not installed (script/install test)")
    node("browser.mjs", secure.url(""), f"https://127.0.0.1:{secure.port}/healthz")
