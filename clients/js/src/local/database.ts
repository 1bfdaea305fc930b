/* database.ts - one local database: writes first here, then at the server; reads always from here. */
import type { Connection } from "../connection.js";
import { Emitter } from "../emitter.js";
import { TidewireError } from "../errors.js";
import { newOpid } from "../requests.js";
import type { Stream, StreamEvent } from "../stream.js";
import type { Doc, Json, Since } from "../wire.js";
import { Copy, rowId, shown } from "./copy.js";
import type { Conflict, Entry, LocalAction, Position, Schema } from "./copy.js";
import { LiveQuery, Mirror, pick } from "./query.js";
import type { Filter, QueryOptions } from "./query.js";

export interface DatabaseEvents {
  /** All that the server has is here, and this tab's copy follows it. */
  synced: void;
  /** A queued write was refused; `conflicts()` keeps it until `forgetConflict`. */
  conflict: Conflict;
  /** The number of writes that the server has not confirmed. */
  pending: number;
  /** The schema has another version, and writes wait: export or send them, then open again. */
  schema: { wanted: Schema };
}

export interface PutOptions {
  /** Only if the stored version is this one; else the write becomes a conflict. */
  if_version?: number;
}

type Note =
  | { kind: "changed"; ids: string[] }
  | { kind: "outbox" }
  | { kind: "synced" }
  | { kind: "conflict"; conflict: Conflict };

/** An event, and the position behind it where that may be resumed. */
interface Told {
  event: StreamEvent;
  since: Since | undefined;
}

const SEND_LOOK = 256; // entries looked at for what may be sent
const APPLY_MAX = 500; // events of one transaction
const WINDOW = 16; // writes on their way at once, of different records

export class Database extends Emitter<DatabaseEvents> {
  readonly #copy: Copy;
  readonly #keyPaths: Map<string, string>;
  readonly #mirrors = new Map<string, Mirror>();
  readonly #channel: BroadcastChannel | undefined;
  readonly #due: Told[] = [];
  readonly #onItsWay = new Map<string, Promise<void>>(); // opid -> its outcome
  #tide: Connection | undefined;
  #stream: Stream | undefined;
  #position: Position = { generation: 0 };
  #isApplying = false;
  #isSynced = false;
  #isClosed = false;

  constructor(
    readonly schema: Schema,
    copy: Copy,
    channelName: string,
  ) {
    super();
    this.#copy = copy;
    this.#keyPaths = new Map(schema.collections.map(({ name, keyPath }) => [name, keyPath]));
    if (typeof BroadcastChannel === "function") {
      this.#channel = new BroadcastChannel(channelName);
      this.#channel.onmessage = ({ data }) => this.#hear(data as Note);
      (this.#channel as { unref?: () => void }).unref?.();
    }
  }

  /* ---- writes: durable here when the promise resolves, at the server when it can be ---- */

  /** Inserts or replaces. A record without a key gets one; gives the record as it is kept. */
  put<Record extends Doc>(collection: string, record: Record, options?: PutOptions): Promise<Record> {
    return this.#write("put", collection, record, options);
  }

  /** Inserts; rejects with `conflict` where the key is there. */
  add<Record extends Doc>(collection: string, record: Record): Promise<Record> {
    return this.#write("insert", collection, record);
  }

  async delete(collection: string, key: Json): Promise<void> {
    this.#keyPath(collection);
    await this.#queue([entryOf("remove", collection, key, null)]);
  }

  /* ---- reads: the local copy, our own unconfirmed writes included ---- */

  async get<Record extends Doc = Doc>(collection: string, key: Json): Promise<Record | undefined> {
    this.#keyPath(collection);
    return shown(await this.#copy.get(rowId(collection, key))) as Record | undefined;
  }

  async select<Record extends Doc = Doc>(
    collection: string,
    options: QueryOptions<Record> = {},
  ): Promise<Record[]> {
    this.#keyPath(collection);
    const rows = await this.#copy.rows(collection);
    return pick(rows.map(shown).filter((doc) => doc !== undefined) as Record[], options);
  }

  async first<Record extends Doc = Doc>(
    collection: string,
    options: QueryOptions<Record> = {},
  ): Promise<Record | undefined> {
    return (await this.select(collection, { ...options, limit: 1 }))[0];
  }

  async forEach<Record extends Doc = Doc>(
    collection: string,
    visit: (record: Record) => void,
  ): Promise<void> {
    for (const record of await this.select<Record>(collection)) visit(record);
  }

  async count<Record extends Doc = Doc>(
    collection: string,
    where?: Filter<Record>,
  ): Promise<number> {
    return (await this.select(collection, where === undefined ? {} : { where })).length;
  }

  /** A query that stays true, with stable snapshots. */
  watch<Record extends Doc = Doc>(
    collection: string,
    options: QueryOptions<Record> = {},
  ): LiveQuery<Record> {
    this.#keyPath(collection);
    let mirror = this.#mirrors.get(collection);
    if (mirror === undefined) {
      this.#mirrors.set(collection, (mirror = new Mirror(this.#copy, collection)));
    }
    const of = mirror;
    const query = new LiveQuery<Record>(of, options, () => {
      of.queries.delete(query as unknown as LiveQuery<Doc>);
      if (of.queries.size === 0) this.#mirrors.delete(collection);
    });
    of.queries.add(query as unknown as LiveQuery<Doc>);
    return query;
  }

  /* ---- state ---- */

  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Writes that the server has not confirmed, oldest first: also what to export. */
  async outbox(): Promise<Entry[]> {
    return (await this.#copy.entries()).filter((entry) => entry.since === undefined);
  }

  conflicts(): Promise<Conflict[]> {
    return this.#copy.conflicts();
  }

  async forgetConflict(conflict: Conflict): Promise<void> {
    if (conflict.n !== undefined) await this.#copy.forgetConflict(conflict.n);
  }

  /** Gives up the writes that wait, after an export: the schema can then change. */
  async discardOutbox(): Promise<void> {
    await this.#copy.clearOutbox();
  }

  /* ---- by the RealtimeDb that made it ---- */

  /** This tab leads: follows the server and sends what waits. */
  async lead(tide: Connection): Promise<void> {
    this.#tide = tide;
    this.#position = await this.#copy.position();
    if (this.#isClosed) return;
    const { since, query } = this.#position;
    if (since === undefined) this.#position.generation = await this.#copy.begin();
    const collections = Object.fromEntries(
      this.schema.collections.map(({ name }) => [name, { db: this.schema.name }]),
    );
    this.#stream = tide.subscribe(
      { collections },
      { ...(since !== undefined && { since }), ...(query !== undefined && { query }) },
    );
    const stream = this.#stream;
    const prefix = `${this.schema.name}.`; // how collections of another database are named
    stream.on("event", (told) => {
      const isOther = "collection" in told && told.collection.startsWith(prefix);
      const event = isOther ? { ...told, collection: told.collection.slice(prefix.length) } : told;
      this.#due.push({ event, since: stream.isLive ? stream.since : undefined });
      void this.#apply();
    });
    this.#flush();
  }

  follow(): void {
    this.#stream?.close();
    this.#stream = undefined;
    this.#tide = undefined;
  }

  close(): void {
    this.#isClosed = true;
    this.follow();
    this.#channel?.close();
    this.#copy.close();
    this.forget();
  }

  /* ---- the stream ---- */

  async #apply(): Promise<void> {
    if (this.#isApplying) return;
    this.#isApplying = true;
    try {
      while (this.#due.length > 0 && !this.#isClosed) await this.#applySome();
    } finally {
      this.#isApplying = false;
    }
  }

  /** One transaction: some events, none beyond a reset, and the position behind them. */
  async #applySome(): Promise<void> {
    if (this.#due[0]?.event.kind === "reset") {
      this.#due.shift();
      this.#position = { generation: await this.#copy.begin() };
      return;
    }
    const reset = this.#due.findIndex(({ event }) => event.kind === "reset");
    const told = this.#due.splice(0, Math.min(reset < 0 ? APPLY_MAX : reset, APPLY_MAX));
    const since = told.findLast((each) => each.since !== undefined)?.since;
    if (since !== undefined) this.#position.since = since;
    if (this.#stream?.query !== undefined) this.#position.query = this.#stream.query;
    const events = told.map(({ event }) => event);
    this.#changed(await this.#copy.apply(events, this.#position));
    if (!this.#isSynced && events.some((event) => event.kind === "sync")) {
      this.#tell({ kind: "synced" });
    }
  }

  /* ---- the outbox ---- */

  async #write<Record extends Doc>(
    action: LocalAction,
    collection: string,
    record: Record,
    { if_version }: PutOptions = {},
  ): Promise<Record> {
    const keyPath = this.#keyPath(collection);
    const key = (record[keyPath] as Json | undefined) ?? newOpid();
    const doc = { ...record, [keyPath]: key };
    const entry = entryOf(action, collection, key, doc);
    await this.#queue([if_version === undefined ? entry : { ...entry, if_version }]);
    return doc;
  }

  async #queue(entries: Entry[]): Promise<void> {
    this.#changed(await this.#copy.write(entries));
    this.#flush();
    this.#channel?.postMessage({ kind: "outbox" } satisfies Note);
  }

  #flush(): void {
    void this.#send().catch((error: unknown) => {
      if (!this.#isClosed) throw error;
    });
  }

  /** Sends entries, a window at a time, those of one record in order. */
  async #send(): Promise<void> {
    const tide = this.#tide;
    if (tide === undefined || this.#isClosed) return;
    this.emit("pending", await this.#copy.waiting());
    const before = new Set<string>(); // records with an older entry: one at a time for each
    for (const entry of await this.#copy.entries(SEND_LOOK)) {
      if (this.#onItsWay.size >= WINDOW) return; // the outcome of one of them sends the next
      const isFree = entry.since === undefined && !before.has(entry.id);
      if (entry.since === undefined) before.add(entry.id);
      if (!isFree || this.#onItsWay.has(entry.opid)) continue;
      const outcome = this.#sendOne(tide, entry).finally(() => {
        this.#onItsWay.delete(entry.opid);
        if (this.#tide === tide) this.#flush();
      });
      this.#onItsWay.set(entry.opid, outcome);
      outcome.catch(() => {}); // it stays in the outbox
    }
  }

  async #sendOne(tide: Connection, entry: Entry): Promise<void> {
    const { action, collection, key, doc, opid, if_version } = entry;
    const fields = {
      collection,
      opid,
      database: this.schema.name,
      ...(action === "remove" ? { id: key } : { doc }),
      ...(if_version !== undefined && { if_version }),
    };
    try {
      const { last } = await tide.request(action, fields as Doc, { timeoutMs: 2 ** 31 - 1 });
      if (this.#isClosed) return;
      const since = (last["since"] as [number, number][] | undefined) ?? [];
      this.#changed(await this.#copy.acknowledge(entry.n as number, since));
    } catch (error) {
      if (!(error instanceof TidewireError) || error.code === "closed" || this.#isClosed) throw error;
      if (action === "remove" && error.code === "not_found") {
        this.#changed(await this.#copy.acknowledge(entry.n as number, []));
      } else if (error.retry === "no") {
        this.#changed(await this.#copy.refuse(entry, error));
        const conflict = (await this.#copy.conflicts()).find((c) => c.entry.opid === opid);
        if (conflict !== undefined) this.#tell({ kind: "conflict", conflict });
      } else {
        await new Promise((done) => setTimeout(done, 500 + Math.random() * 1000));
        throw error;
      }
    }
  }

  /* ---- between tabs ---- */

  #changed(ids: string[]): void {
    if (ids.length > 0) this.#tell({ kind: "changed", ids });
  }

  #tell(note: Note): void {
    this.#channel?.postMessage(note);
    this.#hear(note);
  }

  #hear(note: Note): void {
    if (this.#isClosed) return;
    switch (note.kind) {
      case "changed":
        for (const [collection, mirror] of this.#mirrors) {
          const ids = note.ids.filter((id) => id.startsWith(`${collection}\n`));
          if (ids.length > 0) mirror.reread(ids);
        }
        break;
      case "outbox":
        this.#flush();
        break;
      case "synced":
        this.#isSynced = true;
        this.emit("synced", undefined);
        break;
      case "conflict":
        this.emit("conflict", note.conflict);
        break;
    }
  }

  #keyPath(collection: string): string {
    const keyPath = this.#keyPaths.get(collection);
    if (keyPath !== undefined) return keyPath;
    const known = [...this.#keyPaths.keys()].join(", ");
    throw new TidewireError("unknown_collection", `no ${collection} in the schema of ${this.schema.name}`, `it has ${known}`);
  }
}

function entryOf(action: LocalAction, collection: string, key: Json, doc: Doc | null): Entry {
  return { opid: newOpid(), action, id: rowId(collection, key), collection, key, doc };
}
