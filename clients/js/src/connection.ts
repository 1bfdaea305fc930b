/* connection.ts - what `connect` gives: one websocket, many streams, requests, and their states. */
import { Changes, type ChangesOptions } from "./changes.js";
import { Emitter } from "./emitter.js";
import { errorOf, TidewireError } from "./errors.js";
import { Db, Requests, type RequestOptions } from "./requests.js";
import { Search } from "./search.js";
import { Socket, type SocketOptions, type State } from "./socket.js";
import type { StreamOptions } from "./resumable.js";
import { Stream } from "./stream.js";
import { sync, type Held, type SyncOptions, type Synced } from "./sync.js";
import type { Frame, Json, Query } from "./wire.js";

export interface ConnectOptions extends SocketOptions {}

export interface ConnectionEvents {
  state: State;
  /** An error that belongs to no stream and no request: `token` when the server refuses it, the next one
   * too; `no_token` when `getToken` fails. The connection goes on trying; `refusal` keeps it. */
  error: TidewireError;
  /** Every frame, both ways: for inspectors. */
  frame: { sent: boolean; frame: Frame };
}

export class Connection extends Emitter<ConnectionEvents> {
  readonly db: Db;
  readonly search: Search;
  readonly #socket: Socket;
  readonly #requests: Requests;
  readonly #streams = new Map<number, Stream | Changes>();
  #serial = 0;
  #isUp = false;
  #welcome: Frame | undefined;
  #refusal: TidewireError | undefined;

  constructor(url: string, options: ConnectOptions = {}) {
    super();
    this.#requests = new Requests(this.#host);
    this.db = new Db(this.#requests);
    this.search = new Search(this.#requests);
    this.#socket = new Socket(websocketUrl(url), options, {
      state: (state) => this.emit("state", state),
      up: (welcome, isAgain) => this.#onUp(welcome, isAgain),
      down: () => (this.#isUp = false),
      frame: (frame) => this.#onFrame(frame),
      refused: (error) => {
        this.#refusal = error;
        this.emit("error", error);
      },
    });
  }

  get state(): State {
    return this.#socket.state;
  }

  /** Why the server does not let us in, or that there is no token; undefined once it does. */
  get refusal(): TidewireError | undefined {
    return this.#refusal;
  }

  /** What the server said of itself: `srv_id`, `limits`, `collections`; undefined until then. */
  get server(): Readonly<Frame> | undefined {
    return this.#welcome;
  }

  /** What is on its way: requests without an answer, open streams, bytes not handed over yet. */
  get figures(): { requests: number; streams: number; pendingBytes: number } {
    return {
      requests: this.#requests.waiting,
      streams: this.#streams.size,
      pendingBytes: this.#socket.pendingBytes,
    };
  }

  /** `{project_id: 7, entries: "*"}` or `{movies: {filter: {year: 1994}, fields: ["title"]}}`. */
  subscribe(query: Query, options: StreamOptions = {}): Stream {
    const stream = new Stream(this.#host, ++this.#serial, query, options);
    this.#streams.set(stream.mux_id, stream);
    return stream;
  }

  /** Every change of collections, with MongoDB's field names. A connection has one: it takes the
   * place of the one before. */
  changes(options: ChangesOptions = {}): Changes {
    const changes = new Changes(this.#host, ++this.#serial, options);
    this.#streams.set(changes.mux_id, changes);
    return changes;
  }

  /** What a copy lacks: you say which records you have, in which versions; what differs comes, and
   * nothing of what is equal. Then subscribe from `since` (with `query`). */
  sync(held: Held, options: SyncOptions = {}): Promise<Synced> {
    return sync(this.#requests, held, options);
  }

  /** Any action of the protocol by name; resolves with its last frame and the frames before it. It
   * is sent again after a break: give a write an `opid`, so that it has one effect. */
  async request(
    action: string,
    fields: { [name: string]: Json } = {},
    options?: RequestOptions,
  ): Promise<{ last: Frame; parts: Frame[] }> {
    return this.#requests.run(action, fields, options);
  }

  /** Ends everything: streams finish, requests reject with `closed`. */
  close(): void {
    this.#isUp = false;
    this.#requests.close();
    for (const stream of [...this.#streams.values()]) stream.finish();
    this.#socket.close();
    this.forget();
  }

  readonly #host = {
    send: (frame: Frame) => this.#send(frame),
    isUp: () => this.#isUp,
    forgetStream: (mux_id: number) => void this.#streams.delete(mux_id),
  };

  /** A frame that the server would close the socket for is not sent: `too_big`. */
  #send(frame: Frame): void {
    const text = JSON.stringify(frame);
    const limits = this.#welcome?.["limits"] as { [name: string]: number } | undefined;
    const most = limits?.["message_max"] ?? Infinity;
    if (text.length * 3 > most && new TextEncoder().encode(text).length > most) {
      throw new TidewireError("too_big", `a message has at most ${most} bytes`, "send it in parts");
    }
    this.emit("frame", { sent: true, frame });
    this.#socket.send(text);
  }

  #onUp(welcome: Frame, isAgain: boolean): void {
    this.#welcome = welcome;
    this.#refusal = undefined;
    if (isAgain) return; // a new token, the same streams
    this.#isUp = true;
    for (const stream of this.#streams.values()) stream.open();
    this.#requests.open();
  }

  #onFrame(frame: Frame): void {
    this.emit("frame", { sent: false, frame });
    if (frame.mux_id !== undefined) {
      this.#streams.get(frame.mux_id)?.hear(frame);
    } else if (frame.reqID !== undefined) {
      this.#requests.hear(frame);
    } else if (frame.type === "error") {
      this.emit("error", errorOf(frame));
    }
  }
}

/** `http://host` and a page's own relative path are taken too; without a path it is `/ws`. */
function websocketUrl(given: string): string {
  const base = typeof location === "undefined" ? undefined : location.href;
  const url = new URL(given, base);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (url.pathname === "/") url.pathname = "/ws";
  return url.href;
}

export function connect(url: string, options?: ConnectOptions): Connection {
  return new Connection(url, options);
}
