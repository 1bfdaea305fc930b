/* socket.ts - one websocket that comes back: states, back-off, heartbeat.
 *
 *   connecting -> online -> stale (nothing heard for a while: asked for a sign of life) -> offline
 *        ^                                                                                   |
 *        +------- full jitter: random below min(maxMs, baseMs * 2^tries); at once when ------+
 *                 the browser says `online` or the page becomes visible
 *
 * Invariants
 * 1. Frames are given out only between `up` and the next `down`; those of an older socket never.
 * 2. After `close` nothing is given out and no timer is left.
 * 3. No socket that was up is given up unasked: a page that was frozen hears what waited for it
 *    before it judges, and what is dead is known PROBE_MS after the page is looked at again. */
import { errorOf, TidewireError } from "./errors.js";
import type { Frame } from "./wire.js";
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

/** Why a token is wanted: the connection begins, its token will expire soon, or one was refused (give a
 * new one, not one that is kept). */
export type TokenReason = "connect" | "expiry" | "refused";

export interface SocketOptions {
  /** Where there is no global WebSocket (Node 20): the class of npm `ws`. */
  WebSocket?: SocketClass;
  /** Gives the token of `hello`: for each connection, before the token expires (the connection stays),
   * and at once when one is refused; if the next is refused too, after the back-off. */
  getToken?: (why: TokenReason) => string | Promise<string>;
  /** Back-off: a random time below min(maxMs, baseMs · 2^tries). 200 and 20,000 ms by default. */
  backoff?: { baseMs?: number; maxMs?: number };
  /** Silence after which a sign of life is asked for; 25,000 ms by default. Where none comes in
   * 8 seconds (or this time, if shorter), the socket is given up and opened anew. */
  heartbeatMs?: number;
}

interface Handlers {
  state(state: State): void;
  /** We are let in; again with each new token. */
  up(welcome: Frame, isAgain: boolean): void;
  down(): void;
  frame(frame: Frame): void;
  /** The server does not let us in, or there is no token: told once a connection, tried again. */
  refused(error: TidewireError): void;
}

const HANDSHAKE_MS = 10_000; // as long as the server waits for a hello
const PROBE_MS = 8000; // as long as the server waits for a pong
const TICK_MS = 1000;
const STABLE_MS = 5000; // up for that long: the next break is a new one, not more of the last
const LEAD_MS = 60_000; // before a token expires, but no more than a fifth of its time
const TOKEN_AGAIN_MS = 30_000; // when the next could not be had, or this clock thinks it is over
const NO_TOKEN = 4401;
/** Close codes by which the server says no, and the codes of its errors. */
const REFUSALS: { readonly [code: number]: string } = {
  [NO_TOKEN]: "token",
  4403: "forbidden",
  4429: "rate",
};

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
  #tickedMs = 0;
  #probedMs = 0; // when a sign of life was asked for; 0: none is awaited
  #isRefused = false; // told already
  #upMs = 0; // when we were let in
  #refreshMs = Infinity; // when the next token is asked for
  #isTokenBad = false; // the last one was refused
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #stopTicker: () => void;
  #stopListening: () => void;

  constructor(url: string, options: SocketOptions, handlers: Handlers) {
    this.#url = url;
    this.#options = options;
    this.#handlers = handlers;
    if ((options.WebSocket ?? globalThis.WebSocket) === undefined) {
      throw new TidewireError("no_websocket", "there is no WebSocket here", "give one in options");
    }
    this.#stopTicker = ticker(TICK_MS, () => this.#beat());
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

  send(text: string): void {
    this.#socket?.send(text);
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
    let socket: SocketLike;
    try {
      socket = new Class(this.#url) as SocketLike;
    } catch (error) {
      this.#refuse(new TidewireError("bad_url", String(error))); // ws: from a page of https:, say
      this.#enter("offline");
      return this.#retryLater();
    }
    this.#socket = socket;
    this.#isRefused = false;
    this.#probedMs = 0;
    this.#beganMs = this.#heardMs = this.#tickedMs = Date.now();
    socket.onopen = () => void this.#greet(socket);
    socket.onmessage = ({ data }) => this.#hear(socket, data);
    socket.onerror = () => {}; // a close follows
    socket.onclose = ({ code, reason }) => this.#gone(socket, code, reason);
  }

  async #greet(socket: SocketLike): Promise<void> {
    try {
      const why = this.#isUp ? "expiry" : this.#isTokenBad ? "refused" : "connect";
      const token = await this.#options.getToken?.(why);
      if (this.#socket === socket) this.send(JSON.stringify({ type: "hello", ...(token && { token }) }));
    } catch (error) {
      if (this.#socket !== socket) return;
      this.#refuse(new TidewireError("no_token", `getToken: ${String(error)}`, "", "backoff"));
      if (!this.#isUp) this.#lose(socket); // else asked again, while the old one is good
    }
  }

  /** `expires` is in seconds, by the server's clock. */
  #welcomed(welcome: Frame): void {
    const isAgain = this.#isUp;
    const now = Date.now();
    if (!isAgain) this.#upMs = now;
    this.#tries = Math.min(this.#tries, 3);
    this.#isUp = true;
    this.#isRefused = false;
    const leftMs = Number(welcome["expires"] ?? Infinity) * 1000 - now;
    this.#refreshMs = now + (leftMs > 0 ? leftMs - Math.min(LEAD_MS, leftMs / 5) : TOKEN_AGAIN_MS);
    this.#handlers.up(welcome, isAgain);
  }

  #refuse(error: TidewireError): void {
    if (this.#isRefused) return;
    this.#isRefused = true;
    this.#handlers.refused(error);
  }

  #hear(socket: SocketLike, data: unknown): void {
    if (this.#socket !== socket) return;
    this.#heardMs = Date.now();
    this.#probedMs = 0;
    const frame = JSON.parse(String(data)) as Frame;
    if (frame.type === "welcome") this.#welcomed(frame);
    if (this.#isUp) this.#enter("online");
    if (frame.type === "error" && frame["code"] === "draining") {
      this.#notBeforeMs = Date.now() + Number(frame["after_ms"] ?? 0);
    }
    if (!this.#isUp && frame.type === "error" && !this.#mayAskAnew(frame["code"])) this.#refuse(errorOf(frame));
    if (this.#isUp && frame.type !== "welcome") this.#handlers.frame(frame);
  }

  #gone(socket: SocketLike, code: number, reason: string): void {
    if (this.#socket !== socket) return;
    const refusal = REFUSALS[code];
    const isAnew = this.#mayAskAnew(refusal);
    if (refusal !== undefined && !isAnew) {
      this.#refuse(new TidewireError(refusal, reason || `closed with ${code}`, "", "backoff"));
    }
    if (code === NO_TOKEN) this.#isTokenBad = true;
    this.#lose(socket, isAnew);
  }

  /** A token that was refused may be an old one: another is asked for, once. */
  #mayAskAnew(code: unknown): boolean {
    return code === REFUSALS[NO_TOKEN] && this.#options.getToken !== undefined && !this.#isTokenBad;
  }

  /** This socket is over, whatever it may still deliver. */
  #lose(socket: SocketLike, isAtOnce = false): void {
    if (this.#socket !== socket) return;
    this.#drop(3000);
    this.#enter("offline");
    if (isAtOnce) this.#open();
    else this.#retryLater();
  }

  #drop(code: number): void {
    const socket = this.#socket;
    const wasUp = this.#isUp;
    this.#socket = undefined;
    this.#isUp = false;
    this.#refreshMs = Infinity;
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
    } else if (this.#isUp && this.#probedMs === 0) {
      this.#probe(Date.now());
    }
  }

  #probe(now: number): void {
    this.#probedMs = now;
    this.send('{"type":"ping"}');
  }

  #beat(): void {
    const socket = this.#socket;
    const now = Date.now();
    const wasFrozen = now - this.#tickedMs > 5 * TICK_MS; // what came meanwhile is not heard yet
    this.#tickedMs = now;
    if (socket === undefined) return;
    if (this.#isUp && now - this.#upMs >= STABLE_MS) {
      this.#tries = 0;
      this.#isTokenBad = false;
    }
    if (now >= this.#refreshMs) {
      this.#refreshMs = now + TOKEN_AGAIN_MS;
      void this.#greet(socket);
    }
    const { heartbeatMs = 25_000 } = this.#options;
    if (!this.#isUp) {
      if (!wasFrozen && now - this.#beganMs > HANDSHAKE_MS) this.#lose(socket);
    } else if (wasFrozen) {
      this.#probe(now);
    } else if (this.#probedMs > 0) {
      if (now - this.#probedMs > Math.min(PROBE_MS, heartbeatMs)) this.#lose(socket);
      else if (now - this.#heardMs > heartbeatMs) this.#enter("stale");
    } else if (now - this.#heardMs > heartbeatMs) {
      this.#enter("stale");
      this.#probe(now);
    }
  }
}

/** Calls back when the browser is online again, or the page is looked at, thawed or shown again. */
function onReturn(call: () => void): () => void {
  if (typeof addEventListener !== "function") return () => {};
  const page = typeof document === "undefined" ? undefined : document;
  const seen = () => page?.visibilityState === "visible" && call();
  const listening: [EventTarget | undefined, string, () => void][] = [
    [globalThis as unknown as EventTarget, "online", call],
    [globalThis as unknown as EventTarget, "pageshow", call],
    [page, "visibilitychange", seen],
    [page, "resume", call],
  ];
  for (const [target, name, listener] of listening) target?.addEventListener(name, listener);
  return () => {
    for (const [target, name, listener] of listening) target?.removeEventListener(name, listener);
  };
}
