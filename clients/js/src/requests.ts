/* requests.ts - questions and writes over the connection: every promise settles.
 *
 * A request that has no answer when the connection breaks is sent again when it is back: reads may be
 * repeated, and a write carries an `opid`, by which the server knows it and gives its first result. */
import { closedError, errorOf, TidewireError } from "./errors.js";
import type { Doc, Frame, Id, Json, Since } from "./wire.js";

export interface RequestOptions {
  /** Milliseconds until the promise rejects with `timeout`; 30,000 by default. */
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Database, where it is not the server's default. */
  database?: string;
}
export interface WriteOptions extends RequestOptions {
  /** Only if the stored version is this one; 0: only if there is none. Else: `conflict`. */
  if_version?: number;
  /** false: live streams are not told of it. */
  dispatch?: boolean;
  /** Makes the write idempotent under a name of yours; made up by default. */
  opid?: string;
}
export interface FindOptions extends RequestOptions {
  fields?: string[];
  sort?: { [field: string]: 1 | -1 };
  limit?: number;
  skip?: number;
}

/** What a write answers: `since` is a fence, a stream whose position covers it has shown the write. */
export interface Written {
  key: Json;
  version: number;
  since: Since;
}
export interface Counted {
  count: number;
  since: Since;
}
export type Operation =
  | [what: "SET" | "INC" | "DEC" | "MAX" | "MIN", field: string, value: Json]
  | [what: "APPEND" | "APPEND_IF_MISSING" | "REMOVE", field: string, value: Json]
  | [what: "DELETE", field: string];

export interface RequestHost {
  send(frame: { [name: string]: unknown }): void;
  isUp(): boolean;
}

type Fields = { [name: string]: unknown };
/** What the server asks for in the middle of an action, answered by more messages. */
type Turn = (asked: Frame[]) => Fields[];

interface Pending {
  /** One, but for a conversation. */
  frames: Fields[];
  parts: Frame[];
  asked: Frame[];
  turn: Turn | undefined;
  resolve: (last: Frame, parts: Frame[]) => void;
  reject: (error: TidewireError) => void;
  tries: number;
}

/** Actions whose answer is a frame for each result, then one of `done`. */
const LISTS = new Set(["getByIds", "find", "find_one", "aggregate", "stream_search", "keys", "sync"]);
const ASKS = new Set(["split", "list", "turn"]); // of the frames of a sync, those that ask
const RETRIES_MAX = 5; // of a request that the server asks to send again

export class Requests {
  readonly #host: RequestHost;
  readonly #pending = new Map<number, Pending>();
  #serial = 0;
  #isClosed = false;

  constructor(host: RequestHost) {
    this.#host = host;
  }

  get waiting(): number {
    return this.#pending.size;
  }

  /** Sends an action; gives its last frame and those before it. */
  run(action: string, fields: Fields, options?: RequestOptions): Promise<{ last: Frame; parts: Frame[] }> {
    return this.converse(action, [fields], options);
  }

  /** The same in several messages; `turn` gives those that the server asks for in between. After a
   * break all of it begins anew. */
  converse(
    action: string,
    messages: Fields[],
    options: RequestOptions = {},
    turn?: Turn,
  ): Promise<{ last: Frame; parts: Frame[] }> {
    const reqID = ++this.#serial;
    const { timeoutMs = 30_000, signal, database } = options;
    return new Promise((done, fail) => {
      if (this.#isClosed) return fail(closedError());
      const timer = setTimeout(() => {
        pending.reject(
          new TidewireError("timeout", `no answer to ${action} in ${timeoutMs} ms`, "", "backoff"),
        );
      }, timeoutMs);
      const abort = () => pending.reject(new TidewireError("aborted", `${action} was aborted`));
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        this.#pending.delete(reqID);
      };
      const pending: Pending = {
        frames: messages.map((fields) => ({
          action,
          reqID,
          ...fields,
          ...(database !== undefined && { database }),
        })),
        parts: [],
        asked: [],
        turn,
        resolve: (last, parts) => (settle(), done({ last, parts })),
        reject: (error) => (settle(), fail(error)),
        tries: 0,
      };
      this.#pending.set(reqID, pending);
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted) abort();
      else if (this.#host.isUp()) this.#send(pending);
    });
  }

  /** The connection is up: what has no answer is sent (again). */
  open(): void {
    for (const pending of [...this.#pending.values()]) this.#send(pending);
  }

  #send(pending: Pending): void {
    pending.parts = [];
    pending.asked = [];
    this.#say(pending, pending.frames);
  }

  #say(pending: Pending, frames: Fields[]): void {
    try {
      for (const frame of frames) this.#host.send(frame);
    } catch (error) {
      pending.reject(error as TidewireError); // too_big
    }
  }

  hear(frame: Frame): void {
    const pending = this.#pending.get(Number(frame.reqID));
    if (pending === undefined) return; // timed out or aborted
    if (frame.type === "error") {
      this.#onError(pending, frame);
    } else if (pending.turn !== undefined && ASKS.has(String(frame.op))) {
      pending.asked.push(frame);
      if (frame.op !== "turn") return;
      const { action, reqID } = pending.frames[0] as Fields;
      const asked = pending.asked.splice(0);
      this.#say(pending, pending.turn(asked).map((fields) => ({ action, reqID, ...fields })));
    } else if (LISTS.has(String(frame.action)) || "progress" in frame) {
      pending.parts.push(frame);
    } else {
      pending.resolve(frame, pending.parts);
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const pending of [...this.#pending.values()]) pending.reject(closedError());
  }

  #onError(pending: Pending, frame: Frame): void {
    const error = errorOf(frame);
    if (error.retry === "no" || ++pending.tries > RETRIES_MAX) {
      return pending.reject(error);
    }
    setTimeout(() => {
      const isWaiting = this.#pending.get(Number(frame.reqID)) === pending;
      if (isWaiting && this.#host.isUp()) this.#send(pending);
    }, error.afterMs ?? 100 * 2 ** pending.tries * (0.5 + Math.random()));
  }
}

/** The records of a collection, as actions. */
export class Db {
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** The records that are there; the ids of those that are not are in `missing`. */
  async getByIds(
    collection: string,
    ids: Id[],
    options?: RequestOptions,
  ): Promise<{ docs: Doc[]; missing: Json[] }> {
    try {
      const { last, parts } = await this.#requests.run("getByIds", { collection, ids }, options);
      return { docs: parts.map(docOf), missing: (last["missing"] as Json[] | undefined) ?? [] };
    } catch (error) {
      if (error instanceof TidewireError && error.code === "not_found") {
        return { docs: [], missing: ids };
      }
      throw error;
    }
  }

  /** One record, or undefined. */
  async get(collection: string, id: Id, options?: RequestOptions): Promise<Doc | undefined> {
    return (await this.getByIds(collection, [id], options)).docs[0];
  }

  async find(collection: string, query: Doc = {}, options: FindOptions = {}): Promise<Doc[]> {
    const { parts } = await this.#requests.run("find", findFields(collection, query, options), options);
    return parts.map(docOf);
  }

  async findOne(
    collection: string,
    query: Doc = {},
    options: FindOptions = {},
  ): Promise<Doc | undefined> {
    return (await this.find(collection, query, { ...options, limit: 1 }))[0];
  }

  async count(collection: string, query: Doc = {}, options?: RequestOptions): Promise<number> {
    return Number((await this.#requests.run("count", { collection, query }, options)).last["count"]);
  }

  async getField(collection: string, id: Id, field: string, options?: RequestOptions): Promise<Json> {
    const { last } = await this.#requests.run("get_field", { collection, id, field }, options);
    return (last["value"] as Json | undefined) ?? null;
  }

  async getNewId(collection: string, options?: RequestOptions): Promise<Json> {
    return (await this.#requests.run("get_new_id", { collection }, options)).last["id"] as Json;
  }

  insert(collection: string, doc: Doc, options?: WriteOptions): Promise<Written> {
    return this.#write("insert", { collection, doc }, options);
  }

  put(collection: string, doc: Doc, options?: WriteOptions): Promise<Written> {
    return this.#write("put", { collection, doc }, options);
  }

  /** `change`: fields to set, or operations such as `["INC", "views", 1]`. */
  update(
    collection: string,
    id: Id,
    change: Doc | Operation[],
    options?: WriteOptions,
  ): Promise<Written> {
    return this.#write("update", { collection, id, ...changeFields(change) }, options);
  }

  updateMany(
    collection: string,
    query: Doc,
    change: Doc | Operation[],
    options?: WriteOptions,
  ): Promise<Counted> {
    return this.#write("update", { collection, query, ...changeFields(change) }, options);
  }

  remove(collection: string, id: Id, options?: WriteOptions): Promise<Counted> {
    return this.#write("remove", { collection, id }, options);
  }

  removeMany(collection: string, query: Doc, options?: WriteOptions): Promise<Counted> {
    return this.#write("remove", { collection, query }, options);
  }

  async #write<Answer>(
    action: string,
    fields: { [name: string]: unknown },
    options: WriteOptions = {},
  ): Promise<Answer> {
    const { if_version, dispatch, opid = newOpid() } = options;
    const { last } = await this.#requests.run(
      action,
      {
        ...fields,
        opid,
        ...(if_version !== undefined && { if_version }),
        ...(dispatch !== undefined && { dispatch }),
      },
      options,
    );
    return last as Answer;
  }
}

function docOf(frame: Frame): Doc {
  return frame["doc"] as Doc;
}

function changeFields(change: Doc | Operation[]): { [name: string]: unknown } {
  return Array.isArray(change) ? { operations: change } : { fields: change };
}

function findFields(
  collection: string,
  query: Doc,
  { fields, sort, limit, skip }: FindOptions,
): { [name: string]: unknown } {
  return {
    collection,
    query,
    ...(fields && { fields }),
    ...(sort && { sort }),
    ...(limit !== undefined && { limit }),
    ...(skip !== undefined && { skip }),
  };
}

/** 128 random bits as text. */
export function newOpid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
