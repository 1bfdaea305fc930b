"""50 queries on the films of vega-datasets: the embedded search finds what OpenSearch finds, and
puts it in the same order where scores decide. TEST_SEARCH_URL: a cluster of your own."""

import json
import os
import time
from pathlib import Path

import pytest

import search
from server import Server

TREE = Path(__file__).resolve().parents[2]
FORGET_S = 60
FILMS = TREE / ".tools/node/node_modules/vega-datasets/data/movies.json"
MAPPING = {
    "properties": {
        "Title": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "Director": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "Distributor": {"type": "keyword"},
        "Source": {"type": "text"},
        "Major Genre": {"type": "keyword"},
        "MPAA Rating": {"type": "keyword"},
        "IMDB Rating": {"type": "double"},
        "IMDB Votes": {"type": "long"},
        "Worldwide Gross": {"type": "double"},
        "Running Time min": {"type": "long"},
    },
    "dynamic": False,
}


def lucene(text, **more):
    return {"query_string": {"query": text, **more}}


def simple(text, **more):
    return {"simple_query_string": {"query": text, **more}}


def many(text, **more):
    return {"multi_match": {"query": text, **more}}


QUERIES = [
    {"match": {"Title": "the king"}},
    {"match": {"Title": {"query": "the king", "operator": "and"}}},
    {"match": {"Title": {"query": "lord of the rings", "minimum_should_match": "75%"}}},
    {"match": {"Title": "STAR Wars"}},
    {"match": {"Title": "ocean's"}},
    {"match": {"Title": "Amélie"}},
    {"match": {"Director": "steven spielberg"}},
    {"match": {"Director.keyword": "Steven Spielberg"}},
    {"match": {"IMDB Rating": "8.1"}},
    {"match_phrase": {"Title": "star wars"}},
    {"match_phrase": {"Title": {"query": "return king", "slop": 3}}},
    {"match_phrase_prefix": {"Title": "harry pot"}},
    many("spielberg"),
    many("comedy"),
    many("steven war", fields=["Title^2", "Director"]),
    many("star trek", fields=["Title", "Source"], operator="and"),
    many("original screenplay", fields=["Title", "Source"], type="phrase"),
    many("dark knight", fields=["Title", "Director"], type="most_fields"),
    many("7", lenient=True),
    {"term": {"Major Genre": "Drama"}},
    {"term": {"Title": "king"}},
    {"term": {"Title.keyword": "Titanic"}},
    {"term": {"IMDB Votes": 1000}},
    {"terms": {"MPAA Rating": ["G", "NC-17"]}},
    {"terms": {"IMDB Rating": [9, 9.2, 8.9]}},
    {"range": {"IMDB Rating": {"gte": 8.5}}},
    {"range": {"IMDB Rating": {"gt": 1, "lt": 2.5}}},
    {"range": {"Major Genre": {"gte": "Musical", "lt": "Thriller"}}},
    {"exists": {"field": "Running Time min"}},
    {"prefix": {"Title": "super"}},
    {"prefix": {"Distributor": "Para"}},
    {"ids": {"values": ["f1", "f22", "f333", "missing"]}},
    {"bool": {"must": [{"match": {"Title": "war"}}], "must_not": [{"match": {"Title": "star"}}]}},
    {"bool": {"should": [{"match": {"Title": "alien"}}, {"match": {"Title": "predator"}}],
              "filter": [{"range": {"IMDB Rating": {"gte": 6}}}], "minimum_should_match": 1}},
    {"bool": {"should": [{"term": {"MPAA Rating": "R"}}, {"term": {"Major Genre": "Horror"}},
                         {"range": {"IMDB Rating": {"lt": 4}}}], "minimum_should_match": 3}},
    {"constant_score": {"filter": {"match": {"Title": "ring"}}}},
    {"match_all": {}},
    {"match_none": {}},
    lucene("Title:king"),
    lucene("Title:(king OR queen) AND NOT Title:scorpion"),
    lucene('Title:"star wars" OR Director:lucas'),
    lucene("+Title:the -Title:king Title:lord"),
    lucene("Title:al* AND IMDB\\ Rating:[7 TO *]"),
    lucene("IMDB\\ Rating:>=8.8"),
    lucene("IMDB\\ Votes:{1000 TO 1100]"),
    lucene("_exists_:Source AND Title:t?y"),
    lucene("star wars", fields=["Title", "Source"]),
    lucene("steven spielberg", default_field="Director", default_operator="AND"),
    lucene("jurassic"),
    lucene('Title:"return king"~3 Title:matrix^4'),
    simple("star +wars -episode", fields=["Title"], default_operator="and"),
    simple('"star wars" | trek', fields=["Title"]),
    simple("(jurassic | lost) + world", fields=["Title"]),
]  # fmt: skip


def forget_replaced(cluster, of_prefix):
    """Lucene counts what was replaced or deleted until a merge drops it, which it does not before a
    commit covers it and the shard knows that (by itself after up to 30 s, opened anew at once): a
    batch that was sent twice would change the scores."""
    for path in ("_close", "_open"):
        status, done = cluster.call("POST", f"/{of_prefix}*/{path}")
        assert status == 200, done
    deadline = time.monotonic() + FORGET_S
    while True:
        for path in ("_flush?force=true", "_forcemerge?max_num_segments=1", "_refresh"):
            status, done = cluster.call("POST", f"/{of_prefix}*/{path}")
            assert status == 200 and done["_shards"]["failed"] == 0, done
        status, stats = cluster.call("GET", f"/{of_prefix}*/_stats/docs")
        deleted = stats["_all"]["primaries"]["docs"]["deleted"]
        if deleted == 0:
            return
        assert time.monotonic() < deadline, stats
        time.sleep(0.1)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    if not FILMS.exists():
        pytest.skip("vega-datasets is not installed: script/test installs it")
    cluster = search.Cluster(f"films-{os.getpid()}").start()
    of_prefix = search.prefix()
    config = search.write_config(
        tmp_path_factory.mktemp("films"), search.collection("films", mapping=MAPPING)
    )
    servers = [
        Server(flags=["--config", config, "--search-timeout", "10000"]).start(),
        Server(flags=search.flags(cluster.url, of_prefix, config)).start(),
    ]
    films = json.loads(FILMS.read_text())
    for server in servers:
        for at in range(0, len(films), 100):
            plan = [["insert", f"f{at + i}", doc] for i, doc in enumerate(films[at : at + 100])]
            status, text = server.http(
                "/api/v1/search/films/bulk", "POST", {"bulk_plan": plan}, timeout=60
            )
            assert status == 200, text
        since = ask(server, "delete", id="f0")["since"]
        ask(server, "keys", min_since=since, deadline_ms=60000)
    forget_replaced(cluster, of_prefix)
    yield servers
    for server in servers:
        server.close()
    search.forget(cluster, of_prefix)
    cluster.stop()


def ask(server, function, **fields):
    status, text = server.http(f"/api/v1/search/films/{function}", "POST", fields, timeout=90)
    assert status == 200, (text, fields)
    return json.loads(text)


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_same_hits(engines, number):
    query = QUERIES[number]
    found = [sorted(ask(server, "keys", query=query)["docs"]) for server in engines]
    assert found[0] == found[1], (query, set(found[0]) ^ set(found[1]))
    body = {"query": query, "size": 10}
    results = [ask(server, "search", body=body)["result"]["hits"]["hits"] for server in engines]
    hits = [[(hit["_id"], hit["_score"]) for hit in result] for result in results]
    if "match_phrase_prefix" in query:
        return  # Lucene weighs the words that the last one may become, we the beginning itself
    for (_, ours), (_, theirs) in zip(hits[0], hits[1]):
        assert ours == pytest.approx(theirs, rel=1e-4), (query, hits)


def test_there_are_50_queries():
    assert len(QUERIES) >= 50
