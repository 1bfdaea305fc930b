"""A processor of the scenarios: a service that rewrites documents; it can be made to fail."""

import threading
import time

import msgpack
import pynng


class Processor:
    """Answers at url in a thread. rewrite: a document to a document, or None; what it raises is
    answered as a refusal. Its faults are changed while it runs."""

    def __init__(self, url, rewrite):
        self.url, self.rewrite = url, rewrite
        self.delay = 0.0
        self.answer = None  # bytes, or a map, in place of every answer
        self.die_on = lambda doc: False
        self.calls, self.sizes = 0, []
        self.socket = self.thread = None

    def start(self):
        self.socket = pynng.Rep0(listen=self.url, recv_timeout=100, recv_max_size=0)
        self.thread = threading.Thread(target=self._run, args=(self.socket,), daemon=True)
        self.thread.start()
        return self

    def stop(self):
        """Its connections end, as when it is killed."""
        socket, self.socket = self.socket, None
        if socket is not None:
            socket.close()
            if self.thread is not threading.current_thread():
                self.thread.join()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _run(self, socket):
        while self.socket is socket:
            try:
                asked = msgpack.unpackb(socket.recv(), strict_map_key=False)
            except pynng.exceptions.Timeout:
                continue
            except pynng.exceptions.Closed:
                return
            self.calls += 1
            self.sizes.append(len(asked["docs"]))
            if any(self.die_on(doc) for doc in asked["docs"]):
                self.stop()
                threading.Thread(target=self.start, daemon=True).start()
                return
            time.sleep(self.delay)  # the fault itself: a service that is slow
            try:
                socket.send(self._answer(asked))
            except pynng.exceptions.NNGException:
                return

    def _answer(self, asked):
        assert asked["op"] == "process" and asked["collection"], asked
        if self.answer is not None:
            return self.answer if isinstance(self.answer, bytes) else msgpack.packb(self.answer)
        try:
            docs = [self.rewrite(doc) for doc in asked["docs"]]
        except ValueError as error:
            return msgpack.packb({"ok": False, "message": str(error)})
        return msgpack.packb({"ok": True, "docs": docs})
