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

const APPLY_MAX = 500; // events of one transaction
const BATCH_MAX = 64; // writes of one message
const FOREVER_MS = 2 ** 31 - 1; // the outbox is patient
/** Refusals that pass by themselves: the entry stays where it is. */
const PASSING = new Set(["busy", "disk", "draining", "no_memory", "timeout", "unavailable"]);

interface Outcome {
  code?: string;
  message?: string;
}

/** What was to be removed and is not there is done as well. */
function isDone(entry: Entry, outcome: Outcome | undefined): boolean {
  const isGone = entry.action === "remove" && outcome?.code === "not_found";
  return outcome?.code === undefined || isGone;
}

function retryMs(error: TidewireError): number {
  return error.afterMs ?? 500 + Math.random() * 1000;
}

export class Database extends Emitter<DatabaseEvents> {
  readonly #copy: Copy;
  readonly #keyPaths: Map<string, string>;
  readonly #mirrors = new Map<string, Mirror>();
  readonly #channel: BroadcastChannel | undefined;
  readonly #due: Told[] = [];
  #tide: Connection | undefined;
  #stream: Stream | undefined;
  #position: Position = { generation: 0 };
  #isApplying = false;
  #isSending = false;
  #isDue = false; // something may wait in the outbox
  #isOneByOne = false; // to find the entry that the server does not understand
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
      this.#channel.onmessage = ({ data }) => this.#isClosed || this.#hear(data as Note);
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
    this.#tell({ kind: "outbox" });
  }

  /** Sends what waits; calls that come meanwhile are one more round. */
  #flush(): void {
    this.#isDue = true;
    if (this.#isSending) return;
    this.#isSending = true;
    void this.#sendAll().finally(() => (this.#isSending = false));
  }

  async #sendAll(): Promise<void> {
    while (this.#isDue && !this.#isClosed) {
      this.#isDue = false;
      await this.#send().catch((error: unknown) => {
        if (!this.#isClosed) throw error; // of IndexedDB: nobody else would tell it
      });
    }
  }

  /** Sends the oldest entries as one batch, whose operations the server carries out in order. */
  async #send(): Promise<void> {
    const tide = this.#tide;
    if (tide === undefined || this.#isClosed) return;
    this.emit("pending", await this.#copy.waiting());
    const entries = (await this.#copy.entries(2 * BATCH_MAX))
      .filter((entry) => entry.since === undefined)
      .slice(0, this.#isOneByOne ? 1 : BATCH_MAX);
    if (entries.length === 0) {
      this.#isOneByOne = false;
      return;
    }
    try {
      await this.#sendBatch(tide, entries);
    } catch (error) {
      if (!(error instanceof TidewireError) || this.#isClosed || this.#tide !== tide) return;
      if (error.retry !== "no") await new Promise((done) => setTimeout(done, retryMs(error)));
      else if (entries.length > 1) this.#isOneByOne = true; // one of them is not understood
      else await this.#refuse(entries[0] as Entry, error);
    }
    this.#isDue = true; // more may wait
  }

  async #sendBatch(tide: Connection, entries: Entry[]): Promise<void> {
    const ops = entries.map(({ action, collection, key, doc, opid, if_version }) => ({
      op: action,
      collection,
      opid,
      ...(action === "remove" ? { id: key } : { doc }),
      ...(if_version !== undefined && { if_version }),
    }));
    const options = { timeoutMs: FOREVER_MS, database: this.schema.name };
    const { last } = await tide.request("batch", { ops }, options);
    if (this.#isClosed) return;
    const results = last["results"] as Outcome[];
    const done = entries.filter((entry, i) => isDone(entry, results[i]));
    this.#changed(await this.#copy.acknowledge(done, (last["since"] as Since | undefined) ?? []));
    for (const [i, entry] of entries.entries()) {
      const { code, message = "" } = results[i] as Outcome;
      if (code === undefined || done.includes(entry)) continue;
      if (PASSING.has(code)) throw new TidewireError(code, message, "", "backoff");
      await this.#refuse(entry, new TidewireError(code, message, "", "no", { ...results[i] }));
    }
  }

  async #refuse(entry: Entry, error: TidewireError): Promise<void> {
    this.#changed(await this.#copy.refuse(entry, error));
    const conflict = (await this.#copy.conflicts()).find((each) => each.entry.opid === entry.opid);
    if (conflict !== undefined) this.#tell({ kind: "conflict", conflict });
  }

  /* ---- between tabs ---- */

  #changed(ids: string[]): void {
    if (ids.length > 0) this.#tell({ kind: "changed", ids });
  }

  #tell(note: Note): void {
    if (this.#isClosed) return;
    this.#channel?.postMessage(note);
    this.#hear(note);
  }

  #hear(note: Note): void {
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
