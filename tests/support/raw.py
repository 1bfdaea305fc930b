"""Websockets by hand: for frames that no library sends, and for peers that do not read."""

import json
import os
import socket
import struct

from server import PATIENCE_S


def handshake(server, path="/ws", extra="", receive_bytes=0):
    """(socket, answer) of an upgrade; receive_bytes: the size of the kernel's queue."""
    raw = socket.socket()
    if receive_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.settimeout(PATIENCE_S)
    raw.connect(("127.0.0.1", server.port))
    raw.sendall(
        (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{extra}\r\n"
        ).encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = raw.recv(4096)
        if not more:
            break
        answer += more
    return raw, answer


def masked(opcode, payload, fin=True):
    mask = os.urandom(4)
    body = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    head += bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + struct.pack(">H", size)
    return head + mask + body


class Raw:
    """A client that reads only when it is asked to."""

    def __init__(self, server, receive_bytes=4096):
        self.socket, answer = handshake(server, receive_bytes=receive_bytes)
        head, _, self.data = answer.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], answer
        self.at = 0

    def send(self, **message):
        self.socket.sendall(masked(1, json.dumps(message).encode()))

    def take(self, count):
        while len(self.data) - self.at < count:
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionResetError("the server has ended it")
            self.data, self.at = self.data[self.at :] + more, 0
        self.at += count
        return self.data[self.at - count : self.at]

    def frame(self, seconds=PATIENCE_S):
        """(opcode, payload) of the next frame."""
        self.socket.settimeout(seconds)
        first, size = self.take(2)
        if size == 126:
            (size,) = struct.unpack(">H", self.take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.take(8))
        return first & 15, self.take(size)

    def next(self, seconds=PATIENCE_S):
        """The next message; pings are not answered."""
        while True:
            opcode, payload = self.frame(seconds)
            if opcode == 1:
                return json.loads(payload)
            if opcode == 8:
                raise ConnectionResetError(f"closed {payload[:2].hex()} {payload[2:]}")
