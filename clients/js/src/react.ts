/* react.ts - hooks: a component says what it shows, and shows it as it stands.
 *
 * Streams are shared: components that ask a connection the same have one stream, which ends a moment
 * after the last of them is gone. So a StrictMode's second mount, or a change of page that asks the
 * same again, costs nothing. Snapshots are stable (useSyncExternalStore): no tearing, no extra render. */
import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from "react";

import type { Connection } from "./connection.js";
import type { TidewireError } from "./errors.js";
import { LiveSet } from "./liveset.js";
import type { Database, LiveQuery, QueryOptions } from "./local/index.js";
import type { State } from "./socket.js";
import type { Order } from "./sorted.js";
import type { Doc, Json, Query } from "./wire.js";

export interface StreamResult<Record extends Doc> {
  /** The same array as long as nothing changed. */
  records: readonly Record[];
  /** All that is stored is here. */
  isSynced: boolean;
  /** The server refuses the query. */
  error: TidewireError | undefined;
}
export interface RecordResult<Record extends Doc> {
  /** undefined: not there, or not known yet (`isSynced` tells). */
  record: Record | undefined;
  isSynced: boolean;
  error: TidewireError | undefined;
}

const LINGER_MS = 1000; // a stream nobody shows any more may be asked for again at once

interface Shared {
  set: LiveSet;
  listeners: Set<() => void>; // one a component
  result: StreamResult<Doc>;
  timer: ReturnType<typeof setTimeout> | undefined;
}
const shared = new WeakMap<Connection, Map<string, Shared>>();

const NOTHING: StreamResult<never> = { records: [], isSynced: false, error: undefined };

function resultOf(set: LiveSet): StreamResult<Doc> {
  return { records: set.records, isSynced: set.isSynced, error: set.error };
}

export interface StreamHookOptions {
  /** `"field"`, or `{field: -1}` for downwards: the order is kept from change to change, not made anew. */
  sort?: string | { [field: string]: 1 | -1 };
}

function share(connection: Connection, name: string): Shared {
  let streams = shared.get(connection);
  if (streams === undefined) shared.set(connection, (streams = new Map()));
  let one = streams.get(name);
  if (one === undefined) {
    const [query, sort] = JSON.parse(name) as [Query, StreamHookOptions["sort"] | null];
    const set = new LiveSet(connection.subscribe(query), sort === null ? {} : { sort: sort as Order<Doc> });
    const made: Shared = { set, listeners: new Set(), result: resultOf(set), timer: undefined };
    set.subscribe(() => {
      made.result = resultOf(set); // once for all components: they show the same
      for (const listener of made.listeners) listener();
    });
    streams.set(name, (one = made));
  }
  return one;
}

function use(connection: Connection, name: string, onChange: () => void): () => void {
  const one = share(connection, name);
  clearTimeout(one.timer);
  const listener = () => onChange(); // two components may give the same function
  one.listeners.add(listener);
  return () => {
    one.listeners.delete(listener);
    if (one.listeners.size > 0) return;
    one.timer = setTimeout(() => {
      one.set.close();
      shared.get(connection)?.delete(name);
    }, LINGER_MS);
  };
}

/** The records of a query, live. `query` may be written in place: equal queries are one stream.
 * undefined: nothing is asked for yet. */
export function useStream<Record extends Doc = Doc>(
  connection: Connection,
  query: Query | undefined,
  { sort }: StreamHookOptions = {},
): StreamResult<Record> {
  const name = query === undefined ? undefined : JSON.stringify([query, sort ?? null]);
  const subscribe = useCallback(
    (onChange: () => void) =>
      name === undefined ? () => {} : use(connection, name, onChange),
    [connection, name],
  );
  const read = () =>
    name === undefined ? NOTHING : (shared.get(connection)?.get(name)?.result ?? NOTHING);
  return useSyncExternalStore(subscribe, read, () => NOTHING) as StreamResult<Record>;
}

/** One record, live, by its key (`_id`, or the field that is its collection's key). */
export function useRecord<Record extends Doc = Doc>(
  connection: Connection,
  collection: string,
  key: Json,
  keyField = "_id",
): RecordResult<Record> {
  const query = { collections: { [collection]: { filter: { [keyField]: key } } } };
  const { records, isSynced, error } = useStream<Record>(connection, query);
  return { record: records[0], isSynced, error };
}

export interface CollectionResult<Record extends Doc> {
  /** The same array as long as nothing changed. */
  records: readonly Record[];
  /** The local copy was read once. */
  isReady: boolean;
}

/** A query of a local database, live: its records, and whether they were read once. `where` and
 * `sort` as functions must keep their identity (useCallback), like any dependency. */
export function useCollection<Record extends Doc = Doc>(
  database: Database | undefined,
  collection: string,
  options: QueryOptions<Record> = {},
): CollectionResult<Record> {
  const { where, sort, limit } = options;
  const whereName = typeof where === "function" ? where : JSON.stringify(where);
  const sortName = typeof sort === "object" ? JSON.stringify(sort) : sort;
  const held = useMemo<{ query: LiveQuery<Record> | undefined; result: CollectionResult<Record> }>(
    () => ({ query: undefined, result: EMPTY }),
    // One holder for each question.
    [database, collection, whereName, sortName, limit],
  );
  const subscribe = useCallback(
    (onChange: () => void) => {
      if (database === undefined) return () => {};
      const query = database.watch<Record>(collection, {
        ...(where !== undefined && { where }),
        ...(sort !== undefined && { sort }),
        ...(limit !== undefined && { limit }),
      });
      held.query = query;
      const stop = query.subscribe(onChange);
      return () => {
        stop();
        query.close();
        held.query = undefined;
      };
    },
    [held], // it stands for database, collection and options
  );
  const read = () => {
    const { records, isReady } = held.query ?? EMPTY;
    const isSame = held.result.records === records && held.result.isReady === isReady;
    return isSame ? held.result : (held.result = { records, isReady });
  };
  return useSyncExternalStore(subscribe, read, () => EMPTY);
}
const EMPTY: CollectionResult<never> = { records: [], isReady: false };

/** The connection's state: "online", "offline", … */
export function useConnection(connection: {
  readonly state: State;
  on(name: "state", listener: (state: State) => void): () => void;
}): State {
  const subscribe = useCallback(
    (onChange: () => void) => connection.on("state", onChange),
    [connection],
  );
  const read = () => connection.state;
  return useSyncExternalStore(subscribe, read, () => "connecting");
}

/** A local database, opened; `error` where that failed. */
export function useDatabase(
  server: { open(name: string): Promise<Database> },
  name: string,
): { database: Database | undefined; error: TidewireError | undefined } {
  const [opened, setOpened] = useState<{ database?: Database; error?: TidewireError }>({});
  useEffect(() => {
    let isCurrent = true;
    server.open(name).then(
      (database) => isCurrent && setOpened({ database }),
      (error: TidewireError) => isCurrent && setOpened({ error }),
    );
    return () => void (isCurrent = false);
  }, [server, name]);
  return { database: opened.database, error: opened.error };
}
