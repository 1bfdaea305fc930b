"""Who may manage an index: the verb admin, over all records. The embedded engine answers, so that
no server of another is needed; the table of verbs is the same for both."""

import json
import subprocess

import pytest

from server import BINARY

CONFIG = """
auth:
  keys: [{{kid: main, alg: HS256, file: "{secret}"}}]
  rules:
    - {{role: reader, collection: notes, verbs: [read, search, insert, update, remove]}}
    - {{role: keeper, collection: notes, verbs: [read, search, admin]}}
    - role: part
      collection: notes
      verbs: [read, search, admin]
      filter: '{{"owner": "$claims.sub"}}'
collections:
  - name: notes
    search: {{index: notes}}
"""
MANAGING = ["commit", "reindex", "fix_ilm", "fix_replicas", "fix_shards", "wipe"]


@pytest.fixture
def guarded(make_server, tmp_path):
    secret = tmp_path / "secret.key"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    secret.chmod(0o600)
    config = tmp_path / "tidewire.yaml"
    config.write_text(CONFIG.format(secret=secret))
    server = make_server(flags=["--config", str(config)]).start()

    def ask(role, function, **fields):
        made = subprocess.run(
            [BINARY, "token", "--config", str(config), "--subject", "ada", "--role", role],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        status, text = server.http(
            f"/api/v1/search/notes/{function}", "POST", fields, timeout=60,
            headers={"Authorization": f"Bearer {made.stdout.strip()}"},
        )  # fmt: skip
        return status, json.loads(text)

    return ask


def test_an_index_is_managed_with_the_verb_admin(guarded):
    assert guarded("reader", "save", id="a", doc={"owner": "ada", "text": "kept"})[0] == 200
    for function in MANAGING:
        for role in ("reader", "part"):  # a right to some records does not reach the index
            status, reply = guarded(role, function)
            assert (status, reply["code"]) == (403, "forbidden"), (function, role, reply)
        assert guarded("reader", "get", id="a")[1]["doc"]["text"] == "kept", function
    status, reply = guarded("reader", "commit")
    assert "admin" in reply["hint"]
    for function in MANAGING:
        status, reply = guarded("keeper", function, dry_run=True)
        assert reply.get("code") != "forbidden", (function, reply)
    assert guarded("keeper", "commit")[0] == 200
    assert guarded("reader", "get", id="a")[0] == 200  # dry runs change nothing
    assert guarded("keeper", "wipe")[0] == 200
    assert guarded("reader", "get", id="a")[0] == 404
