"""A door to a real search cluster that misbehaves on demand, as no cluster can be asked to."""

import http.server
import json
import threading
import time
import urllib.error
import urllib.request

HUGE = 2 << 30  # bytes offered; far more than the bound of a reply


class Faults:
    """mode: pass, slow, hang, 429, 503, half_json, huge, wrong_type, cut."""

    def __init__(self, target):
        self.target = target
        self.mode = "pass"
        self.calls = 0
        self.bulks_left = None  # so many are let through, then it is as in mode cut; None: all
        self.wanted = None  # an Authorization; others get 401
        self.lifecycles = False  # play the part that the test servers lack
        self.policies = []
        self.released = threading.Event()
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def any(self):
                outer.calls += 1
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                try:
                    outer.answer(self, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.set("pass")
        self.server.shutdown()
        self.server.server_close()

    def set(self, mode):
        """Those that hang are let go by the next mode."""
        self.mode = mode
        released, self.released = self.released, threading.Event()
        released.set()

    def forward(self, handler, body):
        request = urllib.request.Request(
            self.target + handler.path, data=body, method=handler.command
        )
        if handler.headers.get("Content-Type"):
            request.add_header("Content-Type", handler.headers["Content-Type"])
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    @staticmethod
    def send(handler, status, kind, body):
        """kind: the type of the body, or the headers of the cluster's answer, of which the two
        that the server reads are told."""
        told = {"Content-Type": kind} if isinstance(kind, str) else kind
        handler.send_response(status)
        for name in ("Content-Type", "X-elastic-product"):
            if told.get(name):
                handler.send_header(name, told[name])
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def play_lifecycle(self, handler, body):
        """Index state management, which no server of the tests has: the setting is taken, under
        the name that either family of engines gives it."""
        names = (b"index_state_management.policy_id", b"index.lifecycle.name")
        named = any(name in (body or b"") for name in names)
        if not self.lifecycles or handler.command != "PUT" or not named:
            return body, False
        told = json.loads(body)
        if handler.path.endswith("/_settings"):
            self.policies += told.values()
            self.send(handler, 200, "application/json", b'{"acknowledged":true}')
            return body, True
        for name in names:
            told["settings"].pop(name.decode(), None)
            told["settings"].pop("index.plugins." + name.decode(), None)
        return json.dumps(told).encode(), False

    def answer(self, handler, body):
        mode, released = self.mode, self.released
        if self.wanted and handler.headers.get("Authorization") != self.wanted:
            self.send(handler, 401, "application/json", b'{"error":{"type":"security_exception"}}')
            return
        body, answered = self.play_lifecycle(handler, body)
        if answered:
            return
        if self.bulks_left is not None and "_bulk" in handler.path:
            with self.lock:
                mode = mode if self.bulks_left > 0 else "cut"
                self.bulks_left = max(0, self.bulks_left - 1)
        if mode in ("429", "503"):
            self.send(handler, int(mode), "application/json", b'{"error":"too busy"}')
        elif mode == "cut":
            handler.close_connection = True
            handler.connection.close()
        elif mode == "slow":
            released.wait(5)
            self.send(handler, *self.forward(handler, body))
        elif mode == "hang":
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"took":1,')
            handler.wfile.flush()
            released.wait(60)
            handler.close_connection = True
        elif mode == "half_json":
            self.send(handler, 200, "application/json", b'{"took":1,"hits":{"hits":[')
        elif mode == "wrong_type":
            self.send(handler, 200, "text/html", b"<html>a proxy's page</html>")
        elif mode == "huge":
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            part = b" " * 65536
            end = time.monotonic() + 30
            for _ in range(HUGE // len(part)):
                handler.wfile.write(b"10000\r\n" + part + b"\r\n")
                if time.monotonic() > end:
                    break
            handler.wfile.write(b"0\r\n\r\n")
        else:
            self.send(handler, *self.forward(handler, body))
