"""Keys of an identity provider, made and used by the command openssl, and a server of their set."""

import base64
import http.server
import json
import ssl
import subprocess
import threading
import time


def openssl(*arguments, data=None):
    done = subprocess.run(["openssl", *arguments], check=True, capture_output=True, input=data)
    return done.stdout


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """One key pair of RS256, ES256 or EdDSA."""

    MAKE = {
        "RS256": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "EdDSA": ["-algorithm", "ED25519"],
    }

    def __init__(self, folder, kid, algorithm):
        self.kid, self.algorithm, self.folder = kid, algorithm, folder
        self.file = str(folder / f"{kid}.pem")
        openssl("genpkey", *self.MAKE[algorithm], "-out", self.file)

    def jwk(self):
        der = openssl("pkey", "-in", self.file, "-pubout", "-outform", "DER")
        about = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if self.algorithm == "EdDSA":
            return about | {"kty": "OKP", "crv": "Ed25519", "x": encode(der[-32:])}
        if self.algorithm == "ES256":
            x, y = der[-64:-32], der[-32:]
            return about | {"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}
        modulus = openssl("rsa", "-in", self.file, "-noout", "-modulus").decode()
        n = bytes.fromhex(modulus.strip().partition("=")[2])
        return about | {"kty": "RSA", "n": encode(n), "e": "AQAB"}

    def _signature(self, text):
        if self.algorithm == "EdDSA":
            file = self.folder / f"{self.kid}.text"
            file.write_bytes(text)
            return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.file, "-in", str(file))
        made = openssl("dgst", "-sha256", "-sign", self.file, data=text)
        if self.algorithm == "RS256":
            return made
        halves, at = b"", 2  # of DER: a sequence of two integers
        for _ in range(2):
            size = made[at + 1]
            halves += made[at + 2 : at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + size
        return halves

    def token(self, seconds=600, **claims):
        head = {"alg": self.algorithm, "kid": self.kid}
        claims = {"sub": "ada", "exp": time.time() + seconds} | claims
        text = ".".join(encode(json.dumps(part).encode()) for part in (head, claims))
        return text + "." + encode(self._signature(text.encode()))


def make_root(folder, name):
    """An authority of its own: NAME.pem, NAME.key."""
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem"),
    )  # fmt: skip


def make_authority(folder):
    """An authority (ca.pem) and the certificate (server.pem, server.key) of this host by it."""
    make_root(folder, "ca")
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
        "-keyout", str(folder / "server.key"), "-out", str(folder / "server.csr"),
    )  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,IP:0.0.0.0,DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", str(folder / "server.csr"), "-CA", str(folder / "ca.pem"),
        "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "2",
        "-extfile", str(folder / "names"), "-out", str(folder / "server.pem"),
    )  # fmt: skip


class KeyServer:
    """https with a set of keys; counts who asks. hold: answers come when it is cleared."""

    def __init__(self, folder, port=0):
        self.body, self.asked = b'{"keys":[]}', 0
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                outer.hold.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # who asked does not trust the certificate, or went away

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.server = Quiet(("127.0.0.1", port), Handler)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self.server.server_address[1]
        self.url = f"https://localhost:{self.port}/keys"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def tell(self, *keys):
        self.body = json.dumps({"keys": [key.jwk() for key in keys]}).encode()

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
