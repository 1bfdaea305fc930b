/* stream.ts - the records of a query: what is stored, then every change of it. */
import { Resumable, type Reset, type StreamHost, type StreamOptions, type Sync } from "./resumable.js";
import type { ResumableEvents } from "./resumable.js";
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

