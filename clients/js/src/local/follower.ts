/* follower.ts - brings what the server tells of one database into its local copy, in order.
 *
 *   kept position -> (long ago: is it still known?) -> stream from there -> live
 *   none, or no longer known -> the copy holds records: sync of what differs -> stream from there
 *                            -> it is empty:            a snapshot            -> the same stream
 *
 * A follower has one stream and one copy. It ends for good when either fails: the database then makes
 * another, which goes on from the position that the copy has kept. So a position is never stored
 * without the events before it. A sync that breaks off leaves the old position, if any: the next one
 * finds what is still missing. */
import type { Connection } from "../connection.js";
import type { TidewireError } from "../errors.js";
import type { Stream, StreamEvent } from "../stream.js";
import type { Verdict } from "../sync.js";
import type { Doc, Query, Since } from "../wire.js";
import type { Copy, Position, Schema } from "./copy.js";

interface Handlers {
  changed(ids: string[]): void;
  synced(): void;
  /** The server refuses the stream. */
  refused(error: TidewireError): void;
  /** The copy could not be written: this follower has ended. */
  failed(error: unknown): void;
}

/** An event, and the position behind it where that may be resumed. */
interface Told {
  event: StreamEvent;
  since: Since | undefined;
}

const APPLY_MAX = 1000; // events of one transaction
/** A position older than this is asked about first: if the server knows it no longer, it would begin to
 * send everything, of which most is here already. */
const OLD_MS = 600_000;
const FOREVER_MS = 2 ** 31 - 1; // a sync is patient, as its connection is
const NOTHING = { filter: { _id: { $in: [] } } };

export class Follower {
  readonly #copy: Copy;
  readonly #tide: Connection;
  readonly #schema: Schema;
  readonly #handlers: Handlers;
  readonly #stops: (() => void)[] = [];
  #position: Position;
  #stream: Stream | undefined;
  #due: Told[] = [];
  #isApplying = false;
  #isEnded = false;
  #isRepaired = false; // once is enough: what is reset again comes whole

  private constructor(copy: Copy, tide: Connection, schema: Schema, position: Position, handlers: Handlers) {
    this.#copy = copy;
    this.#tide = tide;
    this.#schema = schema;
    this.#position = position;
    this.#handlers = handlers;
  }

  static async start(
    copy: Copy,
    tide: Connection,
    schema: Schema,
    handlers: Handlers,
  ): Promise<Follower> {
    const position = await copy.position();
    const follower = new Follower(copy, tide, schema, position, handlers);
    follower.#watchForLongBreaks();
    if (position.since === undefined) void follower.#run(() => follower.#repair());
    else if (Date.now() - (position.atMs ?? 0) > OLD_MS) follower.#ask(position.since);
    else follower.#follow();
    return follower;
  }

  stop(): void {
    this.#isEnded = true;
    for (const stop of this.#stops) stop();
    this.#stream?.close();
    this.#due = [];
  }

  /** What fails ends this follower. */
  async #run(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#isEnded) return;
      this.stop();
      this.#handlers.failed(error);
    }
  }

  /** When the connection was away for long, the position is asked about like one that was kept. */
  #watchForLongBreaks(): void {
    let sinceMs = Date.now();
    this.#stops.push(
      this.#tide.on("state", (state) => {
        if (state === "offline") sinceMs = Math.min(sinceMs, Date.now());
        if (state === "online") sinceMs = Infinity;
        const { since } = this.#position;
        if (state !== "connecting" || Date.now() - sinceMs <= OLD_MS || since === undefined) return;
        if (this.#isApplying || this.#stream === undefined) return;
        sinceMs = Infinity;
        this.#leave();
        this.#ask(since);
      }),
    );
  }

  #leave(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.close();
  }

  #query(spec: { filter?: Doc }): Query {
    const { collections, name } = this.#schema;
    return {
      collections: Object.fromEntries(collections.map((each) => [each.name, { db: name, ...spec }])),
    };
  }

  /** Is this position still known? A stream of nothing tells. */
  #ask(since: Since): void {
    const stream = this.#tide.subscribe(this.#query(NOTHING), { since });
    this.#stream = stream;
    let isKnown = true;
    stream.on("reset", () => (isKnown = false));
    stream.on("sync", () => {
      this.#leave();
      if (isKnown) this.#follow();
      else void this.#run(() => this.#repair());
    });
    stream.on("error", (error) => this.#handlers.refused(error));
  }

  #follow(): void {
    const { since, query } = this.#position;
    const stream = this.#tide.subscribe(this.#query({}), {
      ...(since !== undefined && { since }),
      ...(query !== undefined && { query }),
    });
    this.#stream = stream;
    const prefix = `${this.#schema.name}.`; // how collections of another database are named
    stream.on("event", (told) => {
      const isOther = "collection" in told && told.collection.startsWith(prefix);
      this.#hear(stream, isOther ? { ...told, collection: told.collection.slice(prefix.length) } : told);
    });
    stream.on("error", (error) => this.#handlers.refused(error));
  }

  /** Makes the copy what the server has, by what differs; an empty one is filled by the stream. */
  async #repair(): Promise<void> {
    this.#isRepaired = true;
    const names = this.#schema.collections.map(({ name }) => name);
    const held = await this.#copy.held(names);
    if (!names.some((name) => (held[name] ?? []).length > 0)) return this.#beginAnew();
    const abort = new AbortController();
    this.#stops.push(() => abort.abort());
    const options = { database: this.#schema.name, timeoutMs: FOREVER_MS, signal: abort.signal };
    let told;
    try {
      told = await this.#tide.sync(held, options);
    } catch (error) {
      if (this.#isEnded) return;
      if ((error as TidewireError).retry === "no") return this.#beginAnew(); // it does not sync
      throw error;
    }
    const { generation } = this.#position;
    const events = told.verdicts.map(eventOf);
    for (let i = 0; i < events.length && !this.#isEnded; i += APPLY_MAX) {
      this.#handlers.changed(await this.#copy.apply(events.slice(i, i + APPLY_MAX), { generation }));
    }
    if (this.#isEnded) return;
    this.#position = { generation, isSwept: true, since: told.since };
    this.#handlers.changed(await this.#copy.apply([], this.#position));
    if (!this.#isEnded) this.#follow();
  }

  async #beginAnew(): Promise<void> {
    this.#position = await this.#copy.begin();
    if (!this.#isEnded) this.#follow();
  }

  #hear(stream: Stream, event: StreamEvent): void {
    if (stream !== this.#stream) return;
    this.#due.push({ event, since: stream.isLive ? stream.since : undefined });
    // Ended before it asks, or before more of it is on its way.
    if (event.kind === "reset" && (!this.#isRepaired || event.reason === "restarted")) this.#leave();
    if (this.#isApplying) return;
    this.#isApplying = true;
    void this.#run(() => this.#applyAll()).finally(() => (this.#isApplying = false));
  }

  async #applyAll(): Promise<void> {
    while (this.#due.length > 0 && !this.#isEnded) await this.#applySome();
  }

  async #reset(): Promise<void> {
    if (this.#stream === undefined) await this.#repair();
    else this.#position = await this.#copy.begin();
  }

  /** One transaction: some events, none beyond a reset, and the position behind them. */
  async #applySome(): Promise<void> {
    if (this.#due[0]?.event.kind === "reset") {
      this.#due.shift();
      return this.#reset();
    }
    const position = this.#position;
    const reset = this.#due.findIndex(({ event }) => event.kind === "reset");
    const told = this.#due.splice(0, Math.min(reset < 0 ? APPLY_MAX : reset, APPLY_MAX));
    const since = told.findLast((each) => each.since !== undefined)?.since;
    if (since !== undefined) position.since = since;
    const query = this.#stream?.query;
    if (query !== undefined) position.query = query;
    const events = told.map(({ event }) => event);
    const changed = await this.#copy.apply(events, position);
    if (this.#isEnded) return;
    this.#handlers.changed(changed);
    if (!events.some((event) => event.kind === "sync")) return;
    this.#isRepaired = false;
    this.#handlers.synced();
  }
}

/** What a sync tells, as a stream would: positions within are not resumed from. */
function eventOf({ op, collection, key, doc, version, srv_id = 0, seqno = 0 }: Verdict): StreamEvent {
  if (op === "remove") return { kind: "remove", collection, key, why: "left", srv_id, seqno };
  return { kind: "put", collection, key, doc: doc as NonNullable<typeof doc>, version, srv_id, seqno };
}
