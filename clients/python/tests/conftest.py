"""A real server for each test, and each test with both backends."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.path.insert(0, str(ROOT / "clients" / "python"))

from parallel import (  # noqa: E402, F401: hooks
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from server import Server  # noqa: E402

from tidewire import Client  # noqa: E402


@pytest.fixture
def make_server():
    """Makes servers; all are closed, and must end cleanly, with the test."""
    made = []

    def make(**options):
        made.append(Server(**options))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def url(tmp_path):
    return f"ipc://{tmp_path}/service"


@pytest.fixture
def server(make_server, url):
    return make_server(flags=["--service", url]).start()


@pytest.fixture(params=["pynng", "ctypes"])
def backend(request):
    return request.param


@pytest.fixture
def client(server, url, backend):
    with Client(url, backend=backend) as one:
        yield one
