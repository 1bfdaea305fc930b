"""What all scenarios share: servers that end with their test."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import search  # noqa: E402
from deployment import Starting  # noqa: E402
from mongo import Mongo, MongoMissing  # noqa: E402
from parallel import (  # noqa: E402, F401: hooks
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from server import Server  # noqa: E402

# libmongoc keeps counters in shared memory by the number of the process, and says so on stderr
# where one of that number that was killed left its own.
os.environ.setdefault("MONGOC_DISABLE_SHM", "1")

# Scenarios that hold for every store: each of their tests that makes servers runs once for each.
# The others: of search, which reads the log alike whatever it follows; of what the embedded store
# alone does (test_log_damage); of MongoDB alone (test_mongo_*); of programs that speak to what is
# here (test_c_client, test_other_clients); of texts (test_readme, test_replaces).
BOTH_STORES = {
    "test_auth",
    "test_bad_input",
    "test_changes",
    "test_data_access",
    "test_database",
    "test_database_copies",
    "test_dispatch",
    "test_drop",
    "test_filter_semantics",
    "test_history",
    "test_import_export",
    "test_processor",
    "test_service",
    "test_streams",
    "test_sync",
    "test_virtool",
}
STORES = ["embedded", "mongo"]


def pytest_generate_tests(metafunc):
    if "store" in metafunc.fixturenames:
        name = metafunc.module.__name__.rsplit(".", 1)[-1]
        both = name in BOTH_STORES and not metafunc.definition.get_closest_marker("embedded")
        metafunc.parametrize("store", STORES if both else STORES[:1])


def pytest_sessionfinish():
    Starting.end_spare()


@pytest.fixture(scope="session")
def mongo_session():
    """A MongoDB server for the whole session."""
    server = Mongo(f"pytest-{os.getpid()}")
    try:
        server.start()
    except MongoMissing as missing:
        if missing.cannot_be_had:
            pytest.skip(f"no MongoDB server here: {missing}")
        raise
    yield server
    server.drop_all()
    server.stop()


@pytest.fixture
def mongo(mongo_session):
    yield mongo_session
    mongo_session.drop_all()


@pytest.fixture
def names(cluster):
    """What the names of a test's indices begin with; they go with the test."""
    of_prefix = search.prefix()
    yield of_prefix
    search.forget(cluster, of_prefix)


@pytest.fixture
def store_flags(request, store):
    """Flags that give a server its store: the embedded one, or a database of its own."""
    if store == "embedded":
        return []
    mongo = request.getfixturevalue("mongo")
    return mongo.flags(mongo.new_database())


@pytest.fixture
def make_server(store_flags):
    """Makes servers; all are closed, and must end cleanly, with the test."""
    made = []

    def make(flags=(), **options):
        server = Server(flags=[*flags, *store_flags], **options)
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
    """The same test with all actors in one process, and in several over ipc and tcp."""
    return make_server(layout=request.param).start()
