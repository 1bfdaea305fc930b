"""The filter language and updates against a MongoDB server, over generated documents.

The server is TEST_MONGO_URI or one started by tests/support/mongo.sh; without one the tests are
skipped, and the skip is reported. The probe is broker/query_test.c, compiled here.
TIDEWIRE_ORACLE_FILTERS sets how many filters are compared (default 1500, 60 documents each).
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pymongo = pytest.importorskip("pymongo")
from bson import json_util  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import mongo_oracle as oracle  # noqa: E402

FILTERS = int(os.environ.get("TIDEWIRE_ORACLE_FILTERS", "1500"))
DOCS = 60


@pytest.fixture(scope="module")
def oracle_server(mongo_session):
    """A client of the server that is compared with."""
    yield mongo_session.client
    mongo_session.client.drop_database("tw_oracle")


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("clang-14") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the probe")
    sources = [ROOT / "broker" / "query_test.c"]
    sources += [ROOT / "tests" / "support" / name for name in ("bson_text.c", "test_arena.c")]
    for folder in ("broker", "protocol"):
        for path in sorted((ROOT / folder).glob("*.c")):
            if not path.stem.endswith(("_test", "_fuzz")) and "codec" not in path.stem:
                sources.append(path)
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libbson-1.0", "libpcre2-8", "cmocka"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.split()
    out = tmp_path_factory.mktemp("probe") / "query_probe"
    command = [compiler, "-std=c17", "-D_GNU_SOURCE", "-O1", "-I", ROOT, "-o", out, *sources]
    subprocess.run([*command, *flags, "-lm", "-lpthread"], check=True)
    return out


def ask(probe, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(
        [probe, "--probe"], input=text, stdout=subprocess.PIPE, text=True, check=True
    )
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    return answers


def from_json(value):
    return json_util.loads(json.dumps(value), json_options=json_util.CANONICAL_JSON_OPTIONS)


def test_filters_match_what_the_server_matches(oracle_server, probe):
    rng = oracle.seeded(20240601)
    docs = [dict(oracle.document(rng), _id=i) for i in range(DOCS)]
    coll = oracle_server["tw_oracle"]["filters"]
    coll.drop()
    coll.insert_many([from_json(doc) for doc in docs])
    filters = [oracle.filter_(rng) for _ in range(FILTERS)]
    answers = ask(probe, [{"filter": each, "docs": docs} for each in filters])
    differ, compared, matched = [], 0, 0
    for each, answer in zip(filters, answers):
        ours = json.loads(answer)
        try:
            found = {doc["_id"] for doc in coll.find(from_json(each), {"_id": 1})}
        except pymongo.errors.OperationFailure as error:
            if "error" not in ours:
                differ.append((each, "the server refuses it", str(error)[:120]))
            continue
        if "error" in ours:
            differ.append((each, "we refuse it", ours["error"]))
            continue
        for doc, held in zip(docs, ours["matches"]):
            compared += 1
            matched += held
            if held != (doc["_id"] in found) and not known(each, doc):
                differ.append((each, doc, "we say %s" % held))
    print("compared %d pairs, %d matches" % (compared, matched))
    assert compared > FILTERS * DOCS // 2 and 0 < matched < compared
    assert not differ, "%d differ, such as %s" % (len(differ), differ[:5])


def known(each, doc):
    """Where the server of these tests differs from mongod; mongod's manual and source are followed.

    $all with null: mongod reads it as $and of equalities, so a missing field matches; this server
    says no. An index behind an array's end: mongod finds nothing there, not even null; this server
    finds a missing value. $elemMatch with fields: mongod takes an array inside the array for a
    document of its indices, this server passes it over.
    """
    fields = [inner for inner in operands(each, "$elemMatch") if not list(inner)[0].startswith("$")]
    if fields and nested_array(doc):
        return True
    if any(None in operand for operand in operands(each, "$all")):
        return True
    return any(beyond_array(doc, path.split(".")) for path in numeric_paths(each))


def nested_array(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    if isinstance(value, list) and any(isinstance(each, list) for each in inner):
        return True
    return any(nested_array(each) for each in inner)


def operands(each, name):
    if isinstance(each, dict):
        for key, inner in each.items():
            if key == name:
                yield inner
            yield from operands(inner, name)
    elif isinstance(each, list):
        for inner in each:
            yield from operands(inner, name)


def numeric_paths(each):
    if isinstance(each, dict):
        for key, inner in each.items():
            if any(part.isdigit() for part in key.split(".")):
                yield key
            yield from numeric_paths(inner)
    elif isinstance(each, list):
        for inner in each:
            yield from numeric_paths(inner)


def beyond_array(value, parts):
    """The path leads behind the end of an array, or below a plain value of one."""
    in_array = False
    for part in parts:
        if isinstance(value, list):
            if not part.isdigit() or int(part) >= len(value):
                return True
            value, in_array = value[int(part)], True
        elif isinstance(value, dict) and not any(name.startswith("$") for name in value):
            value = value.get(part)
        else:
            return in_array
    return False


def known_update(each, doc):
    """Where the server of these tests differs from mongod; mongod's manual and source are followed.

    $rename from below an array's plain value: mongod says that the path cannot be followed; this
    server does nothing. Several operators below one array: mongod (5.0 on) applies them in order
    of their paths, this server in the order of the operators.
    """
    if any(part.isdigit() for path in each.get("$rename", {}) for part in path.split(".")):
        return True
    paths = [path for fields in each.values() for path in fields]
    arrays = [path.split(".")[0] for path in paths if any(p.isdigit() for p in path.split("."))]
    return any(arrays.count(name) > 1 and isinstance(doc.get(name), list) for name in arrays)


def refusals(coll, docs, update):
    """Sends an update to each document; {index: why} of those that the server refused."""
    try:
        coll.bulk_write([pymongo.UpdateOne({"_id": d["_id"]}, update) for d in docs], ordered=False)
    except pymongo.errors.BulkWriteError as error:
        return {e["index"]: e["errmsg"][:100] for e in error.details["writeErrors"]}
    except pymongo.errors.OperationFailure as error:
        return dict.fromkeys(range(len(docs)), str(error)[:100])
    return {}


@pytest.mark.slow
def test_updates_change_what_the_server_changes(oracle_server, probe):
    rng = oracle.seeded(20240602)
    docs = [dict(oracle.document(rng), _id=i) for i in range(20)]
    coll = oracle_server["tw_oracle"]["updates"]
    updates = [oracle.update(rng) for _ in range(FILTERS // 5)]
    answers = ask(probe, [{"update": each, "docs": docs} for each in updates])
    differ, changed = [], 0
    for each, answer in zip(updates, answers):
        ours = from_json(json.loads(answer)["docs"])
        coll.drop()
        coll.insert_many([from_json(doc) for doc in docs])
        refused = refusals(coll, docs, from_json(each))
        stored = {doc["_id"]: doc for doc in coll.find()}
        for i, (doc, mine) in enumerate(zip(docs, ours)):
            reason = refused.get(i, "")
            theirs = None if reason else stored[doc["_id"]]
            changed += not reason and theirs != from_json(doc)
            if theirs != mine and not known_update(each, doc):
                differ.append((each, doc, mine, theirs, reason))
    print("compared %d updates, %d changed" % (len(updates) * len(docs), changed))
    assert changed > 0
    assert not differ, "%d differ, such as %s" % (len(differ), differ[:5])
