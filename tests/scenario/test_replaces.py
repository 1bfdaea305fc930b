"""docs/REPLACES.md: each word of the systems before is there, each test that it names exists."""

import re

import pytest
from server import ROOT

# fmt: off
WORDS = {
    "Realtime database": """DB_RECORD_ADD DB_RECORD_PUT DB_RECORD_DELETE DB_COLLECTION_DROP
        DB_DATABASE_DROP name version collections keyPath get RealtimeDbServer MongoDb RealtimeDb
        getDb put""",
    "Virtool's database": """collection_name dispatcher settings db find find_one aggregate
        sync_filter sync_projector sync_processor sync prepare_sync insert update remove dispatch
        get_new_id get_field coerce_query coerce_list detail increment_version connections""",
    "Data store": "/db getByIds ids reqID /search search index body /changes",
    "Elasticsearch datastore": """archive get_bulk_plan bulk multiget exists get get_if_exists
        require save delete delete_by_query update update_by_query search stream_search histogram
        facet stats grouped_search fields commit keys fix_ilm fix_replicas fix_shards reindex wipe
        register""",
    "Fimlware server": """/ws type:subscribe mux_id project_id project since syncid entries threads
        comments type:close type:sync type:thread type:comment type:entry srv_id seqno archivetime
        links submissiontime authortime comment_uuid modifies reason clip_id content version_uuid
        report entry version comment entity""",
}
# fmt: on


def sections():
    """{title: [(there, here, proof), ...]}"""
    found, title = {}, None
    for line in (ROOT / "docs/REPLACES.md").read_text().splitlines():
        if line.startswith("## "):
            title = line[3:]
            found[title] = []
        elif title and line.startswith("| ") and not line.startswith("| there |"):
            cells = [c.strip() for c in line.strip().strip("|").split(" | ")]
            assert len(cells) == 3, line
            found[title].append(tuple(cells))
    return found


@pytest.mark.parametrize("title", WORDS)
def test_replaces_names_every_word(title):
    rows = sections()[title]
    there = " ".join(row[0] for row in rows)
    named = set(re.findall(r"[\w/:]+", there))
    missing = [w for w in WORDS[title].split() if w not in named]
    assert not missing, missing


def test_replaces_names_tests_that_exist():
    count = 0
    for title, rows in sections().items():
        assert rows, title
        for there, _, proof in rows:
            named = re.findall(r"`([\w/.]+)::(\w+)`", proof)
            assert named and proof == ", ".join(f"`{p}::{t}`" for p, t in named), (there, proof)
            for path, test in named:
                text = (ROOT / path).read_text()
                defined = rf"^(async )?def {test}\(" if path.endswith(".py") else rf"\b{test}\(void"
                assert re.search(defined, text, re.MULTILINE), (there, path, test)
                count += 1
    assert count > 80, count
