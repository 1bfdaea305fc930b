"""Filters, updates and documents at random, for comparing the filter language with a server's.

Values are kept few and alike, so that most pairs are near a match: arrays of the numbers that stand
alone, numbers of several types, null beside missing. Everything is drawn from one seed.
"""
import random

OIDS = ["0123456789abcdef01234567", "0123456789abcdef01234568"]
FIELDS = ["a", "b", "c"]
PATHS = ["a", "b", "c", "a.b", "a.c", "b.c", "a.b.c", "a.0", "a.1", "b.0.c", "a.0.b"]


def scalar(rng):
    return rng.choice(
        [
            lambda: rng.randint(0, 3),
            lambda: {"$numberLong": str(rng.randint(0, 3))},
            lambda: {"$numberDouble": rng.choice(["1.0", "2.5", "0.0", "-1.0"])},
            lambda: rng.choice(["x", "xy", "X", "", "y"]),
            lambda: None,
            lambda: rng.choice([True, False]),
            lambda: {"$date": {"$numberLong": str(rng.choice([0, 1000, 86400000]))}},
            lambda: {"$oid": rng.choice(OIDS)},
        ]
    )()


def value(rng, depth=0):
    kind = rng.random()
    if depth < 3 and kind < 0.22:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    if depth < 3 and kind < 0.45:
        return document(rng, depth + 1)
    return scalar(rng)


def document(rng, depth=0):
    names = rng.sample(FIELDS, rng.randint(0 if depth else 1, 3))
    return {name: value(rng, depth) for name in names}


def regex(rng):
    return rng.choice(["x", "^x", "y$", "^$", "X|y", "^.y", "[a-x]"])


def operator(rng, depth):
    choice = rng.choice(
        "eq ne gt gte lt lte in nin exists type size all elem elem_value not regex".split()
    )
    if choice in ("eq", "ne", "gt", "gte", "lt", "lte"):
        return {"$" + choice: value(rng, 2) if rng.random() < 0.8 else value(rng)}
    if choice in ("in", "nin"):
        return {"$" + choice: [value(rng, 2) for _ in range(rng.randint(0, 3))]}
    if choice == "exists":
        return {"$exists": rng.choice([True, False])}
    if choice == "type":
        names = "double string object array objectId bool date null int long number".split()
        return {"$type": rng.choice(names) if rng.random() < 0.7 else rng.sample(names, 2)}
    if choice == "size":
        return {"$size": rng.randint(0, 3)}
    if choice == "all":
        return {"$all": [scalar(rng) for _ in range(rng.randint(1, 2))]}
    if choice == "elem":
        return {"$elemMatch": clause(rng, depth + 1)}
    if choice == "elem_value":
        return {"$elemMatch": rng.choice([{"$gte": 1, "$lt": 3}, {"$in": [1, "x"]}, {"$ne": 2}])}
    if choice == "not":
        return {"$not": operator(rng, depth + 1)}
    return {"$regex": regex(rng), "$options": rng.choice(["", "i"])}


def clause(rng, depth):
    path = rng.choice(PATHS)
    if rng.random() < 0.3:
        return {path: value(rng, 1)}
    return {path: operator(rng, depth)}


def filter_(rng, depth=0):
    kind = rng.random()
    if depth < 2 and kind < 0.25:
        name = rng.choice(["$and", "$or", "$nor"])
        return {name: [filter_(rng, depth + 1) for _ in range(rng.randint(1, 3))]}
    made = clause(rng, depth)
    if kind > 0.8:
        made.update(clause(rng, depth))
    return made


def update(rng):
    made = {}
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(
            "set unset inc mul min max rename push push_each addToSet add_each pull pop".split()
        )
        path = rng.choice(PATHS)
        number = rng.choice([1, 2, -1, {"$numberDouble": "0.5"}, {"$numberLong": "3"}])
        key, operand = {
            "set": lambda: ("$set", value(rng, 1)),
            "unset": lambda: ("$unset", True),
            "inc": lambda: ("$inc", number),
            "mul": lambda: ("$mul", number),
            "min": lambda: ("$min", scalar(rng)),
            "max": lambda: ("$max", scalar(rng)),
            "rename": lambda: ("$rename", rng.choice(["d", "e.f", "c"])),
            "push": lambda: ("$push", value(rng, 2)),
            "push_each": lambda: ("$push", push_each(rng)),
            "addToSet": lambda: ("$addToSet", value(rng, 2)),
            "add_each": lambda: ("$addToSet", {"$each": [scalar(rng) for _ in range(3)]}),
            "pull": lambda: ("$pull", pull(rng)),
            "pop": lambda: ("$pop", rng.choice([1, -1])),
        }[name]()
        made.setdefault(key, {})[path] = operand
    return made


def push_each(rng):
    made = {"$each": [scalar(rng) for _ in range(rng.randint(0, 3))]}
    if rng.random() < 0.4:
        made["$position"] = rng.randint(-3, 3)
    if rng.random() < 0.4:
        made["$slice"] = rng.randint(-3, 3)
    if rng.random() < 0.3:
        made["$sort"] = rng.choice([1, -1])
    return made


def pull(rng):
    return rng.choice(
        [
            lambda: value(rng, 2),
            lambda: {"$gte": rng.randint(0, 2)},
            lambda: {"$in": [1, "x", None]},
        ]
    )()


def seeded(seed):
    return random.Random(seed)
