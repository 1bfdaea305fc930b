/* follower.ts - brings what the server tells of one database into its local copy, in order.
 *
 * A follower has one stream and one copy. It ends for good when either fails: the database then makes
 * another, which goes on from the position that the copy has kept. So a position is never stored
 * without the events before it. */
import type { Connection } from "../connection.js";
import type { TidewireError } from "../errors.js";
import type { Stream, StreamEvent } from "../stream.js";
import type { Since } from "../wire.js";
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

export class Follower {
  readonly #copy: Copy;
  readonly #stream: Stream;
  readonly #handlers: Handlers;
  readonly #position: Position;
  #due: Told[] = [];
  #isApplying = false;
  #isEnded = false;

  private constructor(copy: Copy, stream: Stream, position: Position, handlers: Handlers) {
    this.#copy = copy;
    this.#stream = stream;
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
    const { since, query } = position;
    if (since === undefined) position.generation = await copy.begin();
    const collections = Object.fromEntries(
      schema.collections.map(({ name }) => [name, { db: schema.name }]),
    );
    const stream = tide.subscribe(
      { collections },
      { ...(since !== undefined && { since }), ...(query !== undefined && { query }) },
    );
    const follower = new Follower(copy, stream, position, handlers);
    const prefix = `${schema.name}.`; // how collections of another database are named
    stream.on("event", (told) => {
      const isOther = "collection" in told && told.collection.startsWith(prefix);
      follower.#hear(isOther ? { ...told, collection: told.collection.slice(prefix.length) } : told);
    });
    stream.on("error", (error) => handlers.refused(error));
    return follower;
  }

  stop(): void {
    this.#isEnded = true;
    this.#stream.close();
    this.#due = [];
  }

  #hear(event: StreamEvent): void {
    this.#due.push({ event, since: this.#stream.isLive ? this.#stream.since : undefined });
    if (this.#isApplying) return;
    this.#isApplying = true;
    void this.#applyAll();
  }

  async #applyAll(): Promise<void> {
    try {
      while (this.#due.length > 0 && !this.#isEnded) await this.#applySome();
    } catch (error) {
      if (this.#isEnded) return;
      this.stop();
      this.#handlers.failed(error);
    } finally {
      this.#isApplying = false;
    }
  }

  /** One transaction: some events, none beyond a reset, and the position behind them. */
  async #applySome(): Promise<void> {
    const position = this.#position;
    if (this.#due[0]?.event.kind === "reset") {
      this.#due.shift();
      delete position.since;
      delete position.isSwept;
      position.generation = await this.#copy.begin();
      return;
    }
    const reset = this.#due.findIndex(({ event }) => event.kind === "reset");
    const told = this.#due.splice(0, Math.min(reset < 0 ? APPLY_MAX : reset, APPLY_MAX));
    const since = told.findLast((each) => each.since !== undefined)?.since;
    if (since !== undefined) position.since = since;
    if (this.#stream.query !== undefined) position.query = this.#stream.query;
    const events = told.map(({ event }) => event);
    const changed = await this.#copy.apply(events, position);
    if (this.#isEnded) return;
    this.#handlers.changed(changed);
    if (events.some((event) => event.kind === "sync")) this.#handlers.synced();
  }
}
