"""The goals G1 to G14 and what runs reached of them.

A goal is a ratio inside one run: a figure of Tidewire, or of a program's own side, against that of
a peer, of the bare form, or of the same run; or it is the figure itself. Medians of the rounds are
compared, and the spread is that of the rounds. A goal passes only where every run of it is there,
ended, lost nothing, held its rate, and was not disturbed by others."""

import statistics
from dataclasses import dataclass

from report_runs import OTHERS_MAX, PROGRAM, is_disturbed

BAD = ("lost", "missing", "repeated", "undecoded", "rejected", "refused", "dropped")
FULL = 0.95  # of a core: who used so much was the limit
HELD = 0.98  # of the rate


@dataclass
class Goal:
    """better: "less" or "more". first, great: of the release and beyond it; None: no such goal."""

    name: str
    text: str
    own: tuple  # label, peer, figure
    other: tuple | None  # the same, or None: the figure itself counts
    better: str
    first: float | None
    great: float | None
    unit: str = "x"
    scale: float = 1.0  # of the own figure, into the other's unit


def peer_goal(name, text, label, figure, peer, better, first, great):
    return Goal(
        name, text, (label, "tidewire", figure), (label, peer, figure), better, first, great
    )


def program_goal(name, text, label, own, other, better, first, great, unit="x"):
    """own, other: figures of one program."""
    base = None if other is None else (label, PROGRAM, other)
    return Goal(name, text, (label, PROGRAM, own), base, better, first, great, unit)


# The rungs of service_ingress, from bytes that are not read to records on disk: (G14)'s yardsticks.
LADDER = {
    "bare": "",
    "read": "each message read by the service socket's codec",
    "asked": "each message answered, a window of 8, not read",
    "checked": "the program: read, checked, refused at the last operation",
    "told": "the program: unstored, until a websocket has got them",
    "memory": "the program: applied and acknowledged, nothing on disk",
    "unindexed": "the program without the embedded search: durable",
    "durable": "",
    "sqlite": "no program: a bare loop inserts the same rows",
}

GOALS = (
    peer_goal("G1", "W1, 1,000 subscribers, 1M/s: p99 against uWebSockets",
              "1m", "p99_ms", "uwebsockets", "less", 1.5, 0.8),
    peer_goal("G2", "W1 at 100k/s: CPU a delivery against uWebSockets",
              "100k", "us_per_delivery", "uwebsockets", "less", 1.0, 0.75),
    peer_goal("G3", "W1 max, 100 subscribers, against nats-server",
              "max100", "delivered_s", "nats", "more", 1.2, 3),
    peer_goal("G3", "W1 max, 100 subscribers, against uWebSockets",
              "max100", "delivered_s", "uwebsockets", "more", 0.8, 1.5),
    peer_goal("G4", "W1 max, 100 subscribers, against mosquitto",
              "max100", "delivered_s", "mosquitto", "more", 10, 20),
    peer_goal("G4", "W1 max, 100 subscribers, against nchan",
              "max100", "delivered_s", "nchan", "more", 10, 20),
    peer_goal("G4", "W1 max, 100 subscribers, against ws",
              "max100", "delivered_s", "ws", "more", 10, 20),
    Goal("G5", "W5: RSS of an idle subscribed connection",
         ("idle", "tidewire", "rss_per_connection"), None, "less", 6000, 1000, " B"),
    peer_goal("G5", "W5: the same against nats-server",
              "idle", "rss_per_connection", "nats", "less", 0.25, None),
    peer_goal("G6", "W6, storm of 15,000: connects/s against nats-server",
              "storm", "connects_s", "nats", "more", 1.2, 4),
    peer_goal("G6", "W6, storm of 15,000: connects/s against uWebSockets",
              "storm", "connects_s", "uwebsockets", "more", None, 0.7),
    program_goal("G7", "durable writes/s against bare inserts of the same rows",
                 "store_writes", "log_s", "bare_s", "more", 0.5, 0.8),
    program_goal("G7", "durable writes/s against the usual two tables",
                 "store_writes", "log_s", "tables_s", "more", 2, 4),
    peer_goal("G7", "W7: durable writes/s against JetStream, sync always",
              "writemax", "acked_s", "jetstream-sync", "more", 2, 4),
    peer_goal("(G7)", "the same against redis, appendfsync always (a yardstick)",
              "writemax", "acked_s", "redis", "more", None, None),
    Goal("G8", "W7, idle: answer to event against a round trip between cores",
         ("write", "tidewire", "told_p50_ms"), ("write", "tidewire", "round_trip_us"), "less", 8, 3,
         scale=1000),
    peer_goal("G9", "W4, 1,000 come back after 5,000 events: events/s against nchan",
              "resume", "catch_up_s", "nchan-resume", "more", 1, 3),
    peer_goal("G9", "W4, the same against JetStream",
              "resume", "catch_up_s", "jetstream", "more", 1, 3),
    program_goal("G10", "W3: snapshot rate against bare scan and JSON",
                 "snapshot_read", "pages_s", "bare_s", "more", 0.3, 0.6),
    program_goal("G11", "W8, 100,000 subscriptions, 90 % indexable: CPU an event",
                 "topic_match", "index_us", None, "less", 20, 3, " us"),
    program_goal("G11", "the same: naive scan against it",
                 "topic_match", "scan_us", "index_us", "more", 50, 300),
    *(program_goal("(G11)", f"100,000 subscriptions, 10 % {what}: CPU an event",
                   f"topic_match_{kind}", "index_us", None, "less", None, None, " us")
      for kind, what in (("negations", "of $ne and $nin"),
                         ("classes", "regular expressions, no letters"),
                         ("literals", "regular expressions"), ("ranges", "ranges"))),
    program_goal("(G11)", "100,000 subscriptions, all by equality: CPU an event",
                 "topic_match_all", "index_us", None, "less", None, None, " us"),
    Goal("(G11)", "W8 through the whole program, 10 % by no index: CPU an event",
         ("filters90", "tidewire", "us_per_event"), None, "less", None, None, " us"),
    program_goal("G12", "BSON to JSON against libbson's writer",
                 "json_render", "ours_s", "theirs_s", "more", 10, 25),
    Goal("G13", "W9: p99 of the healthy with 1 % stalled against none",
         ("slow", "tidewire", "p99_ms"), ("slow", "tidewire", "none_p99_ms"), "less", 2, 1.1),
    program_goal("G14", "records/s of 16 KiB batches, durable, against bare push/pull",
                 "service_ingress", "durable_s", "bare_s", "more", 0.7, 0.95),
    *(program_goal("(G14)", text, "service_ingress", f"{rung}_s", "bare_s", "more", None, None)
      for rung, text in LADDER.items() if text),
    program_goal("(G14)", "durable against the bare loop", "service_ingress", "durable_s",
                 "sqlite_s", "more", None, None),
)


@dataclass
class Reached:
    goal: Goal
    value: float | None
    low: float | None
    high: float | None
    limit: str
    verdict: str


def limit_of(row):
    """Who was the limit of a run: the rate (it was held), server, load, both or neither."""
    figures, rate = row["figures"], row.get("rate", 0)
    if row["peer"] == PROGRAM:
        return ""
    if rate and figures.get("published_s", 0) >= HELD * rate:
        return "the rate"
    server, load = figures.get("server_cpu", 0) >= FULL, figures.get("load_cpu", 0) >= FULL
    word = {(1, 1): "both", (1, 0): "server", (0, 1): "load", (0, 0): "neither"}
    return word[(int(server), int(load))] + (", behind" if rate else "")


def limits(runs, timed):
    """The limit most rounds had, by peer; of idle memory nothing is one."""
    if not timed:
        return ""
    parts = []
    for peer in dict.fromkeys(row["peer"] for row in runs):
        words = [limit_of(row) for row in runs if row["peer"] == peer]
        word = statistics.mode(words)
        if word:
            parts.append(f"{peer}: {word}")
    return "; ".join(parts)


def state_of(rows, key, versions):
    """Why the runs of a figure cannot be used, or ""; and the runs."""
    label, peer, figure = key
    runs = rows.of(label, peer)
    if peer != PROGRAM and versions.get(peer, "") is None:
        return f"skipped: no {peer}", []
    if not runs:
        return "not run", []
    if any(row["status"] != "ok" for row in runs):
        return f"failed: {peer}", []
    if not all(row["figures"].get(figure) for row in runs):
        return f"no figure: {peer}", []
    return "", runs


def wrong(runs):
    """What was lost, repeated, refused in all."""
    return sum(row["figures"].get(bad, 0) for row in runs for bad in BAD)


def judge(goal, value, own, other):
    """The verdict of a goal all of whose runs are there. What was disturbed never passes."""
    runs = own + other
    if any(is_disturbed(row) for row in runs):
        most = max(row["figures"].get("other_cpu", 0) for row in runs)
        return f"disturbed (others {most:.0%}, allowed {OTHERS_MAX:.0%})"
    if any(row["sizes"] == "tiny" for row in runs):
        return "too small to count"
    if wrong(own):
        return f"missed: {wrong(own):.0f} lost, repeated or refused"
    if any("behind" in limit_of(row) for row in own):
        return "missed: fell behind"
    if any("behind" in limit_of(row) for row in other):
        return "no ratio: the peer fell behind"

    def holds(wanted):
        return value <= wanted if goal.better == "less" else value >= wanted

    if goal.first is None and goal.great is None:
        return ""
    if goal.great is not None and holds(goal.great):
        return "great"
    if goal.first is None or holds(goal.first):
        return "pass" if goal.first is not None else "missed"
    return "missed"


def reach(goal, rows, versions):
    state, own = state_of(rows, goal.own, versions)
    base_state, other = state_of(rows, goal.other, versions) if goal.other else ("", [])
    if state or base_state:
        told = base_state if not state or base_state.startswith("skipped") else state
        return Reached(goal, None, None, None, "", told)

    def values(runs, figure):
        return [row["figures"][figure] for row in runs]

    mine = [value * goal.scale for value in values(own, goal.own[2])]
    base = [1.0] if goal.other is None else values(other, goal.other[2])
    same_run = goal.other is not None and goal.own[:2] == goal.other[:2]
    # Rounds are interleaved: the ratio of each round is its spread.
    pairs = [a / b for a, b in zip(mine, base if goal.other else base * len(mine))]
    value = statistics.median(mine) / statistics.median(base)
    if same_run and goal.own[1] == PROGRAM:
        value = statistics.median(pairs)  # both sides in one process, one after the other
    limit = limits(own + ([] if same_run else other), goal.own[2] != "rss_per_connection")
    return Reached(goal, value, min(pairs), max(pairs), limit, judge(goal, value, own, other))


def reach_all(rows, versions):
    return [reach(goal, rows, versions) for goal in GOALS]


def wanted_text(goal, wanted):
    if wanted is None:
        return ""
    return f"{'<=' if goal.better == 'less' else '>='} {wanted:g}{goal.unit}"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def reached_text(reached):
    if reached.value is None:
        return ""
    unit = reached.goal.unit
    text = f"{number(reached.value)}{unit}"
    if reached.high - reached.low > 0.005 * reached.value:
        text += f" ({number(reached.low)}-{number(reached.high)})"
    return text
