/* database.ts - one local database: writes first here, then at the server; reads always from here. */
import type { Connection } from "../connection.js";
import { Emitter } from "../emitter.js";
import { TidewireError } from "../errors.js";
import { newOpid } from "../requests.js";
import type { Doc, Json, Since } from "../wire.js";
import { type Copy, rowId, shown } from "./copy.js";
import type { Conflict, Entry, LocalAction, Schema } from "./copy.js";
import { Follower } from "./follower.js";
import { LiveQuery, Mirror, pick } from "./query.js";
import type { Filter, QueryOptions } from "./query.js";

export interface DatabaseEvents {
  /** All that the server has is here, and this tab's copy follows it. */
  synced: void;
  /** A queued write was refused; `conflicts()` keeps it until `forgetConflict`. */
  conflict: Conflict;
  /** The number of writes that the server has not confirmed. */
  pending: number;
  /** The browser took the local copy away (storage was cleared): it is made anew, by what open tabs
   * still hold and what the server has. Writes that waited from tabs that are closed are lost. */
  evicted: void;
  /** The server refuses the stream, or the browser the storage; the latter is tried again. */
  error: Error;
}

export interface PutOptions {
  /** Only if the stored version is this one; else the write becomes a conflict. */
  if_version?: number;
}

type Note =
  | { kind: "changed"; ids: string[] }
  | { kind: "outbox" }
  | { kind: "settled"; opids: string[] }
  | { kind: "refilled" }
  | { kind: "pending"; count: number }
  | { kind: "synced" }
  | { kind: "conflict"; conflict: Conflict };

const BATCH_MAX = 64; // writes of one message
const AGAIN_MS = 1000; // until storage that failed is tried again
const OPENS_MAX = 50;
const USES_MAX = 5; // of copies that are taken away one after the other
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

/** What a transaction says whose database was closed or deleted under it. */
function isGone(error: unknown): boolean {
  return error instanceof DOMException && /^(InvalidState|Abort)Error$/.test(error.name);
}

export class Database extends Emitter<DatabaseEvents> {
  readonly #keyPaths: Map<string, string>;
  readonly #mirrors = new Map<string, Mirror>();
  readonly #channel: BroadcastChannel | undefined;
  readonly #reopen: () => Promise<Copy>;
  #copy: Promise<Copy>;
  /** This tab's writes without an answer: queued again should the browser take the copy away. */
  readonly #unanswered = new Map<string, Entry>();
  #tide: Connection | undefined;
  #follower: Promise<Follower | undefined> | undefined;
  #isSending = false;
  #isDue = false; // something may wait in the outbox
  #awaitsStream = false;
  #batchMax = BATCH_MAX; // fewer after a batch that is too big or not understood
  #isSynced = false;
  #isClosed = false;

  /** `reopen` gives the copy again after `lost`. */
  constructor(
    readonly schema: Schema,
    copy: Copy,
    reopen: () => Promise<Copy>,
    channelName: string,
  ) {
    super();
    this.#copy = Promise.resolve(copy);
    this.#reopen = reopen;
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
    return shown(await this.#use((copy) => copy.get(rowId(collection, key)))) as Record | undefined;
  }

  async select<Record extends Doc = Doc>(
    collection: string,
    options: QueryOptions<Record> = {},
  ): Promise<Record[]> {
    this.#keyPath(collection);
    const rows = await this.#use((copy) => copy.rows(collection));
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
      this.#mirrors.set(collection, (mirror = new Mirror((work) => this.#use(work), collection)));
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
    const entries = await this.#use((copy) => copy.entries());
    return entries.filter((entry) => entry.since === undefined);
  }

  conflicts(): Promise<Conflict[]> {
    return this.#use((copy) => copy.conflicts());
  }

  async forgetConflict(conflict: Conflict): Promise<void> {
    const { n } = conflict;
    if (n !== undefined) await this.#use((copy) => copy.forgetConflict(n));
  }

  /** Gives up the writes that wait, after an export: the schema can then change. */
  async discardOutbox(): Promise<void> {
    const entries = await this.outbox();
    this.#changed(await this.#use((copy) => copy.clearOutbox()));
    this.#settled(entries);
    this.#tell({ kind: "outbox" });
  }

  /* ---- by the RealtimeDb that made it ---- */

  /** This tab leads: follows the server and sends what waits. */
  async lead(tide: Connection): Promise<void> {
    this.#tide = tide;
    const starting = this.#start(tide);
    this.#follower = starting;
    await starting;
    this.#flush();
  }

  follow(): void {
    this.#tide = undefined;
    this.#stopFollower();
  }

  #stopFollower(): void {
    const follower = this.#follower;
    this.#follower = undefined;
    void follower?.then((each) => each?.stop());
  }

  /** The browser closed or deleted the copy. */
  lost(): void {
    if (this.#isClosed) return;
    this.#stopFollower();
    this.#isSynced = false;
    const opening = this.#openAgain().then((copy) => this.#refill(copy));
    this.#copy = opening;
    this.emit("evicted", undefined);
    opening.then(
      () => {
        if (this.#copy !== opening || this.#isClosed) return;
        this.#tell({ kind: "refilled" }); // other tabs may have read before that
        this.#tell({ kind: "outbox" });
        if (this.#tide !== undefined) void this.lead(this.#tide);
      },
      (error: Error) => this.#isClosed || this.emit("error", error),
    );
  }

  /** What this tab still has in memory: records that somebody watches, and writes without an answer.
   * A write that the server has after all has one effect, by its opid. */
  async #refill(copy: Copy): Promise<Copy> {
    if (this.#tide !== undefined) {
      for (const [name, mirror] of this.#mirrors) await copy.refill(name, mirror.rows());
    }
    const kept = new Set((await copy.entries()).map(({ opid }) => opid));
    await copy.write([...this.#unanswered.values()].filter(({ opid }) => !kept.has(opid)), false);
    return copy;
  }

  /** While the browser is still at its deletion, what is opened is closed again. */
  async #openAgain(): Promise<Copy> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#reopen();
      } catch (error) {
        if (!isGone(error) || tries === OPENS_MAX || this.#isClosed) throw error;
        await new Promise((done) => setTimeout(done, AGAIN_MS / 10));
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    this.follow();
    this.#channel?.close();
    void this.#copy.then((copy) => copy.close()).catch(() => {});
    this.forget();
  }

  /** A follower on the copy as it is now; undefined: not possible now, tried again. */
  async #start(tide: Connection): Promise<Follower | undefined> {
    const opening = this.#copy;
    try {
      const follower = await Follower.start(await opening, tide, this.schema, {
        changed: (ids) => {
          this.#changed(ids);
          if (this.#awaitsStream) this.#flush();
        },
        synced: () => this.#isSynced || this.#tell({ kind: "synced" }),
        refused: (error) => this.emit("error", error),
        failed: (error) => void this.#recover(tide, opening, error),
      });
      if (this.#tide !== tide || this.#copy !== opening || this.#isClosed) follower.stop();
      return follower;
    } catch (error) {
      void this.#recover(tide, opening, error);
      return undefined;
    }
  }

  /** The follower on a copy has failed. What is no eviction (a full disk) may pass. */
  async #recover(tide: Connection, opening: Promise<Copy>, error: unknown): Promise<void> {
    if (this.#tide !== tide || this.#isClosed) return;
    if (isGone(error)) return this.#noticeLoss(opening);
    this.emit("error", error as Error);
    setTimeout(() => {
      if (this.#tide === tide && !this.#isClosed) void this.lead(tide);
    }, AGAIN_MS);
  }

  /** Browsers that clear a site's storage do not always say so: the next use finds out. */
  async #noticeLoss(opening: Promise<Copy>): Promise<void> {
    await new Promise((done) => setTimeout(done, 0)); // where they do, the transaction hears first
    if (this.#copy === opening && !this.#isClosed) this.lost();
  }

  async #use<Result>(work: (copy: Copy) => Promise<Result>): Promise<Result> {
    for (let tries = 1; ; tries++) {
      const opening = this.#copy;
      try {
        return await work(await opening);
      } catch (error) {
        if (this.#isClosed || !isGone(error) || tries === USES_MAX) throw error;
        await this.#noticeLoss(opening);
      }
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
    const ids = await this.#use((copy) => copy.write(entries));
    for (const entry of entries) this.#unanswered.set(entry.opid, entry);
    this.#changed(ids);
    this.#tell({ kind: "outbox" });
    await this.#tellPending();
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
      await this.#send().catch((error: Error) => this.#isClosed || this.emit("error", error));
    }
  }

  /** Sends the oldest entries as one batch, whose operations the server carries out in order. */
  async #send(): Promise<void> {
    const tide = this.#tide;
    if (tide === undefined || this.#isClosed) return;
    const oldest = await this.#use((copy) => copy.entries(2 * BATCH_MAX));
    const entries = oldest
      .filter((entry) => entry.since === undefined)
      .slice(0, this.#batchMax);
    // What the stream has not shown yet may stand before what waits: it makes room by showing it.
    this.#awaitsStream = entries.length === 0 && oldest.length > 0;
    if (entries.length === 0) return;
    try {
      await this.#sendBatch(tide, entries);
      this.#batchMax = Math.min(BATCH_MAX, 2 * this.#batchMax);
    } catch (error) {
      if (!(error instanceof TidewireError) || this.#isClosed || this.#tide !== tide) return;
      if (error.retry !== "no") await new Promise((done) => setTimeout(done, retryMs(error)));
      else if (entries.length > 1) this.#batchMax = entries.length >> 1; // halves find the one
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
    const since = (last["since"] as Since | undefined) ?? [];
    this.#changed(await this.#use((copy) => copy.acknowledge(done, since)));
    this.#settled(done);
    await this.#tellPending();
    for (const [i, entry] of entries.entries()) {
      const { code, message = "" } = results[i] as Outcome;
      if (code === undefined || done.includes(entry)) continue;
      if (PASSING.has(code)) throw new TidewireError(code, message, "", "backoff");
      await this.#refuse(entry, new TidewireError(code, message, "", "no", { ...results[i] }));
    }
  }

  async #refuse(entry: Entry, error: TidewireError): Promise<void> {
    this.#changed(await this.#use((copy) => copy.refuse(entry, error)));
    this.#settled([entry]);
    await this.#tellPending();
    const conflict = (await this.conflicts()).find((each) => each.entry.opid === entry.opid);
    if (conflict !== undefined) this.#tell({ kind: "conflict", conflict });
  }

  async #tellPending(): Promise<void> {
    this.#tell({ kind: "pending", count: await this.#use((copy) => copy.waiting()) });
  }

  /* ---- between tabs ---- */

  #settled(entries: readonly Entry[]): void {
    this.#tell({ kind: "settled", opids: entries.map(({ opid }) => opid) });
  }

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
      case "refilled":
        for (const mirror of this.#mirrors.values()) mirror.reload();
        break;
      case "settled":
        for (const opid of note.opids) this.#unanswered.delete(opid);
        break;
      case "pending":
        this.emit("pending", note.count);
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
