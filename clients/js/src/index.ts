/* index.ts - what web apps import. Read connection.ts first. */
export { connect, Connection } from "./connection.js";
export type { ConnectOptions, ConnectionEvents } from "./connection.js";
export { LiveSet } from "./liveset.js";
export type { LiveSetOptions } from "./liveset.js";
export type { Order } from "./sorted.js";
export { Stream } from "./stream.js";
export type { Dispatch, Drop, Put, Remove, StreamEvent, StreamEvents } from "./stream.js";
export { Changes } from "./changes.js";
export type { ChangeEvent, ChangesEvents, ChangesOptions } from "./changes.js";
export type { Emitter } from "./emitter.js";
export type { Reset, Resumable, ResumableEvents, StreamOptions, Sync } from "./resumable.js";
export { Db } from "./requests.js";
export type {
  Counted,
  FindOptions,
  Operation,
  RequestOptions,
  WriteOptions,
  Written,
} from "./requests.js";
export { Search } from "./search.js";
export type {
  BulkOperation,
  Changed,
  Page,
  PageOptions,
  SearchOptions,
  SearchQuery,
} from "./search.js";
export type { Held, Synced, SyncOptions, Verdict } from "./sync.js";
export { TidewireError } from "./errors.js";
export type { Retry } from "./errors.js";
export type { SocketClass, SocketLike, State, TokenReason } from "./socket.js";
export { covers } from "./wire.js";
export type { Doc, Frame, Id, Json, Query, Since, Spec } from "./wire.js";
