/* query.ts - live queries over the local copy: the rows of a collection in memory, kept equal to
 * IndexedDB by the ids of what changed, in this tab or another. */
import { oncePerFrame } from "../frame.js";
import type { Doc } from "../wire.js";
import { type Copy, type Row, shown } from "./copy.js";

export type Filter<Record extends Doc> = ((record: Record) => boolean) | Partial<Record>;

export interface QueryOptions<Record extends Doc> {
  where?: Filter<Record>;
  /** A field, or a comparison of two records. */
  sort?: keyof Record | ((a: Record, b: Record) => number);
  limit?: number;
}

export function test<Record extends Doc>(where: Filter<Record> | undefined, record: Record): boolean {
  if (where === undefined) return true;
  if (typeof where === "function") return where(record);
  return Object.entries(where).every(
    ([name, wanted]) => JSON.stringify(record[name]) === JSON.stringify(wanted),
  );
}

export function pick<Record extends Doc>(
  records: Iterable<Record>,
  { where, sort, limit }: QueryOptions<Record>,
): Record[] {
  const found: Record[] = [];
  for (const record of records) if (test(where, record)) found.push(record);
  if (typeof sort === "function") found.sort(sort);
  else if (sort !== undefined) found.sort((a, b) => order(a[sort], b[sort]));
  return limit === undefined ? found : found.slice(0, limit);
}

const RANKS = ["undefined", "number", "string", "object", "boolean"];

/** A total order, the server's for what JSON holds: nothing, numbers, texts, documents, booleans. */
function order(a: unknown, b: unknown): number {
  const ranks = RANKS.indexOf(typeof (a ?? undefined)) - RANKS.indexOf(typeof (b ?? undefined));
  if (ranks !== 0) return ranks;
  const isDocument = typeof a === "object" && a !== null;
  const [x, y] = (isDocument ? [JSON.stringify(a), JSON.stringify(b)] : [a ?? "", b ?? ""]) as [string, string];
  return x === y ? 0 : x < y ? -1 : 1;
}

/** Runs work on the copy as it is now, and again where the browser took that away meanwhile. */
export type UseCopy = <Result>(work: (copy: Copy) => Promise<Result>) => Promise<Result>;

/** The records of one collection, in memory while somebody watches it. */
export class Mirror {
  readonly records = new Map<string, Doc>();
  readonly queries = new Set<LiveQuery<Doc>>();
  readonly #use: UseCopy;
  readonly #collection: string;
  /** One after the other: an older reading never comes over a newer. */
  #turn: Promise<void> = Promise.resolve();

  constructor(use: UseCopy, collection: string) {
    this.#use = use;
    this.#collection = collection;
    this.reload();
  }

  get ready(): Promise<void> {
    return this.#turn;
  }

  reload(): void {
    this.#next(async () => {
      const rows = await this.#use((copy) => copy.rows(this.#collection));
      this.records.clear();
      this.#take(rows);
    });
  }

  reread(ids: string[]): void {
    this.#next(async () => {
      const rows = await this.#use((copy) => copy.getMany(ids));
      ids.forEach((id, i) => rows[i] === undefined && this.records.delete(id));
      this.#take(rows.filter((row) => row !== undefined));
    });
  }

  /** A reading that fails leaves what there is: the copy is closed, or comes back and is reloaded. */
  #next(work: () => Promise<void>): void {
    this.#turn = this.#turn.then(work).catch(() => {});
  }

  #take(rows: Row[]): void {
    for (const row of rows) {
      const doc = shown(row);
      if (doc === undefined) this.records.delete(row.id);
      else this.records.set(row.id, doc);
    }
    for (const query of this.queries) query.invalidate();
  }
}

/** A query that stays true. `records` is the same array until the result may have changed. */
export class LiveQuery<Record extends Doc = Doc> {
  readonly #mirror: Mirror;
  readonly #options: QueryOptions<Record>;
  readonly #onClose: (query: LiveQuery<Record>) => void;
  readonly #listeners = new Set<() => void>();
  #records: readonly Record[] | undefined;
  #isReady = false;
  readonly #notify = oncePerFrame(() => {
    for (const listener of this.#listeners) listener();
  });

  constructor(
    mirror: Mirror,
    options: QueryOptions<Record>,
    onClose: (query: LiveQuery<Record>) => void,
  ) {
    this.#mirror = mirror;
    this.#options = options;
    this.#onClose = onClose;
    void mirror.ready.then(() => ((this.#isReady = true), this.invalidate()));
  }

  /** False until the local copy was read for the first time. */
  get isReady(): boolean {
    return this.#isReady;
  }

  get records(): readonly Record[] {
    return (this.#records ??= pick(this.#mirror.records.values() as Iterable<Record>, this.#options));
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
    this.#onClose(this);
  }

  invalidate(): void {
    this.#records = undefined;
    this.#notify();
  }
}
