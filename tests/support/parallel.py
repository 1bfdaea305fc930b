"""How the tests of a suite are spread over the workers of pytest-xdist, which tests/run.py starts.

The tests of a file with a fixture of its whole module, a server which they share, are a group that
one worker runs. All others are handed out one by one. What takes long begins first, so that no
worker is alone with it in the end.
"""

import functools
import os
from pathlib import Path


@functools.cache
def has_shared_fixture(path):
    return 'scope="module"' in path.read_text()


def group_of(root, nodeid):
    """Tests of the same group are run by the same worker, one after the other."""
    path = nodeid.split("::", 1)[0]
    return path if has_shared_fixture(Path(root) / path) else nodeid


def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(config.rootpath, nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(config, items):
    if "PYTEST_XDIST_WORKER" not in os.environ:  # one process: in the order of the files
        return
    groups = {item: group_of(config.rootpath, item.nodeid) for item in items}
    long = {groups[item] for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (groups[item] not in long, groups[item] == item.nodeid))
