/* sorted.ts - records in an order that is kept: a change costs one merge, not another sort. */
import type { Json } from "./wire.js";

/** What orders records: a field, `{field: 1}` upwards or `{field: -1}` downwards, or a comparison. */
export type Order<Record> =
  | (keyof Record & string)
  | { readonly [field: string]: 1 | -1 }
  | ((a: Record, b: Record) => number);
export type Compare<Record> = (a: Record, b: Record) => number;

const RANKS = ["undefined", "number", "string", "object", "boolean"];

/** A total order, the server's for what JSON holds: nothing, numbers, texts, documents, booleans. */
function order(a: unknown, b: unknown): number {
  const ranks = RANKS.indexOf(typeof (a ?? undefined)) - RANKS.indexOf(typeof (b ?? undefined));
  if (ranks !== 0) return ranks;
  const isDocument = typeof a === "object" && a !== null;
  const [x, y] = (isDocument ? [JSON.stringify(a), JSON.stringify(b)] : [a ?? "", b ?? ""]) as [string, string];
  return x === y ? 0 : x < y ? -1 : 1;
}

export function compareBy<Record>(by: Order<Record>): Compare<Record> {
  if (typeof by === "function") return by;
  const fields = Object.entries(typeof by === "string" ? { [by]: 1 } : by) as [string, 1 | -1][];
  type Fields = { [field: string]: Json | undefined };
  return (a, b) => {
    for (const [field, way] of fields) {
      const found = order((a as Fields)[field], (b as Fields)[field]);
      if (found !== 0) return found * way;
    }
    return 0;
  };
}

/** Sorted records without those that went, with those that came: a new array, in one pass. */
export function merged<Record>(
  sorted: readonly Record[],
  gone: ReadonlySet<Record>,
  come: Iterable<Record>,
  compare: Compare<Record>,
): Record[] {
  const fresh = [...come].sort(compare);
  const result: Record[] = [];
  let next = 0;
  for (const one of sorted) {
    if (gone.has(one)) continue;
    for (; next < fresh.length && compare(fresh[next] as Record, one) < 0; next++) {
      result.push(fresh[next] as Record);
    }
    result.push(one);
  }
  for (; next < fresh.length; next++) result.push(fresh[next] as Record);
  return result;
}

/** An array that is made when it is looked at, from the one before and what changed since. */
export class Sorted<Record> {
  readonly #compare: Compare<Record>;
  #records: readonly Record[] | undefined;
  readonly #gone = new Set<Record>();
  readonly #come = new Set<Record>();

  constructor(by: Order<Record>) {
    this.#compare = compareBy(by);
  }

  change(before: Record | undefined, after: Record | undefined): void {
    if (before !== undefined && !this.#come.delete(before)) this.#gone.add(before);
    if (after !== undefined) this.#come.add(after);
  }

  clear(): void {
    this.#records = undefined;
    this.#gone.clear();
    this.#come.clear();
  }

  get records(): readonly Record[] {
    if (this.#records === undefined || this.#gone.size + this.#come.size > 0) {
      this.#records = merged(this.#records ?? [], this.#gone, this.#come, this.#compare);
      this.#gone.clear();
      this.#come.clear();
    }
    return this.#records;
  }
}
