"""What all scenarios share: servers that end with their test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from server import Server  # noqa: E402


@pytest.fixture
def make_server():
    """Makes servers; all are closed, and must end cleanly, with the test."""
    made = []

    def make(**options):
        server = Server(**options)
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(make_server):
    return make_server().start()


@pytest.fixture(params=["one", "ipc", "tcp"])
def any_layout(request, make_server):
    """The same test with all actors in one process, and in three over ipc and tcp."""
    return make_server(layout=request.param).start()
