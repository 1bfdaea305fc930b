"""Backend services of the scenarios: pynng and msgpack, nothing of Tidewire's own."""

import time

import msgpack
import pynng

from server import PATIENCE_S

GONE = (pynng.exceptions.Timeout, pynng.exceptions.ConnectionRefused, pynng.exceptions.Closed)


def feed_url(url):
    """Where a service socket publishes: tcp at the next port, else at the name with .feed."""
    if url.startswith("tcp://"):
        host, _, port = url.rpartition(":")
        return f"{host}:{int(port) + 1}"
    return url + ".feed"


def dial(socket, url):
    """Connects at once where somebody listens; where nobody does, or one who is being killed, nng
    goes on trying by itself."""
    socket.reconnect_time_min, socket.reconnect_time_max = 10, 100
    try:
        socket.dial(url, block=True)
    except pynng.exceptions.NNGException:
        socket.dial(url, block=False)
    return socket


class Service:
    """One backend service: a request, its answer."""

    def __init__(self, url, seconds=PATIENCE_S):
        self.socket = dial(pynng.Req0(resend_time=600000), url)
        self.socket.send_timeout = self.socket.recv_timeout = int(seconds * 1000)
        self.socket.recv_max_size = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def raw(self, data):
        """The answer to bytes that may be no request at all."""
        self.socket.send(data)
        return self.received()

    def send(self, op, **fields):
        """Asks, without waiting for the answer, which is received later."""
        self.socket.send(msgpack.packb({"op": op, **fields}))

    def received(self):
        return msgpack.unpackb(self.socket.recv(), strict_map_key=False)

    def ask(self, op, **fields):
        return self.raw(msgpack.packb({"op": op, **fields}))

    def one(self, op, **fields):
        """The answer of a request that is to succeed."""
        answer = self.ask(op, **fields)
        assert answer["ok"] is True, answer
        return answer

    def refused(self, op, **fields):
        """The answer of a request that is to be refused."""
        answer = self.ask(op, **fields)
        assert answer["ok"] is False and answer["message"] and answer["retry"], answer
        return answer

    def until_ok(self, seconds, op, **fields):
        """Repeats a request, which has an opid or reads, until a server acknowledges it."""
        end = time.monotonic() + max(seconds, PATIENCE_S)
        while True:
            try:
                answer = self.ask(op, **fields)
                if answer["ok"]:
                    return answer
                assert answer["retry"] != "no", answer
            except GONE:
                pass
            assert time.monotonic() < end, f"{op} was not acknowledged within {seconds} s"


class Feed:
    """Follows a collection as the feed's rules say: what is missing is read again by `replay`,
    which also tells the topic of a collection in the server's default database."""

    def __init__(self, url, collection, database=None, after=0, idle_s=0.5):
        self.socket = dial(pynng.Sub0(), feed_url(url))
        self.socket.recv_max_size = 0
        self.socket.recv_timeout = int(idle_s * 1000)
        self.topic = None
        if database is not None:
            self.subscribe(f"{database}.{collection}")
        self.service = Service(url, 2)
        self.collection, self.position = collection, after
        self.batches = []  # numbers of the messages that were heard
        self.replays = 0
        self.behind = True  # what stood there before

    def subscribe(self, topic):
        self.topic = topic.encode() + b"\0"
        self.socket.subscribe(self.topic)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.service.socket.close()

    def next(self):
        """The rows that come next; none after silence, or while the server is away."""
        return self.read_again() if self.behind else self.hear()

    def read_again(self):
        try:
            answer = self.service.ask("replay", collection=self.collection, after=self.position)
        except GONE:
            return []
        if not answer["ok"]:
            assert answer["retry"] != "no", answer
            return []
        if self.topic is None:
            self.subscribe(answer["topic"])
        self.replays += 1
        self.behind = answer["upto"] < answer["head"]
        return self.take(answer["rows"], answer["upto"])

    def hear(self):
        try:
            data = self.socket.recv()
        except GONE:
            self.behind = True  # the last message may be the lost one
            return []
        assert data.startswith(self.topic)
        message = msgpack.unpackb(data[len(self.topic) :], strict_map_key=False)
        self.batches.append(message["batch"])
        if message["n_prev"] > self.position:
            self.behind = True
            return []
        assert message["n"] == message["rows"][-1]["n"]
        return self.take(message["rows"], message["n"])

    def take(self, rows, upto):
        numbers = [row["n"] for row in rows]
        assert numbers == sorted(set(numbers)), "rows come in order, each once"
        fresh = [row for row in rows if row["n"] > self.position]
        self.position = max(self.position, upto)
        return fresh

    def until(self, condition, seconds, rows=None):
        """Follows until the rows together fulfil the condition; returns all of them."""
        rows = [] if rows is None else rows
        end = time.monotonic() + max(seconds, PATIENCE_S)
        while not condition(rows):
            assert time.monotonic() < end, f"the feed stands at {self.position}, {len(rows)} rows"
            rows += self.next()
        return rows
