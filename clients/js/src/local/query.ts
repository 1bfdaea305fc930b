/* query.ts - live queries over the local copy: the rows of a collection in memory, kept equal to
 * IndexedDB by the ids of what changed, in this tab or another. */
import { oncePerFrame } from "../frame.js";
import { compareBy, Sorted, type Order } from "../sorted.js";
import type { Doc } from "../wire.js";
import { type Copy, type Row, shown } from "./copy.js";

export type Filter<Record extends Doc> = ((record: Record) => boolean) | Partial<Record>;

export interface QueryOptions<Record extends Doc> {
  where?: Filter<Record>;
  /** A field, `{field: -1}` for downwards, or a comparison of two records. */
  sort?: Order<Record>;
  limit?: number;
}

function test<Record extends Doc>(where: Filter<Record> | undefined, record: Record): boolean {
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
  if (sort !== undefined) found.sort(compareBy(sort));
  return limit === undefined ? found : found.slice(0, limit);
}

/** Runs work on the copy as it is now, and again where the browser took that away meanwhile. */
export type UseCopy = <Result>(work: (copy: Copy) => Promise<Result>) => Promise<Result>;

/** The records of one collection, in memory while somebody watches it. */
export class Mirror {
  readonly records = new Map<string, Doc>();
  readonly queries = new Set<LiveQuery<Doc>>();
  readonly #rows = new Map<string, Row>();
  readonly #use: UseCopy;
  readonly #collection: string;
  readonly #due = new Set<string>(); // to be read again
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

  /** As they were read last. */
  rows(): Iterable<Row> {
    return this.#rows.values();
  }

  reload(): void {
    this.#next(async () => {
      const rows = await this.#use((copy) => copy.rows(this.#collection));
      const left = new Set(this.#rows.keys());
      for (const row of rows) left.delete(row.id);
      for (const id of left) this.#take(id, undefined);
      for (const row of rows) this.#take(row.id, row);
    });
  }

  /** What is told while a reading runs is one more. */
  reread(ids: string[]): void {
    const isWaiting = this.#due.size > 0;
    for (const id of ids) this.#due.add(id);
    if (isWaiting) return;
    this.#next(async () => {
      const due = [...this.#due];
      this.#due.clear();
      const rows = await this.#use((copy) => copy.getMany(due));
      due.forEach((id, i) => this.#take(id, rows[i]));
    });
  }

  /** A reading that fails leaves what there is: the copy is closed, or comes back and is reloaded. */
  #next(work: () => Promise<void>): void {
    this.#turn = this.#turn.then(work).catch(() => {});
  }

  #take(id: string, row: Row | undefined): void {
    const before = this.records.get(id);
    const after = shown(row);
    if (row === undefined) this.#rows.delete(id);
    else this.#rows.set(id, row);
    if (after === undefined) this.records.delete(id);
    else this.records.set(id, after);
    for (const query of this.queries) query.change(before, after);
  }
}

/** A query that stays true. `records` is the same array until the result changes, and a record the same
 * object until it does. */
export class LiveQuery<Record extends Doc = Doc> {
  readonly #mirror: Mirror;
  readonly #options: QueryOptions<Record>;
  readonly #onClose: (query: LiveQuery<Record>) => void;
  readonly #listeners = new Set<() => void>();
  readonly #sorted: Sorted<Record> | undefined;
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
    if (options.sort !== undefined) {
      this.#sorted = new Sorted(options.sort);
      for (const record of mirror.records.values()) this.change(undefined, record);
    }
    void mirror.ready.then(() => {
      this.#isReady = true;
      this.#notify();
    });
  }

  /** False until the local copy was read for the first time. */
  get isReady(): boolean {
    return this.#isReady;
  }

  get records(): readonly Record[] {
    return (this.#records ??= this.#read());
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
    this.#onClose(this);
  }

  /** By the mirror: a record came, went, or is another version. */
  change(before: Doc | undefined, after: Doc | undefined): void {
    const isIn = (record: Doc | undefined) =>
      record !== undefined && test(this.#options.where, record as Record) ? (record as Record) : undefined;
    const [gone, come] = [isIn(before), isIn(after)];
    if (gone === undefined && come === undefined) return;
    this.#sorted?.change(gone, come);
    this.#records = undefined;
    this.#notify();
  }

  #read(): readonly Record[] {
    const { limit } = this.#options;
    if (this.#sorted === undefined) {
      return pick(this.#mirror.records.values() as Iterable<Record>, this.#options);
    }
    const { records } = this.#sorted;
    return limit === undefined ? records : records.slice(0, limit);
  }
}
