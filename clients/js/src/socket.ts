/* socket.ts - one websocket that comes back: states, back-off, heartbeat.
 *
 *   connecting -> online -> stale (nothing heard for a while: asked for a sign of life) -> offline
 *        ^                                                                                   |
 *        +------- full jitter: random below min(maxMs, baseMs * 2^tries); at once when ------+
 *                 the browser says `online` or the page becomes visible
 *
 * Invariants
 * 1. Frames are given out only between `up` and the next `down`; those of an older socket never.
 * 2. After `close` nothing is given out and no timer is left. */
import type { Frame, Json } from "./wire.js";
import { ticker } from "./ticker.js";

export type State = "connecting" | "online" | "stale" | "offline" | "closed";

/** As much of the browser's WebSocket as is used: npm `ws` has it too. */
export interface SocketLike {
  readyState: number;
  bufferedAmount: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}
export type SocketClass = new (url: string) => unknown;

export interface SocketOptions {
  /** Where there is no global WebSocket (Node 20): the class of npm `ws`. */
  WebSocket?: SocketClass;
  /** Gives the token of `hello`, asked again for each connection and after a refusal. */
  getToken?: () => string | Promise<string>;
  /** Back-off: a random time below min(maxMs, baseMs · 2^tries). 200 and 20,000 ms by default. */
  backoff?: { baseMs?: number; maxMs?: number };
  /** Silence after which a sign of life is asked for; twice as long, and the socket is given up. */
  heartbeatMs?: number;
}

interface Handlers {
  state(state: State): void;
  up(welcome: Frame): void;
  down(): void;
  frame(frame: Frame): void;
}

const HANDSHAKE_MS = 10_000; // as long as the server waits for a hello

export class Socket {
  readonly #url: string;
  readonly #options: SocketOptions;
  readonly #handlers: Handlers;
  #socket: SocketLike | undefined;
  #state: State = "offline";
  #isUp = false;
  #tries = 0;
  #notBeforeMs = 0; // the server's own after_ms
  #heardMs = 0;
  #beganMs = 0;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #stopTicker: () => void;
  #stopListening: () => void;

  constructor(url: string, options: SocketOptions, handlers: Handlers) {
    this.#url = url;
    this.#options = options;
    this.#handlers = handlers;
    this.#stopTicker = ticker(1000, () => this.#beat());
    this.#stopListening = onReturn(() => this.#hurry());
    queueMicrotask(() => this.#open());
  }

  get state(): State {
    return this.#state;
  }

  /** Bytes that the browser has not handed to the network yet. */
  get pendingBytes(): number {
    return this.#socket?.bufferedAmount ?? 0;
  }

  send(frame: { [name: string]: unknown }): void {
    this.#socket?.send(JSON.stringify(frame));
  }

  close(): void {
    if (this.#state === "closed") return;
    clearTimeout(this.#retryTimer);
    this.#stopTicker();
    this.#stopListening();
    this.#enter("closed");
    this.#drop(1000);
  }

  #enter(state: State): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.#handlers.state(state);
  }

  #open(): void {
    if (this.#state === "closed" || this.#socket !== undefined) return;
    this.#enter("connecting");
    const Class = this.#options.WebSocket ?? globalThis.WebSocket;
    if (Class === undefined) throw new Error("there is no WebSocket here: give one in options");
    const socket = new Class(this.#url) as SocketLike;
    this.#socket = socket;
    this.#beganMs = this.#heardMs = Date.now();
    socket.onopen = () => void this.#greet(socket);
    socket.onmessage = ({ data }) => this.#hear(socket, data);
    socket.onerror = () => {}; // a close follows
    socket.onclose = ({ code, reason }) => this.#gone(socket, code, reason);
  }

  async #greet(socket: SocketLike): Promise<void> {
    try {
      const token = await this.#options.getToken?.();
      if (this.#socket === socket) this.send({ type: "hello", ...(token && { token }) });
    } catch {
      if (this.#socket === socket) this.#lose(socket); // no token now: tried again with back-off
    }
  }

  #hear(socket: SocketLike, data: unknown): void {
    if (this.#socket !== socket) return;
    this.#heardMs = Date.now();
    const frame = JSON.parse(String(data)) as Frame;
    if (!this.#isUp && frame.type === "welcome") {
      this.#isUp = true;
      this.#tries = 0;
      this.#handlers.up(frame);
    }
    if (this.#isUp) this.#enter("online");
    if (frame.type === "error" && frame["code"] === "draining") {
      this.#notBeforeMs = Date.now() + Number(frame["after_ms"] ?? 0);
    }
    if (this.#isUp && frame.type !== "welcome") this.#handlers.frame(frame);
  }

  #gone(socket: SocketLike, _code: number, _reason: string): void {
    if (this.#socket === socket) this.#lose(socket);
  }

  /** This socket is over, whatever it may still deliver. */
  #lose(socket: SocketLike): void {
    if (this.#socket !== socket) return;
    this.#drop(3000);
    this.#enter("offline");
    this.#retryLater();
  }

  #drop(code: number): void {
    const socket = this.#socket;
    const wasUp = this.#isUp;
    this.#socket = undefined;
    this.#isUp = false;
    if (socket !== undefined) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(code);
    }
    if (wasUp) this.#handlers.down();
  }

  #retryLater(): void {
    const { baseMs = 200, maxMs = 20_000 } = this.#options.backoff ?? {};
    const most = Math.min(maxMs, baseMs * 2 ** Math.min(this.#tries++, 30));
    const waitMs = Math.max(Math.random() * most, this.#notBeforeMs - Date.now());
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#open(), waitMs);
  }

  /** The network or the user came back. */
  #hurry(): void {
    if (this.#state === "offline") {
      clearTimeout(this.#retryTimer);
      this.#tries = 0;
      this.#open();
    } else {
      this.#beat();
    }
  }

  #beat(): void {
    const socket = this.#socket;
    if (socket === undefined) return;
    const { heartbeatMs = 25_000 } = this.#options;
    const silentMs = Date.now() - this.#heardMs;
    const isLate = !this.#isUp && Date.now() - this.#beganMs > HANDSHAKE_MS;
    if (silentMs > 2 * heartbeatMs || isLate) {
      this.#lose(socket);
    } else if (this.#isUp && silentMs > heartbeatMs && this.#state !== "stale") {
      this.#enter("stale");
      this.send({ type: "ping" } satisfies { [name: string]: Json });
    }
  }
}

/** Calls back when the browser is online again or the page is looked at again. */
function onReturn(call: () => void): () => void {
  if (typeof addEventListener !== "function") return () => {};
  const seen = () => {
    if (typeof document === "undefined" || document.visibilityState === "visible") call();
  };
  addEventListener("online", call);
  if (typeof document !== "undefined") document.addEventListener("visibilitychange", seen);
  return () => {
    removeEventListener("online", call);
    if (typeof document !== "undefined") document.removeEventListener("visibilitychange", seen);
  };
}
