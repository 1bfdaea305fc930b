"""HTTP as clients of other makes use it: what is refused says why, pages of an allowed origin may
read, and figures are in the form that collectors expect."""

import json
import socket

from server import PATIENCE_S


def ask(server, text, port=None):
    """The answer to a request as bytes, head and body, up to the body's length."""
    with socket.create_connection(("127.0.0.1", port or server.port), PATIENCE_S) as peer:
        peer.sendall(text.replace("\n", "\r\n").encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = peer.recv(65536)
            assert more, answer
            answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(
            line.split(": ", 1) for line in head.decode().split("\r\n")[1:]
        )
        while len(body) < int(fields["Content-Length"]):
            body += peer.recv(65536)
    return int(head.split()[1]), fields, body.decode()


def test_refused_requests_say_why(server):
    host = f"Host: 127.0.0.1:{server.port}\n"
    for request, status, code, told in (
        ("GET /healthz HTTP/1.1\n\n", 400, "bad_message", "malformed"),
        ("GET /healthz HTTP/1.1\nHost: app.example\n\n", 403, "forbidden", "Host"),
        (f"GET / HTTP/1.1\n{host}Origin: https://app.example\n\n", 403, "forbidden", "Origin"),
        (f"POST /api/v1/c HTTP/1.1\n{host}Transfer-Encoding: chunked\n\n", 411, "bad_message",
         "Content-Length"),
        (f"POST /api/v1/c HTTP/1.1\n{host}Content-Length: 9999999\n\n", 413, "too_big", "larger"),
        (f"GET / HTTP/1.1\n{host}X: {'y' * 9000}\n\n", 431, "too_big", "head"),
        (f"POST /api/v1/c HTTP/1.1\n{host}Content-Length: 0\n\n", 400, "bad_message",
         "the body is missing"),
        (f"DELETE /api/v1/c/1?dispatch=perhaps HTTP/1.1\n{host}\n", 400, "bad_message",
         "parameter"),
    ):  # fmt: skip
        answer = ask(server, request)
        error = json.loads(answer[2])
        assert answer[0] == status and error["code"] == code, (request, answer)
        assert told in error["message"], (request, answer)
        assert error.get("hint") != "", (request, answer)


def test_wrong_method_is_told_with_those_there_are(server):
    host = f"Host: 127.0.0.1:{server.port}\n\n"
    for request, allow in (
        ("PUT /api/v1/c", "GET, HEAD, POST, DELETE"),
        ("POST /api/v1/c/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("GET /api/v1/search/c/search", "POST"),
        ("PUT /", "GET, HEAD"),
    ):
        status, fields, _ = ask(server, f"{request} HTTP/1.1\n{host}")
        assert status == 405 and sorted(fields["Allow"].split(", ")) == sorted(allow.split(", "))
    admin = f"Host: 127.0.0.1:{server.admin_port}\n\n"
    status, fields, _ = ask(server, f"POST /metrics HTTP/1.1\n{admin}", server.admin_port)
    assert status == 405 and fields["Allow"] == "GET, HEAD"


def test_pages_of_allowed_origins_may_read_answers(make_server):
    server = make_server(flags=["--origins", "https://app.example"]).start()
    host = f"Host: 127.0.0.1:{server.port}\n"
    ours, other = "Origin: https://app.example\n", "Origin: https://other.example\n"
    asks = "Access-Control-Request-Method: PUT\n\n"
    status, fields, _ = ask(server, f"OPTIONS /api/v1/c/1 HTTP/1.1\n{host}{ours}{asks}")
    assert status == 200 and fields["Access-Control-Allow-Origin"] == "*"
    assert "PUT" in fields["Access-Control-Allow-Methods"]
    assert "Authorization" in fields["Access-Control-Allow-Headers"]
    status, fields, _ = ask(server, f"GET /api/v1/c HTTP/1.1\n{host}{ours}\n")
    assert status == 200 and fields["Access-Control-Allow-Origin"] == "*"
    for request in (f"OPTIONS /api/v1/c HTTP/1.1\n{host}{other}{asks}",
                    f"GET /api/v1/c HTTP/1.1\n{host}{other}\n"):  # fmt: skip
        status, fields, _ = ask(server, request)
        assert status == 403 and "Access-Control-Allow-Origin" not in fields
    status, fields, _ = ask(server, f"GET /api/v1/c HTTP/1.1\n{host}\n")
    assert status == 200 and "Access-Control-Allow-Origin" not in fields, "no browser asked"


def test_metrics_have_types_and_stand_together(server):
    status, text = server.http("/metrics", admin=True)
    assert status == 200
    seen, typed = [], {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed, f"{name} has two types"
            typed[name] = kind
            seen.append(name)
        else:
            name = line.split("{")[0].split(" ")[0]
            assert seen and name == seen[-1], f"{name} is apart from its type"
            float(line.rsplit(" ", 1)[1])
    assert all((kind == "counter") == name.endswith("_total") for name, kind in typed.items())
    assert {"tidewire_connections", "tidewire_service_requests_total", "tidewire_build_info",
            "process_cpu_seconds_total"} <= set(typed)  # fmt: skip
