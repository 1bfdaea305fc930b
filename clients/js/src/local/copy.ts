/* copy.ts - the local copy of one database in IndexedDB: records, outbox, conflicts, position.
 *
 * Invariants
 * 1. A write's record and its outbox entry change in one transaction; so do what a stream told and
 *    the position up to which it was told.
 * 2. What is shown of a record is `local` where there is one (a write of ours that the stream has not
 *    shown yet), else `server`.
 * 3. An entry leaves the outbox when the stream's position covers the fence that the server answered
 *    with, so a record never falls back to an older version in between.
 * 4. A snapshot that begins anew counts a generation up; at its end, records of older generations go.
 *    Until then they stay visible: a reset does not flicker.
 * 5. A record has `local` only while the outbox holds a write of it. So where the outbox is empty, what
 *    the server tells is written without being read first: that makes the most of the speed. */
import { openDB, unwrap, type DBSchema, type IDBPDatabase, type IDBPTransaction } from "idb";

import { TidewireError } from "../errors.js";
import type { StreamEvent } from "../stream.js";
import { covers, keyText } from "../wire.js";
import type { Held } from "../sync.js";
import type { Doc, Frame, Json, Since } from "../wire.js";

export interface Schema {
  name: string;
  version: number;
  collections: { name: string; keyPath: string }[];
}

export interface Row {
  id: string;
  collection: string;
  key: Json;
  /** As the server has it; null: it has none. */
  server: Doc | null;
  /** Of `server`, where its collection tells one. */
  version?: number;
  /** As our unconfirmed writes leave it; null: deleted; absent: no such write. */
  local?: Doc | null;
  /** The snapshot that told `server`. */
  generation: number;
}

export type LocalAction = "put" | "insert" | "remove";

export interface Entry {
  n?: number;
  opid: string;
  action: LocalAction;
  id: string;
  collection: string;
  key: Json;
  doc: Doc | null;
  if_version?: number;
  /** The server's fence: it has the write, the stream may not have shown it yet. */
  since?: Since;
  /** Set with `since`, for the index. */
  acknowledged?: 1;
}

/** A write that the server refused for good. */
export interface Conflict {
  n?: number;
  entry: Entry;
  code: string;
  message: string;
  frame: Frame | null;
}

export interface Position {
  since?: Since;
  query?: string;
  generation: number;
  /** The records of older generations are gone. */
  isSwept?: boolean;
  /** When it was stored, by this machine's clock: an old one may be unknown to the server. */
  atMs?: number;
}

interface Stores extends DBSchema {
  records: { key: string; value: Row };
  outbox: { key: number; value: Entry; indexes: { id: string; acknowledged: number } };
  conflicts: { key: number; value: Conflict };
  meta: { key: string; value: unknown };
}
const ALL = ["records", "outbox", "conflicts", "meta"] as const;
type Write = IDBPTransaction<Stores, typeof ALL, "readwrite">;
const ROWS_AT_ONCE = 2000; // read or written between two turns of the page

export function rowId(collection: string, key: Json): string {
  return `${collection}\n${keyText(key)}`;
}

/** The ids of a collection: its name, a line's end, the key. */
function idsOf(collection: string): IDBKeyRange {
  return IDBKeyRange.bound(`${collection}\n`, `${collection}\n\uffff`);
}

export function shown(row: Row | undefined): Doc | undefined {
  const doc = row === undefined ? null : row.local !== undefined ? row.local : row.server;
  return doc ?? undefined;
}

export class Copy {
  private constructor(private readonly idb: IDBPDatabase<Stores>) {}

  /** `onGone`: the browser closed or deleted the database under us. */
  static async open(name: string, onGone: () => void): Promise<Copy> {
    const idb = await openDB<Stores>(`tidewire:${name}`, 1, {
      upgrade(made) {
        made.createObjectStore("records", { keyPath: "id" });
        const outbox = made.createObjectStore("outbox", { keyPath: "n", autoIncrement: true });
        outbox.createIndex("id", "id");
        outbox.createIndex("acknowledged", "acknowledged");
        made.createObjectStore("conflicts", { keyPath: "n", autoIncrement: true });
        made.createObjectStore("meta");
      },
      blocking: (_current, _blocked, event) => {
        (event.target as IDBDatabase).close();
        onGone();
      },
      terminated: onGone,
    });
    return new Copy(idb);
  }

  close(): void {
    this.idb.close();
  }

  /* ---- reading ---- */

  get(id: string): Promise<Row | undefined> {
    return this.idb.get("records", id);
  }

  /** In the order of the ids. */
  async getMany(ids: string[]): Promise<(Row | undefined)[]> {
    const { store } = this.idb.transaction("records");
    return Promise.all(ids.map((id) => store.get(id)));
  }

  rows(collection: string): Promise<Row[]> {
    return this.idb.getAll("records", idsOf(collection));
  }

  /** The keys and versions of what the server told of these collections. */
  async held(collections: string[]): Promise<Held> {
    const held: Held = {};
    for (const collection of collections) {
      const pairs: [Json, number | null][] = [];
      await this.#visit(idsOf(collection), (row) => {
        if (row.server !== null) pairs.push([row.key, row.version ?? null]);
      });
      held[collection] = pairs;
    }
    return held;
  }

  async #visit(range: IDBKeyRange, visit: (row: Row) => void): Promise<void> {
    for (let rest = range; ; ) {
      const rows = await this.idb.getAll("records", rest, ROWS_AT_ONCE);
      for (const row of rows) visit(row);
      if (rows.length < ROWS_AT_ONCE) return;
      rest = IDBKeyRange.bound((rows.at(-1) as Row).id, range.upper, true, range.upperOpen);
    }
  }

  /** Puts rows of a collection back that a page still had in memory when the copy was taken away. */
  async refill(collection: string, rows: Iterable<Row>): Promise<void> {
    const tx = this.idb.transaction("records", "readwrite");
    if ((await tx.store.count(idsOf(collection))) > 0) return; // it is still there
    const store = unwrap(tx.store);
    for (const { local: _local, ...row } of rows) {
      if (row.server !== null) store.put({ ...row, generation: 0 });
    }
    await tx.done;
  }

  /** Oldest first, at most `max`. */
  entries(max?: number): Promise<Entry[]> {
    return this.idb.getAll("outbox", null, max);
  }

  async waiting(): Promise<number> {
    const tx = this.idb.transaction("outbox");
    const all = await tx.store.count();
    return all - (await tx.store.index("acknowledged").count());
  }

  conflicts(): Promise<Conflict[]> {
    return this.idb.getAll("conflicts");
  }

  async forgetConflict(n: number): Promise<void> {
    await this.idb.delete("conflicts", n);
  }

  async position(): Promise<Position> {
    return ((await this.idb.get("meta", "position")) as Position | undefined) ?? { generation: 0 };
  }

  /* ---- our own writes ---- */

  /** Adds writes to records and outbox; ids of what changed. `insert` of what is there: `conflict`,
   * where that is asked for (`isNew`). */
  async write(entries: Entry[], isNew = true): Promise<string[]> {
    const tx = this.idb.transaction(ALL, "readwrite", { durability: "strict" });
    for (const entry of entries) {
      const row = await tx.objectStore("records").get(entry.id);
      if (isNew && entry.action === "insert" && shown(row) !== undefined) {
        tx.abort();
        await tx.done.catch(() => {});
        throw new TidewireError("conflict", `${entry.id.replace("\n", "/")} is there already`);
      }
      await tx.objectStore("outbox").add(entry);
      await tx.objectStore("records").put({
        ...(row ?? blank(entry.collection, entry.key)),
        local: entry.doc,
      });
    }
    await tx.done;
    return entries.map((entry) => entry.id);
  }

  /** The server has these writes. */
  async acknowledge(entries: Entry[], since: Since): Promise<string[]> {
    const tx = this.idb.transaction(ALL, "readwrite");
    const outbox = tx.objectStore("outbox");
    for (const entry of entries) {
      if ((await outbox.get(entry.n as number))?.opid !== entry.opid) continue; // discarded meanwhile
      await outbox.put({ ...entry, since, acknowledged: 1 });
    }
    const changed = await settle(tx);
    await tx.done;
    return changed;
  }

  /** The server refuses the write for good: it is kept as a conflict. */
  async refuse(entry: Entry, error: TidewireError): Promise<string[]> {
    const tx = this.idb.transaction(ALL, "readwrite");
    const { code, message, frame = null } = error;
    await tx.objectStore("conflicts").add({ entry, code, message, frame });
    await takeOut(tx, entry);
    await tx.done;
    return [entry.id];
  }

  /* ---- what the stream tells ---- */

  /** Begins a snapshot anew, without a position to resume from. */
  async begin(): Promise<Position> {
    const tx = this.idb.transaction(ALL, "readwrite");
    const old = (await tx.objectStore("meta").get("position")) as Position | undefined;
    const isSwept = (await tx.objectStore("records").count()) === 0; // nothing will be left over
    const position: Position = { generation: (old?.generation ?? 0) + 1, isSwept };
    await tx.objectStore("meta").put(position, "position");
    await tx.done;
    return position;
  }

  /** Applies events in order, and the position behind them, in which it notes a sweep; ids of what
   * changed. After an error the position is not that of the copy: read it again. */
  async apply(events: StreamEvent[], position: Position): Promise<string[]> {
    const tx = this.idb.transaction(ALL, "readwrite");
    const changed = new Set<string>();
    const rows = await readTold(tx, events);
    for (const event of events) {
      if (event.kind === "put" || event.kind === "remove") {
        const row = rows.get(rowId(event.collection, event.key)) as Row;
        const isPut = event.kind === "put";
        row.server = isPut ? event.doc : null;
        delete row.version;
        if (isPut && event.version !== undefined) row.version = event.version;
        row.generation = position.generation;
        changed.add(row.id);
      } else if (event.kind === "drop") {
        forgetTold(rows, event.collection);
        await forgetServer(tx, idsOf(event.collection), () => true, changed);
      } else if (event.kind === "sync" && !position.isSwept) {
        keepAll(tx, rows);
        await forgetServer(tx, null, (row) => row.generation < position.generation, changed);
        position.isSwept = true;
      }
    }
    keepAll(tx, rows);
    if (position.since !== undefined) {
      await tx.objectStore("meta").put({ ...position, atMs: Date.now() }, "position");
    }
    for (const id of await settle(tx)) changed.add(id);
    await tx.done;
    return [...changed];
  }

  /* ---- schema ---- */

  /** The schema that a copy was made for (undefined: there is none yet), and its unsent writes. */
  static async glance(name: string): Promise<{ schema: Schema | undefined; waiting: number }> {
    const copy = await Copy.open(name, () => {});
    try {
      const schema = (await copy.idb.get("meta", "schema")) as Schema | undefined;
      return { schema, waiting: await copy.waiting() };
    } finally {
      copy.close();
    }
  }

  /** Empties the copy when the schema's version is another than the one it was made for. Refused
   * while writes wait, as they would be lost: `false`. */
  async adopt(schema: Schema): Promise<boolean> {
    const tx = this.idb.transaction(ALL, "readwrite");
    const meta = tx.objectStore("meta");
    const old = (await meta.get("schema")) as Schema | undefined;
    const isOther = old !== undefined && old.version !== schema.version;
    const isFree = !isOther || (await tx.objectStore("outbox").count()) === 0;
    if (isFree) {
      if (isOther) {
        await tx.objectStore("records").clear();
        await meta.delete("position");
      }
      await meta.put(schema, "schema");
    }
    await tx.done;
    return isFree;
  }

  /** Gives up the writes that wait; ids of the records that change by it. */
  async clearOutbox(): Promise<string[]> {
    const tx = this.idb.transaction(ALL, "readwrite");
    const entries = await tx.objectStore("outbox").getAll();
    for (const entry of entries) await takeOut(tx, entry);
    await tx.done;
    return [...new Set(entries.map((entry) => entry.id))];
  }
}

function blank(collection: string, key: Json): Row {
  return { id: rowId(collection, key), collection, key, server: null, generation: 0 };
}

/** A row for each record that events tell of: as it is stored where the outbox holds anything. */
async function readTold(tx: Write, events: StreamEvent[]): Promise<Map<string, Row>> {
  const rows = new Map<string, Row>();
  for (const event of events) {
    if (event.kind !== "put" && event.kind !== "remove") continue;
    const row = blank(event.collection, event.key);
    rows.set(row.id, row);
  }
  if ((await tx.objectStore("outbox").count()) === 0) return rows;
  const stored = await Promise.all([...rows.keys()].map((id) => tx.objectStore("records").get(id)));
  for (const row of stored) if (row !== undefined) rows.set(row.id, row);
  return rows;
}

/** A drop among events: what was told before it is gone, what comes after it is new. */
function forgetTold(rows: Map<string, Row>, collection: string): void {
  for (const row of rows.values()) if (row.collection === collection) row.server = null;
}

/** The transaction tells whether they are kept: no promise for each. */
function keepAll(tx: Write, rows: Map<string, Row>): void {
  const records = unwrap(tx.objectStore("records")) as unknown as IDBObjectStore;
  for (const row of rows.values()) keep(records, row);
}

/** A row of which neither server nor we know anything goes. */
function keep(records: IDBObjectStore, row: Row): void {
  if (row.server === null && row.local === undefined) records.delete(row.id);
  else records.put(row);
}

async function forgetServer(
  tx: Write,
  range: IDBKeyRange | null,
  isMeant: (row: Row) => boolean,
  changed: Set<string>,
): Promise<void> {
  const records = tx.objectStore("records");
  for (let rest = range; ; ) {
    const rows = await records.getAll(rest, ROWS_AT_ONCE);
    for (const row of rows) {
      if (row.server === null || !isMeant(row)) continue;
      changed.add(row.id);
      keep(unwrap(records) as unknown as IDBObjectStore, { ...row, server: null });
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < ROWS_AT_ONCE) return;
    rest = range ? IDBKeyRange.bound(last.id, range.upper, true) : IDBKeyRange.lowerBound(last.id, true);
  }
}

/** Takes an entry out of the outbox; the record shows the newest write that is left. */
async function takeOut(tx: Write, entry: Entry): Promise<void> {
  const outbox = tx.objectStore("outbox");
  if ((await outbox.get(entry.n as number))?.opid !== entry.opid) return; // discarded meanwhile
  await outbox.delete(entry.n as number);
  const row = await tx.objectStore("records").get(entry.id);
  if (row === undefined) return;
  const left = (await outbox.index("id").getAll(entry.id)).at(-1);
  if (left === undefined) delete row.local;
  else row.local = left.doc;
  keep(unwrap(tx.objectStore("records")) as unknown as IDBObjectStore, row);
}

/** Ends the entries whose fence the stream has passed. */
async function settle(tx: Write): Promise<string[]> {
  const { since } = ((await tx.objectStore("meta").get("position")) ?? {}) as Partial<Position>;
  if (since === undefined) return [];
  const ended: string[] = [];
  for (const entry of await tx.objectStore("outbox").index("acknowledged").getAll()) {
    if (entry.since === undefined || !covers(since, entry.since)) continue;
    await takeOut(tx, entry);
    ended.push(entry.id);
  }
  return ended;
}
