"""A client's side of a manifest sync, independent of the server: places, marks, ranges, verdicts.

Places and marks as docs/PROTOCOL.md specifies them; checked by tests/vectors/sync_marks.json.
"""

import json

MASK = 0xFFFFFFFF


def mix(h):
    h ^= h >> 16
    h = h * 0x85EBCA6B & MASK
    h ^= h >> 13
    h = h * 0xC2B2AE35 & MASK
    return h ^ h >> 16


def fnv(data, h=0xCBF29CE484222325):
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def key_text(key):
    """The text of a key, of the value that `key` of a message has."""
    if isinstance(key, str):
        return "s" + key
    if isinstance(key, dict) and list(key) == ["$oid"]:
        return "o" + key["$oid"]
    if isinstance(key, int) and not isinstance(key, bool):
        return f"i{key}"
    return "j" + json.dumps(key, separators=(",", ":"), ensure_ascii=False)


def place(key):
    h = fnv(key_text(key).encode())
    return mix(h & MASK ^ mix(h >> 32))


def mark(key, version):
    h = fnv(b"\0" + str(version).encode(), fnv(key_text(key).encode()))
    low = mix(h & MASK ^ mix(h >> 32))
    return mix(((h >> 32) + low) & MASK), low


def digits(high, low):
    return f"{high:08x}{low:08x}"


def key_of(key):
    """A key as a dictionary's key: lists and objects are no such."""
    return json.dumps(key, sort_keys=True)


class Copy:
    """A client's records of some collections: {collection: {key text: (key, version, doc)}}."""

    def __init__(self, **collections):
        self.records = {name: dict(held) for name, held in collections.items()}
        self.sent = self.received = 0

    def have(self, collection, key, version, doc=None):
        self.records.setdefault(collection, {})[key_of(key)] = (key, version, doc)

    def manifest(self, collection):
        """As a list of pairs: any kind of key."""
        return [[key, version] for key, version, _ in self.records[collection].values()]

    def apply(self, frame):
        """Applies a verdict; what does not fit the copy is an AssertionError."""
        held = self.records[frame["collection"]]
        name = key_of(frame["key"])
        if frame["op"] == "remove":
            assert name in held, f"to be removed, and not there: {frame}"
            del held[name]
            return
        assert (name in held) == (frame["op"] == "update"), frame
        if name in held:
            assert held[name][1] != frame["version"], f"told although the versions match: {frame}"
        held[name] = (frame["key"], frame["version"], frame["doc"])

    # ---- ranges ----

    def sums(self, collection, bits, ranges):
        totals = {r: [0, 0] for r in ranges}
        for key, version, _ in self.records[collection].values():
            total = totals.get(place(key) >> (32 - bits)) if bits else totals.get(0)
            if total is not None:
                high, low = mark(key, version)
                total[0], total[1] = (total[0] + high) & MASK, (total[1] + low) & MASK
        return "".join(digits(*totals[r]) for r in ranges)

    def listed(self, collection, bits, ranges):
        wanted = set(ranges)
        return [
            [key, version]
            for key, version, _ in self.records[collection].values()
            if (place(key) >> (32 - bits) if bits else 0) in wanted
        ]


def parts(items, count):
    """Cuts a list into pieces that each fit a message."""
    return [items[i : i + count] for i in range(0, len(items), count)] or [[]]


async def send(client, copy, **message):
    text = json.dumps(message, separators=(",", ":"))
    copy.sent += len(text)
    assert len(text) <= 65536, len(text)
    await client.socket.send(text)


async def sync(client, copy, number, ranges=(), bits=6, **query):
    """Syncs a copy; returns the `done`. ranges: collections that are told by sums."""
    names = list(copy.records)
    pieces = []
    for name in names:
        if name in ranges:
            sums = copy.sums(name, bits, range(1 << bits))
            pieces += [{"ranges": {name: {"bits": bits, "sums": s}}} for s in parts(sums, 48000)]
        else:
            pieces += [{"manifests": {name: m}} for m in parts(copy.manifest(name), 800)]
    return await exchange(client, copy, number, pieces, query)


async def exchange(client, copy, number, pieces, query):
    asked = []
    while True:
        for i, piece in enumerate(pieces):
            more = {"more": True} if i + 1 < len(pieces) else {}
            await send(client, copy, action="sync", reqID=number, **more, **piece, **query)
        pieces = []
        while not pieces:
            frame = await client.next(30)
            copy.received += len(json.dumps(frame, separators=(",", ":")))
            assert frame.get("type") != "error", frame
            assert frame["reqID"] == number, frame
            if frame["action"] == "done":
                return frame
            if frame["op"] in ("split", "list"):
                asked.append(frame)
            elif frame["op"] == "turn":
                pieces = answer(copy, asked)
                asked = []
            else:
                copy.apply(frame)


def answer(copy, asked):
    pieces = []
    for frame in asked:
        name, bits = frame["collection"], frame["bits"]
        if frame["op"] == "list":
            listed = copy.listed(name, bits, frame["ranges"])
            pieces += [{"manifests": {name: m}} for m in parts(listed, 800)]
            continue
        width = frame["next_bits"] - bits
        below = [(r << width) + i for r in frame["ranges"] for i in range(1 << width)]
        sums = copy.sums(name, frame["next_bits"], below)
        pieces += [
            {"ranges": {name: {"bits": frame["next_bits"], "sums": s}}} for s in parts(sums, 48000)
        ]
    return pieces
