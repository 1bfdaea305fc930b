"""A real search server for scenarios (tests/support/search.sh), and configurations that use it."""

import json
import os
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from server import PATIENCE_S

SCRIPT = Path(__file__).resolve().parent / "search.sh"


class Cluster:
    """A real engine; with TEST_SEARCH_URL the one that was given."""

    def __init__(self, name, kind=None):
        self.env = dict(os.environ, TIDEWIRE_SEARCH_NAME=name)
        if kind:
            self.env["TIDEWIRE_SEARCH_KIND"] = kind
        self.given = "TEST_SEARCH_URL" in os.environ
        self.url = None

    def run(self, verb, **more):
        env = dict(self.env, **more)
        return subprocess.run([str(SCRIPT), verb], env=env, capture_output=True, text=True)

    def start(self):
        done = self.run("start")
        if done.returncode == 77:
            pytest.skip(f"no search server: {done.stderr.strip()[-200:]}")
        assert done.returncode == 0, done.stderr
        self.url = done.stdout.strip()
        return self

    def stop(self):
        self.run("stop")

    def call(self, method, path, body=None):
        """(status, JSON) of a call straight to the engine."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as answer:
            return answer.code, json.loads(answer.read() or b"{}")


def running(name):
    """Yields a cluster, and stops it: what the fixture of a file that shares one is made of."""
    made = Cluster(f"{name}-{os.getpid()}").start()
    yield made
    made.stop()


def prefix():
    """Names of indices that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}-"


def forget(cluster, of_prefix):
    for name in cluster.call("GET", f"/{of_prefix}*/_alias")[1]:
        cluster.call("DELETE", f"/{name}")


MAPPING = {
    "properties": {
        "title": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "n": {"type": "integer"},
        "tags": {"type": "keyword"},
        "group": {"type": "keyword"},
        "when": {"type": "date"},
        "done": {"type": "boolean"},
        "name": {"type": "completion"},
    }
}


def collection(name, store="log", mapping=MAPPING, more="", search=""):
    return f"""  - name: {name}
    store: {store}
{more}    search:
      mapping: '{json.dumps(mapping)}'
{search}"""


def write_config(directory, *collections):
    path = Path(directory) / "search.yaml"
    path.write_text("collections:\n" + "".join(collections))
    return str(path)


def flags(url, of_prefix, config, *more):
    return [
        "--search", url, "--search-prefix", of_prefix, "--config", config, "--search-timeout",
        "60000", *more,
    ]  # fmt: skip
