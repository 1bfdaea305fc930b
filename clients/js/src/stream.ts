/* stream.ts - the records of a query: what is stored, then every change of it. */
import { Resumable, type Reset, type StreamHost, type StreamOptions, type Sync } from "./resumable.js";
import type { ResumableEvents } from "./resumable.js";
import { keyText } from "./wire.js";
import type { Doc, Frame, Json, Query } from "./wire.js";

/** A record that is there now, or a newer version of it. */
export interface Put {
  kind: "put";
  collection: string;
  key: Json;
  doc: Doc;
  /** The record's version, where the collection tells one. */
  version: number | undefined;
  srv_id: number;
  seqno: number;
}
/** A record that is no longer in the stream: deleted, left the query, or rights were revoked. */
export interface Remove {
  kind: "remove";
  collection: string;
  key: Json;
  why: "deleted" | "left" | "revoked";
  srv_id: number;
  seqno: number;
}
/** A collection was dropped, with all its records. */
export interface Drop {
  kind: "drop";
  collection: string;
  srv_id: number;
  seqno: number;
}
/** A message to the followers of a collection; it is not stored and comes at most once. */
export interface Dispatch {
  kind: "dispatch";
  collection: string;
  message: Json;
}
type Change = Put | Remove | Drop | Dispatch;
export type StreamEvent = Change | Reset | Sync;

export interface StreamEvents extends ResumableEvents<Change> {
  put: Put;
  remove: Remove;
  drop: Drop;
  dispatch: Dispatch;
}

/** Collections whose fields stand beside `type`: what names them, and their keys. */
const FLAT: { [type: string]: readonly [collection: string, key: string] } = {
  entry: ["entries", "version_uuid"],
  thread: ["threads", "thread_uuid"],
  comment: ["comments", "_id"],
};
const OWN_FIELDS = new Set(["type", "mux_id", "prev", "srv_id", "seqno", "last"]);

export class Stream extends Resumable<Change, StreamEvents> {
  readonly #asks: Query;

  constructor(host: StreamHost, mux_id: number, asks: Query, options: StreamOptions) {
    super(host, mux_id, options);
    this.#asks = asks;
  }

  protected override ask(): { [name: string]: unknown } {
    return { ...this.#asks, type: "subscribe" };
  }

  protected override read(frame: Frame): Change {
    return changeOf(frame);
  }
}

/** The change that a frame tells. */
function changeOf(frame: Frame): Change {
  const srv_id = Number(frame["srv_id"]);
  const seqno = Number(frame["seqno"]);
  const type = String(frame.type);
  const collection = String(frame["collection"]);
  if (type === "remove") {
    const why = frame["why"] as Remove["why"];
    return { kind: "remove", collection, key: frame["key"] as Json, why, srv_id, seqno };
  }
  if (type === "dispatch") {
    return { kind: "dispatch", collection, message: frame["message"] as Json };
  }
  if (type === "drop") return { kind: "drop", collection, srv_id, seqno };
  if (type === "record") {
    const doc = frame["doc"] as Doc;
    const version = frame["version"] as number | undefined;
    return { kind: "put", collection, key: frame["key"] as Json, doc, version, srv_id, seqno };
  }
  const doc: Doc = {};
  for (const [name, value] of Object.entries(frame)) {
    if (!OWN_FIELDS.has(name)) doc[name] = value as Json;
  }
  const [named, key] = FLAT[type] ?? [type, "_id"];
  const version = doc["_version"] as number | undefined;
  return { kind: "put", collection: named, key: doc[key] ?? null, doc, version, srv_id, seqno };
}

/** The records of a stream as they stand: a fold of its events. Each snapshot is immutable, and the
 * same object as long as nothing changed. */
export class LiveSet<Record extends Doc = Doc> {
  readonly #records = new Map<string, Record>();
  #snapshot: readonly Record[] | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #stop: () => void;
  #isSynced = false;
  #isDue = false;

  constructor(readonly stream: Stream) {
    this.#stop = stream.on("event", (event) => this.#apply(event));
  }

  /** All records, in the order of their coming. */
  get records(): readonly Record[] {
    return (this.#snapshot ??= [...this.#records.values()]);
  }

  get(collection: string, key: Json): Record | undefined {
    return this.#records.get(`${collection}\n${keyText(key)}`);
  }

  get size(): number {
    return this.#records.size;
  }

  /** True when all that was stored is here. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Calls back after changes, once for all that came before the next frame of the screen. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#stop();
    this.stream.close();
    this.#listeners.clear();
  }

  #apply(event: StreamEvent): void {
    switch (event.kind) {
      case "put":
        this.#records.set(`${event.collection}\n${keyText(event.key)}`, event.doc as Record);
        break;
      case "remove":
        this.#records.delete(`${event.collection}\n${keyText(event.key)}`);
        break;
      case "drop":
        for (const name of this.#records.keys()) {
          if (name.startsWith(`${event.collection}\n`)) this.#records.delete(name);
        }
        break;
      case "reset":
        this.#records.clear();
        this.#isSynced = false;
        break;
      case "sync":
        if (this.#isSynced) return;
        this.#isSynced = true;
        break;
      case "dispatch":
        return;
    }
    this.#snapshot = undefined;
    if (this.#isDue) return;
    this.#isDue = true;
    onNextFrame(() => {
      this.#isDue = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

/** Before the next frame of the screen; where none is drawn (hidden tabs, Node), very soon. */
function onNextFrame(call: () => void): void {
  if (typeof document !== "undefined" && document.visibilityState === "visible") {
    requestAnimationFrame(call);
  } else {
    setTimeout(call, 0);
  }
}
