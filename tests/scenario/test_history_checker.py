"""The checker itself: clean histories pass, and each planted fault is named."""

import copy

import pytest

from history import Session, Subscriber, Violation, Write, check


def small(doc):
    return doc["a"] < 5


def put(write, prev):
    return {
        "type": "record",
        "key": write.key,
        "seqno": write.seqno,
        "srv_id": 1,
        "prev": prev,
        "doc": dict(write.doc),
    }


def remove(write, why, prev):
    return {
        "type": "remove",
        "key": write.key,
        "seqno": write.seqno,
        "srv_id": 1,
        "prev": prev,
        "why": why,
    }


def sync(at):
    return {"type": "sync", "since": [[1, at]]}


def clean():
    """Five keys: snapshot at 5, live to 10, a break, resume, live again."""
    writes = [Write(k, k, {"_id": k, "a": k}) for k in range(1, 6)]
    writes += [
        Write(1, 6, {"_id": 1, "a": 2}),
        Write(2, 7, {"_id": 2, "a": 9}),
        Write(3, 8, None),
        Write(6, 9, {"_id": 6, "a": 0}),
        Write(5, 10, {"_id": 5, "a": 1}),
    ]
    writes += [
        Write(6, 11, {"_id": 6, "a": 4}),
        Write(1, 12, None),
        Write(7, 13, {"_id": 7, "a": 3}),
    ]
    at = {w.seqno: w for w in writes}
    first = Session(
        None,
        [
            put(at[1], 0),
            put(at[2], 1),
            put(at[3], 2),
            put(at[4], 3),
            sync(5),
            put(at[6], 4),
            remove(at[7], "left", 6),
            remove(at[8], "deleted", 7),
            put(at[9], 8),
            put(at[10], 9),
        ],
    )
    second = Session(
        [[1, 10]],
        [put(at[11], 0), remove(at[12], "deleted", 11), sync(12), put(at[13], 12), sync(13)],
    )
    return writes, [Subscriber("one", small, [first, second])]


def frames(subscribers, session=0):
    return subscribers[0].sessions[session].frames


def lost(writes, subs):
    del frames(subs)[5]
    frames(subs)[5]["prev"] = 4


def lost_with_its_trace(writes, subs):
    del frames(subs)[5]


def lost_in_snapshot(writes, subs):
    del frames(subs)[1]
    frames(subs)[1]["prev"] = 1


def repeated(writes, subs):
    frames(subs).insert(6, copy.deepcopy(frames(subs)[5]))


def repeated_after_resume(writes, subs):
    frames(subs, 1).insert(0, copy.deepcopy(frames(subs)[9]))


def swapped(writes, subs):
    f = frames(subs)
    f[8], f[9] = f[9], f[8]
    f[8]["prev"], f[9]["prev"] = 8, 10


def phantom(writes, subs):
    frames(subs)[5]["doc"]["a"] = 3


def phantom_position(writes, subs):
    frames(subs, 1)[3]["seqno"] = 99


def outside_filter(writes, subs):
    f = put(writes[4], 4)
    frames(subs).insert(4, f)


def false_reset(writes, subs):
    frames(subs, 1).insert(0, {"type": "reset", "reason": "compacted"})


def early_sync(writes, subs):
    f = frames(subs)
    f[3], f[4] = f[4], f[3]
    f[3]["since"] = [[1, 4]]


def late_sync(writes, subs):
    f = frames(subs)
    f[4], f[5] = f[5], f[4]


def lost_remove(writes, subs):
    del frames(subs)[6]
    frames(subs)[6]["prev"] = 6


def lost_remove_in_resume(writes, subs):
    del frames(subs, 1)[1]


def wrong_why(writes, subs):
    frames(subs)[6]["why"] = "deleted"


def wrong_prev(writes, subs):
    frames(subs)[8]["prev"] = 6


def stale_snapshot(writes, subs):
    frames(subs, 1)[0] = put(writes[8], 0)


def not_converged(writes, subs):
    writes.append(Write(7, 14, {"_id": 7, "a": 2}))


def position_twice(writes, subs):
    writes.append(Write(9, 13, {"_id": 9, "a": 9}))


# fmt: off
PLANTED = [
    (lost, "RELIABLE"), (lost_with_its_trace, "PREV"), (lost_in_snapshot, "RELIABLE"),
    (repeated, "UNIQUE"),
    (repeated_after_resume, "UNIQUE"), (swapped, "ORDERED"), (phantom, "PHANTOM"),
    (phantom_position, "PHANTOM"), (outside_filter, "FILTERED"), (false_reset, "RESUMABLE"),
    (early_sync, "RELIABLE"), (late_sync, "SYNC"), (lost_remove, "RELIABLE"),
    (lost_remove_in_resume, "RELIABLE"), (wrong_why, "WHY"), (wrong_prev, "PREV"),
    (stale_snapshot, "UNIQUE"), (not_converged, "CONVERGED"), (position_twice, "POSITION"),
]
# fmt: on


def test_a_clean_history_passes():
    check(*clean())


@pytest.mark.parametrize("fault,rule", PLANTED, ids=lambda x: getattr(x, "__name__", x))
def test_a_planted_fault_is_named(fault, rule):
    writes, subscribers = clean()
    fault(writes, subscribers)
    with pytest.raises(Violation) as caught:
        check(writes, subscribers)
    assert caught.value.rule == rule, caught.value
