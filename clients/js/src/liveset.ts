/* liveset.ts - the records of a stream as they stand: a fold of its events. */
import type { TidewireError } from "./errors.js";
import { oncePerFrame } from "./frame.js";
import { Sorted, type Order } from "./sorted.js";
import type { Stream, StreamEvent } from "./stream.js";
import { keyText } from "./wire.js";
import type { Doc, Json } from "./wire.js";

export interface LiveSetOptions<Record extends Doc> {
  /** A field, `{field: -1}` for downwards, or a comparison. A change costs a merge, not another sort. */
  sort?: Order<Record>;
}

/** The records of a stream. `records` is the same array as long as nothing changed, a record the same
 * object. After a `reset` the old records stay until the new ones are all there: a screen does not
 * flicker. */
export class LiveSet<Record extends Doc = Doc> {
  readonly #records = new Map<string, Record>();
  #untold: Set<string> | undefined; // after a reset: what was not told again yet
  #snapshot: readonly Record[] | undefined;
  readonly #sorted: Sorted<Record> | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #stops: (() => void)[];
  #isSynced = false;
  readonly #notify = oncePerFrame(() => {
    for (const listener of this.#listeners) listener();
  });

  constructor(
    readonly stream: Stream,
    { sort }: LiveSetOptions<Record> = {},
  ) {
    if (sort !== undefined) this.#sorted = new Sorted(sort);
    this.#stops = [
      stream.on("event", (event) => this.#apply(event)),
      stream.on("error", () => this.#notify()),
    ];
  }

  /** All records, in the order asked for, else that of their coming. */
  get records(): readonly Record[] {
    return (this.#snapshot ??= this.#sorted?.records ?? [...this.#records.values()]);
  }

  get(collection: string, key: Json): Record | undefined {
    return this.#records.get(nameOf(collection, key));
  }

  get size(): number {
    return this.#records.size;
  }

  /** True when all that was stored is here. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Why the server refuses the query; `records` then changes no more. */
  get error(): TidewireError | undefined {
    return this.stream.error;
  }

  /** Calls back after changes, once for all that came before the next frame of the screen. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    for (const stop of this.#stops) stop();
    this.stream.close();
    this.#listeners.clear();
  }

  #apply(event: StreamEvent): void {
    if (event.kind === "dispatch") return;
    if (event.kind === "sync" && this.#isSynced) return; // of an idle stream: nothing is new
    this.#fold(event);
    this.#snapshot = undefined;
    this.#notify();
  }

  #fold(event: StreamEvent): void {
    switch (event.kind) {
      case "put": {
        const name = nameOf(event.collection, event.key);
        this.#set(name, event.doc as Record);
        this.#untold?.delete(name);
        break;
      }
      case "remove":
        this.#set(nameOf(event.collection, event.key), undefined);
        break;
      case "drop":
        for (const name of this.#records.keys()) {
          if (name.startsWith(`${event.collection}\n`)) this.#set(name, undefined);
        }
        break;
      case "reset":
        this.#untold = new Set(this.#records.keys());
        this.#isSynced = false;
        break;
      case "sync":
        for (const name of this.#untold ?? []) this.#set(name, undefined);
        this.#untold = undefined;
        this.#isSynced = true;
        break;
    }
  }

  #set(name: string, record: Record | undefined): void {
    this.#sorted?.change(this.#records.get(name), record);
    if (record === undefined) this.#records.delete(name);
    else this.#records.set(name, record);
  }
}

function nameOf(collection: string, key: Json): string {
  return `${collection}\n${keyText(key)}`;
}
