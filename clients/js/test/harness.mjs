// What the tests share: a server that can be killed and started again, and a proxy that cuts.
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";

import { connect } from "../dist/index.js";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
const binary = process.env.TIDEWIRE_BIN ?? path.join(root, "zig-out/bin/tidewire");

/** Resolves with the first true result of `condition`, asked every few milliseconds. */
export async function until(condition, what, seconds = 120) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}

/** A port that nobody listens on, below those that the system gives to outgoing connections: one of
 * these would sit on the port of a server that is down. And above 10080, the last of the ports that
 * fetch refuses by its standard. */
export async function freePort() {
  for (;;) {
    const port = 11000 + Math.floor(Math.random() * 9000);
    const server = net.createServer();
    const isFree = await new Promise((done) => {
      server.once("error", () => done(false));
      server.listen(port, "127.0.0.1", () => done(true));
    });
    if (!isFree) continue;
    await new Promise((done) => server.close(done));
    return port;
  }
}

export class Server {
  flags = [];
  admin = ""; // "127.0.0.1:PORT": an admin listener

  async start() {
    this.directory ??= mkdtempSync(path.join(tmpdir(), "tidewire-js-"));
    this.port ??= await freePort();
    const log = openSync(path.join(this.directory, "server.log"), "a");
    const words = ["serve", "--listen", `127.0.0.1:${this.port}`, "--admin", this.admin, "--service", "none"];
    words.push("--data", path.join(this.directory, "data"), ...this.flags);
    this.process = spawn(binary, words, { stdio: ["ignore", log, log] });
    this.ended = new Promise((done) => this.process.once("exit", done));
    await until(async () => {
      if (this.process.exitCode !== null) throw new Error(this.tail());
      const answer = await fetch(`http://127.0.0.1:${this.port}/readyz`).catch(() => undefined);
      return answer?.status === 200;
    }, `readiness\n${this.tail()}`);
    return this;
  }

  tail() {
    return readFileSync(path.join(this.directory, "server.log"), "utf8").split("\n").slice(-20).join("\n");
  }

  get url() {
    return `ws://127.0.0.1:${this.port}`;
  }

  async kill(signal = "SIGKILL") {
    this.process.kill(signal);
    await this.ended;
  }

  async close() {
    await this.kill("SIGTERM");
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A TCP proxy before a server: `cut` resets all connections, `isFrozen` stops the bytes, which are
 * counted. */
export class Proxy {
  #sockets = new Set();
  bytes = 0; // both ways
  isRefusing = false; // new connections are reset
  limit = Infinity; // bytes after which it freezes
  isFrozen = false;

  async start(port) {
    this.server = net.createServer((near) => {
      if (this.isRefusing) return near.resetAndDestroy();
      const far = net.connect(port, "127.0.0.1");
      for (const [from, to] of [[near, far], [far, near]]) {
        this.#sockets.add(from);
        from.on("data", (bytes) => {
          this.bytes += bytes.length;
          this.isFrozen ||= this.bytes > this.limit;
          if (!this.isFrozen) to.write(bytes);
        });
        from.on("close", () => (this.#sockets.delete(from), to.destroy()));
        from.on("error", () => {});
      }
    });
    this.server.listen(0, "127.0.0.1");
    await new Promise((done) => this.server.once("listening", done));
    return this;
  }

  get url() {
    return `ws://127.0.0.1:${this.server.address().port}`;
  }

  cut() {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close() {
    this.cut();
    await new Promise((done) => this.server.close(done));
  }
}

/** A connection of the library with quick retries. */
export function open(url, options = {}) {
  return connect(url, { WebSocket, backoff: { baseMs: 10, maxMs: 100 }, ...options });
}
