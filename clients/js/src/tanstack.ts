/* tanstack.ts - collection options of TanStack DB: its live queries over Tidewire's streams.
 *
 *   const people = createCollection(tidewireCollectionOptions({ tide, collection: "people" }));
 *
 * Reads come by a stream; writes are optimistic in the collection and stay so until the stream has
 * passed the fence that the server answered with, so nothing flickers back. A record's key in the
 * collection is its key at the server as text: "ada", "7" for the number, "\"7\"" for the text. */
import type {
  CollectionConfig,
  DeleteMutationFnParams,
  InsertMutationFnParams,
  SyncConfig,
  UpdateMutationFnParams,
} from "@tanstack/db";

import type { Connection } from "./connection.js";
import type { Stream } from "./stream.js";
import { covers, keyText } from "./wire.js";
import type { Doc, Json, Since } from "./wire.js";

export interface TidewireCollectionOptions {
  tide: Connection;
  /** The name at the server. */
  collection: string;
  /** The field that is the key; `_id` by default. */
  keyField?: string;
  /** Only records that match: MongoDB's filter language. */
  filter?: Doc;
  /** Name of the collection in TanStack DB; the server's by default. */
  id?: string;
}

type Params<Record extends Doc> =
  | InsertMutationFnParams<Record, string>
  | UpdateMutationFnParams<Record, string>
  | DeleteMutationFnParams<Record, string>;

export function tidewireCollectionOptions<Record extends Doc = Doc>(
  options: TidewireCollectionOptions,
): CollectionConfig<Record, string, never> & { schema?: never } {
  const { tide, collection, keyField = "_id", filter, id = collection } = options;
  const getKey = (record: Record) => keyText(record[keyField] as Json);
  let stream: Stream | undefined;

  const sync: SyncConfig<Record, string>["sync"] = ({
    begin,
    write,
    commit,
    markReady,
    truncate,
  }) => {
    const following = tide.subscribe({ collections: { [collection]: filter ? { filter } : "*" } });
    stream = following;
    let isOpen = false; // begun, not committed: a snapshot is one change of the screen
    const open = () => {
      if (!isOpen) begin();
      isOpen = true;
    };
    const close = () => {
      if (isOpen) commit();
      isOpen = false;
    };
    const told = new Set<string>();
    following.on("event", (event) => {
      switch (event.kind) {
        case "put": {
          const value = event.doc as Record;
          open();
          write({ type: told.has(getKey(value)) ? "update" : "insert", value });
          told.add(getKey(value));
          break;
        }
        case "remove":
          if (!told.delete(keyText(event.key))) break;
          open();
          write({ type: "delete", key: keyText(event.key) });
          break;
        case "drop":
        case "reset":
          open();
          truncate();
          told.clear();
          break;
        case "sync":
          close();
          markReady();
          break;
      }
      if (following.isLive) close();
    });
    following.on("error", () => markReady()); // TanStack waits for it; the error is the stream's
    return () => following.close();
  };

  /** Until the stream has shown the writes. */
  const shownBy = async (fences: Since[]): Promise<void> => {
    const following = stream;
    if (following === undefined) return;
    const isShown = () => fences.every((fence) => covers(following.since, fence));
    if (following.isEnded || isShown()) return;
    await new Promise<void>((done) => {
      const stop = following.on("event", () => {
        if (!isShown()) return;
        stop();
        done();
      });
    });
  };

  const write = async ({ transaction }: Params<Record>): Promise<void> => {
    const fences: Since[] = [];
    for (const mutation of transaction.mutations) {
      const key = mutation.original[keyField as never] as Json;
      const modified = mutation.modified as unknown as Doc;
      const written =
        mutation.type === "delete"
          ? await tide.db.remove(collection, key)
          : mutation.type === "insert"
            ? await tide.db.insert(collection, modified)
            : await tide.db.update(collection, key, mutation.changes as Doc);
      fences.push(written.since);
    }
    await shownBy(fences);
  };

  return { id, getKey, sync: { sync }, onInsert: write, onUpdate: write, onDelete: write };
}
