/* resumable.ts - a stream that outlives its connection: what is stored, `sync`, then every change.
 *
 * The caller sees each change once and in order, whatever happens to the connection. How:
 * 1. `known` is what was told completely: the vector of the last `sync`, raised by each live event
 *    behind it. A break while live resumes from there.
 * 2. Inside a catch-up events come in order of position, so a break there resumes from `known` again
 *    and what comes a second time is recognised: its position is at or below `seen`.
 * 3. A first snapshot that breaks cannot be continued (what was removed meanwhile is not told): it
 *    starts over with `reset`, reason `restarted`.
 * 4. `prev` of a live event above what was told shows a gap: the stream resumes from `known`.
 * 5. An iterator that is not read fast enough ends a live stream at the server and resumes it when it
 *    has room again: memory stays bounded, nothing is lost. A first snapshot is not ended so, as it
 *    could not be continued: its size is bounded by the query. */
import { Emitter } from "./emitter.js";
import { closedError, errorOf, type TidewireError } from "./errors.js";
import { raise, sinceOf } from "./wire.js";
import type { Frame, Since } from "./wire.js";

/** Forget all records: what is stored comes again, then a `sync`. */
export interface Reset {
  kind: "reset";
  reason: "compacted" | "ahead" | "changed" | "restarted" | "origin";
}
/** All that is stored was told; what follows is live. Comes again on idle streams. */
export interface Sync {
  kind: "sync";
  since: Since;
}
export interface ResumableEvents<Change> {
  reset: Reset;
  sync: Sync;
  /** Every event, in order. */
  event: Change | Sync | Reset;
  /** The server refuses the question: the stream has ended. */
  error: TidewireError;
}

export interface StreamOptions {
  /** Resume from a kept position (`stream.since`), or "now" for live changes alone. */
  since?: Since | "now";
  /** `query` of the `sync` that `since` was kept with: another query or other rights then reset. */
  query?: string;
  /** Ends the stream. */
  signal?: AbortSignal;
  /** Events an iterator may hold before the stream is paused at the server; 10,000 by default. */
  bufferMax?: number;
}

export interface StreamHost {
  send(frame: { [name: string]: unknown }): void;
  isUp(): boolean;
  forgetStream(mux_id: number): void;
}

/** `Change` is what the stream tells of records; `sync` and `reset` are common to all. */
export abstract class Resumable<Change, Events extends ResumableEvents<Change>>
  extends Emitter<Events>
  implements AsyncIterable<Change | Sync | Reset>
{
  readonly mux_id: number;
  readonly #host: StreamHost;
  readonly #bufferMax: number;
  #isNow: boolean;
  #known: Map<number, number> | undefined;
  #seen = new Map<number, number>();
  #queryName: string | undefined;
  #isCatching = true;
  #isStarted = false; // events of the running catch-up were given out
  #isEnded = false;
  #isPaused = false; // closed at the server by us, to be resumed
  #awaitsClosed = false; // what still comes is of the paused stream, and will come again
  #error: TidewireError | undefined;
  #readers = new Set<Reader<Change | Sync | Reset>>();
  readonly #synced = promise<Since>();
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #stopSignal: (() => void) | undefined;

  constructor(host: StreamHost, mux_id: number, options: StreamOptions) {
    super();
    this.#host = host;
    this.mux_id = mux_id;
    this.#bufferMax = options.bufferMax ?? 10_000;
    this.#isNow = options.since === "now";
    this.#queryName = options.query;
    if (Array.isArray(options.since)) this.#known = new Map(options.since);
    const { signal } = options;
    if (signal !== undefined) {
      const abort = () => this.close();
      signal.addEventListener("abort", abort);
      this.#stopSignal = () => signal.removeEventListener("abort", abort);
    }
    this.#synced.promise.catch(() => {}); // nobody may be waiting for it
    // The subclass is not made yet: the first question leaves a moment later.
    queueMicrotask(() => {
      if (signal?.aborted) this.close();
      else if (host.isUp()) this.open();
    });
  }

  /** The frame that opens the stream, but for its mux_id and position. */
  protected abstract ask(): { [name: string]: unknown };
  /** What a frame tells; gives it to `tell`. */
  protected abstract read(frame: Frame): Change;

  /** The position up to which everything was told: keep it to resume in another session. */
  get since(): Since {
    return this.#known === undefined ? [] : sinceOf(this.#known);
  }

  /** The server's name of this query and rights; keep it with `since`. */
  get query(): string | undefined {
    return this.#queryName;
  }

  /** Resolves at the first `sync`, rejects when the stream is refused or closed before it. */
  get synced(): Promise<Since> {
    return this.#synced.promise;
  }

  /** Why the server ended it; undefined while it runs or when it was closed here. */
  get error(): TidewireError | undefined {
    return this.#error;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** True when every change is told as it happens. */
  get isLive(): boolean {
    return !this.#isCatching && !this.#isEnded;
  }

  /** Ends the stream; nothing is told after it. */
  close(): void {
    if (this.#isEnded) return;
    if (this.#host.isUp() && !this.#isPaused) {
      this.#host.send({ type: "close", mux_id: this.mux_id });
    }
    this.#end(undefined);
  }

  /** Events from now on, in order; leaving the loop closes the stream. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Change | Sync | Reset, void, undefined> {
    const reader: Reader<Change | Sync | Reset> = { events: [], given: 0, wake: () => {} };
    this.#readers.add(reader);
    try {
      for (;;) {
        while (reader.given < reader.events.length) {
          yield reader.events[reader.given++] as Change | Sync | Reset;
          if (reader.given >= FORGET_EVERY) forgetGiven(reader);
        }
        forgetGiven(reader);
        if (this.#error !== undefined) throw this.#error;
        if (this.#isEnded) return;
        this.#unpause();
        await new Promise<void>((wake) => (reader.wake = wake));
      }
    } finally {
      this.#readers.delete(reader);
      this.close();
    }
  }

  /* ---- called by the connection ---- */

  /** The connection is up: asks for what is missing. */
  open(): void {
    clearTimeout(this.#retryTimer);
    this.#awaitsClosed = false;
    if (this.#isEnded || this.#isPaused) return;
    const since = this.#known !== undefined ? this.since : this.#isNow ? "now" : undefined;
    if (this.#known === undefined && this.#isStarted) this.#restart("restarted");
    if (this.#isEnded) return; // by one who heard that
    this.#isCatching = true;
    try {
      this.#host.send({
        ...this.ask(),
        mux_id: this.mux_id,
        ...(since !== undefined && { since }),
        ...(since !== undefined && this.#queryName && { query: this.#queryName }),
      });
    } catch (error) {
      this.#end(error as TidewireError); // too_big
    }
  }

  hear(frame: Frame): void {
    if (this.#isEnded) return;
    if (this.#awaitsClosed) {
      if (frame.type === "closed") this.open();
      return;
    }
    switch (frame.type) {
      case "sync":
        return this.#onSync(frame);
      case "reset":
        return this.#onReset(frame);
      case "error":
        return this.#onError(frame);
      case "closed": // the server has ended it: another change stream took its place
        return this.#end(undefined);
      default:
        return frame["seqno"] === undefined ? this.#tell(this.read(frame)) : this.#onChange(frame);
    }
  }

  /** The connection was closed by the program. */
  finish(): void {
    this.#end(undefined);
  }

  /* ---- frames ---- */

  #onChange(frame: Frame): void {
    const srv_id = Number(frame["srv_id"]);
    const seqno = Number(frame["seqno"]);
    const isLast = frame["last"] !== false;
    const seen = this.#seen.get(srv_id) ?? 0;
    if (this.#isCatching) {
      if (seqno <= seen && this.#known !== undefined) return;
      this.#isStarted = true;
    } else if (Number(frame["prev"] ?? 0) > seen) {
      this.#pause();
      this.#unpause();
      return;
    }
    const event = this.read(frame);
    if (isLast) {
      raise(this.#seen, srv_id, seqno);
      if (!this.#isCatching && this.#known !== undefined) raise(this.#known, srv_id, seqno);
    }
    this.#tell(event);
  }

  #onSync(frame: Frame): void {
    const since = frame["since"] as Since;
    this.#isCatching = false;
    this.#isStarted = false;
    this.#known ??= new Map();
    for (const [srv_id, seqno] of since) {
      raise(this.#known, srv_id, seqno);
      raise(this.#seen, srv_id, seqno);
    }
    this.#queryName = (frame["query"] as string | undefined) ?? this.#queryName;
    this.#synced.resolve(since);
    this.#tell({ kind: "sync", since });
  }

  #onReset(frame: Frame): void {
    this.#restart(frame["reason"] as Reset["reason"]);
  }

  #restart(reason: Reset["reason"]): void {
    this.#known = undefined;
    this.#seen.clear();
    this.#isCatching = true;
    this.#isStarted = false;
    this.#tell({ kind: "reset", reason });
  }

  #onError(frame: Frame): void {
    const error = errorOf(frame);
    if (error.retry === "no") {
      this.#end(error);
    } else {
      clearTimeout(this.#retryTimer);
      this.#retryTimer = setTimeout(() => {
        if (this.#host.isUp()) this.open();
      }, error.afterMs ?? 500 + Math.random() * 1000);
    }
  }

  #tell(event: Change | Sync | Reset): void {
    const { kind } = event as { kind?: keyof Events };
    if (kind !== undefined) this.emit(kind, event as never);
    this.emit("event", event as never);
    for (const reader of this.#readers) {
      reader.events.push(event);
      reader.wake();
      if (reader.events.length - reader.given > this.#bufferMax) this.#pause();
    }
  }

  /* ---- back-pressure of iterators ---- */

  #pause(): void {
    if (this.#isPaused || this.#isCatching || !this.#host.isUp()) return;
    this.#isPaused = true;
    this.#awaitsClosed = true;
    this.#host.send({ type: "close", mux_id: this.mux_id });
  }

  /** Goes on once the server has said `closed`, or when the connection is up again. */
  #unpause(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (!this.#awaitsClosed && this.#host.isUp()) this.open();
  }

  #end(error: TidewireError | undefined): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearTimeout(this.#retryTimer);
    this.#stopSignal?.();
    this.#error = error;
    this.#synced.reject(error ?? closedError());
    if (error !== undefined) this.emit("error", error as never);
    for (const reader of this.#readers) reader.wake();
    this.#host.forgetStream(this.mux_id);
    this.forget();
  }
}

interface Reader<Event> {
  events: Event[];
  given: number; // of the events, those that the iterator has given out
  wake: () => void;
}
const FORGET_EVERY = 1024; // events: taking them out one by one would cost their number squared

function forgetGiven(reader: Reader<unknown>): void {
  reader.events.splice(0, reader.given);
  reader.given = 0;
}

function promise<Value>() {
  let resolve!: (value: Value) => void;
  let reject!: (error: Error) => void;
  const made = new Promise<Value>((done, fail) => ((resolve = done), (reject = fail)));
  return { promise: made, resolve, reject };
}

