/* changes.ts - the change stream: every change of collections, with MongoDB's field names. */
import { Resumable, type ResumableEvents, type StreamHost, type StreamOptions } from "./resumable.js";
import type { Doc, Frame, Json } from "./wire.js";

export interface ChangeEvent {
  op: "insert" | "update" | "replace" | "delete" | "drop" | "dropDatabase";
  ns: { db: string; coll?: string };
  documentKey?: { [field: string]: Json };
  fullDocument?: Doc;
  updateDescription?: { updatedFields: Doc; removedFields: string[] };
  srv_id: number;
  seqno: number;
  /** The writer's `reqID` as text, where it gave one. */
  origin?: string;
}

export interface ChangesOptions extends StreamOptions {
  /** Names, or `{db, coll}`; absent: all that may be read, those that come into being later too. */
  collections?: (string | { db: string; coll: string })[];
}

export interface ChangesEvents extends ResumableEvents<ChangeEvent> {
  change: ChangeEvent;
}

export class Changes extends Resumable<ChangeEvent, ChangesEvents> {
  readonly #collections: ChangesOptions["collections"];

  constructor(host: StreamHost, mux_id: number, options: ChangesOptions) {
    super(host, mux_id, { since: "now", ...options });
    this.#collections = options.collections;
    this.on("event", (event) => {
      if ("op" in event) this.emit("change", event);
    });
  }

  protected override ask(): { [name: string]: unknown } {
    return {
      action: "watch",
      ...(this.#collections !== undefined && { collections: this.#collections }),
    };
  }

  protected override read(frame: Frame): ChangeEvent {
    const { mux_id: _mux_id, prev: _prev, last: _last, ...change } = frame;
    return change as unknown as ChangeEvent;
  }
}
