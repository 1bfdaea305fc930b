"""A cluster behind TLS: the certificate is checked, secrets arrive as given and go nowhere else,
HTTP/2 and gzip are spoken where the other side does."""

import base64
import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

import search
from keys import make_authority, make_root
from server import PATIENCE_S, wait_until

FRONT = Path(__file__).resolve().parent.parent / "support" / "tls_front.mjs"


@pytest.fixture(scope="module")
def cluster():
    yield from search.running("tls")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A folder with two authorities, and a server's certificate that the first has signed."""
    folder = tmp_path_factory.mktemp("tls")
    make_authority(folder)
    make_root(folder, "other")
    return folder


class Front:
    def __init__(self, target, authority, *flags):
        self.process = subprocess.Popen(
            [shutil.which("node"), str(FRONT), target, str(authority / "server.pem"),
             str(authority / "server.key"), *flags],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = int(self.process.stdout.readline())
        self.requests = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.requests.append(json.loads(line))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


def ask(server, function, **fields):
    status, text = server.http(f"/api/v1/search/c/{function}", "POST", fields, timeout=PATIENCE_S)
    return status, json.loads(text)


def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("s3:cr et=\n")
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("version", ["2.0", "1.1"])
@pytest.mark.parametrize("kind", ["password", "key"])
def test_searches_go_through_tls_with_the_secret(
    make_server, tmp_path, cluster, names, authority, kind, version
):
    path = secret(tmp_path)
    more = ["--search-api-key-file", path]
    wanted = "ApiKey s3:cr et="
    if kind == "password":
        more = ["--search-user", "ada", "--search-password-file", path]
        wanted = "Basic " + base64.b64encode(b"ada:s3:cr et=").decode()
    flags = [] if version == "2.0" else ["--http1"]
    config = search.write_config(tmp_path, search.collection("c", "search"))
    with Front(cluster.url, authority, *flags) as front:
        url = f"https://0.0.0.0:{front.port}"  # no name of this machine's own: gzip is asked for
        ca = ["--search-ca-file", str(authority / "ca.pem")]
        server = make_server(flags=search.flags(url, names, config, *ca, *more)).start()
        for i in range(20):
            status, reply = ask(server, "save", id=f"d{i}", doc={"title": "word " * 50, "n": i})
            assert status == 200, reply
        assert ask(server, "commit")[0] == 200
        status, reply = ask(server, "search", query="title:word")
        assert status == 200 and reply["total"] == 20, reply
        assert front.requests and all(
            (told["authorization"], told["http"], told["gzip"]) == (wanted, version, True)
            for told in front.requests
        ), front.requests
        assert "s3:cr" not in server.tail(1000)
        calls = [told["path"] for told in front.requests if told["path"].startswith(f"/{names}c")]
        assert len(calls) > 20


def test_a_cluster_on_this_machine_is_not_asked_to_compress(
    make_server, tmp_path, cluster, names, authority
):
    config = search.write_config(tmp_path, search.collection("c", "search"))
    with Front(cluster.url, authority) as front:
        flags = ["--search-ca-file", str(authority / "ca.pem")]
        url = f"https://127.0.0.1:{front.port}"
        server = make_server(flags=search.flags(url, names, config, *flags)).start()
        wait_until(lambda: ask(server, "search", query="*")[0] == 200, 60, "the index to open")
        assert front.requests and not any(told["gzip"] for told in front.requests)
        assert all(told["authorization"] is None for told in front.requests)


@pytest.mark.parametrize("flags", [["other.pem"], []], ids=["another", "none"])
def test_a_certificate_of_nobody_we_trust_is_refused(
    make_server, tmp_path, cluster, names, authority, flags
):
    config = search.write_config(tmp_path, search.collection("c", "search"))
    more = ["--search-api-key-file", secret(tmp_path)]
    for name in flags:
        more += ["--search-ca-file", str(authority / name)]
    with Front(cluster.url, authority) as front:
        url = f"https://127.0.0.1:{front.port}"
        server = make_server(flags=search.flags(url, names, config, *more)).start()
        for _ in range(8):  # also once the circuit is open
            status, reply = ask(server, "search", query="*")
            assert (status, reply["code"], reply["retry"]) == (
                503, "search_unavailable", "backoff",
            ), reply  # fmt: skip
            assert "certificate" in reply["message"], reply
        wait_until(lambda: "certificate" in server.tail(200), 20, "a line for the operator")
        assert not [told for told in front.requests if "path" in told], "a request got through"
        server.http("/api/v1/d/a", "PUT", {"n": 1})  # what needs no cluster works
        assert server.http("/api/v1/d/a")[0] == 200


def test_a_redirect_gets_no_secret(make_server, tmp_path, cluster, names, authority):
    config = search.write_config(tmp_path, search.collection("c", "search"))
    ca = ["--search-ca-file", str(authority / "ca.pem")]
    more = [*ca, "--search-api-key-file", secret(tmp_path)]
    with Front(cluster.url, authority) as thief:
        away = f"https://127.0.0.1:{thief.port}"
        with Front(cluster.url, authority, "--redirect", away) as front:
            url = f"https://127.0.0.1:{front.port}"
            server = make_server(flags=search.flags(url, names, config, *more)).start()
            status, reply = ask(server, "search", query="*")
            assert (status, reply["code"]) == (503, "search_unavailable"), reply
            assert "redirect" in reply["message"], reply
            assert front.requests and not thief.requests
