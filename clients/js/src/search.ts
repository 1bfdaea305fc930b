/* search.ts - searching, and the functions of the datastore, as methods. Queries are text in Lucene's
 * syntax or a query object; an index is a collection. What changes records reaches their streams. */
import { newOpid, type Operation, type RequestOptions, type Requests } from "./requests.js";
import type { Doc, Frame, Id, Json, Since } from "./wire.js";

export type SearchQuery = string | Doc;

export interface SearchOptions extends RequestOptions {
  /** Each narrows what the query finds. */
  filters?: SearchQuery | SearchQuery[];
  /** Answer only when the index has this write's `since`: a read of one's own write. */
  min_since?: Since;
  /** Milliseconds that the server may take. */
  deadline_ms?: number;
}
export interface PageOptions extends SearchOptions {
  rows?: number;
  offset?: number;
  /** As in `"year desc, title"`. */
  sort?: string;
  fields?: string[];
}
export interface Page {
  items: Doc[];
  total: number;
  offset: number;
  rows: number;
  /** The position that the answer reflects. */
  as_of: Since;
}
export interface Changed {
  count: number;
  since: Since;
  task?: string;
}
export type BulkOperation =
  | [what: "insert" | "upsert" | "update", id: Id, doc: Doc]
  | [what: "delete", id: Id];

/** Fields that belong to the request itself; all others go to the server. */
type Fields = { [name: string]: unknown };

export class Search {
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** One page of the documents that a query finds. */
  async search(index: string, query: SearchQuery, options: PageOptions = {}): Promise<Page> {
    return (await this.#last("search", { index, query }, options)) as unknown as Page;
  }

  /** A whole body of the engine's search; `index` may be left out: all that may be read. */
  async body(body: Doc, index?: string, options: SearchOptions = {}): Promise<Doc> {
    const frame = await this.#last("search", { body, ...(index !== undefined && { index }) }, options);
    return frame["result"] as Doc;
  }

  /** All documents that a query finds, however many. */
  async streamSearch(index: string, query: SearchQuery, options: PageOptions = {}): Promise<Doc[]> {
    const { parts } = await this.#run("stream_search", { index, query }, options);
    return parts.map((part) => part["doc"] as Doc);
  }

  /** The ids of all documents. */
  async keys(index: string, options: SearchOptions = {}): Promise<Json[]> {
    const { parts } = await this.#run("keys", { index }, options);
    return parts.map((part) => part["key"] as Json);
  }

  /** A document and its version; looked for twice more where it is missing. */
  get(index: string, id: Id, options?: SearchOptions): Promise<{ doc: Doc; version: Json }> {
    return this.#last("get", { index, id }, options) as never;
  }

  getIfExists(index: string, id: Id, options?: SearchOptions): Promise<{ doc: Doc; version: Json }> {
    return this.#last("get_if_exists", { index, id }, options) as never;
  }

  /** Waits until the document is there, or `deadline_ms` has passed. */
  require(index: string, id: Id, options?: SearchOptions): Promise<{ doc: Doc; version: Json }> {
    return this.#last("require", { index, id }, { timeoutMs: 65_000, ...options }) as never;
  }

  async exists(index: string, id: Id, options?: SearchOptions): Promise<boolean> {
    return (await this.#last("exists", { index, id }, options))["value"] === true;
  }

  multiget(
    index: string,
    ids: Id[],
    options?: SearchOptions,
  ): Promise<{ docs: { [id: string]: Doc }; missing: Json[] }> {
    return this.#last("multiget", { index, ids }, options) as never;
  }

  /** `version`: only where it is this one; 0: only where nothing is. Else: `conflict`. */
  save(
    index: string,
    id: Id,
    doc: Doc,
    options: SearchOptions & { version?: Json } = {},
  ): Promise<{ version: Json; since: Since }> {
    return this.#last("save", { index, id, doc, opid: newOpid() }, options) as never;
  }

  update(
    index: string,
    id: Id,
    operations: Operation[],
    options: SearchOptions & { version?: Json } = {},
  ): Promise<{ version: Json; since: Since }> {
    return this.#last("update", { index, id, operations, opid: newOpid() }, options) as never;
  }

  delete(index: string, id: Id, options?: SearchOptions): Promise<Changed> {
    return this.#last("delete", { index, id, opid: newOpid() }, options) as never;
  }

  /** Each operation has its result, whatever becomes of the others. */
  async bulk(
    index: string,
    plan: BulkOperation[],
    options?: SearchOptions,
  ): Promise<{ items: Doc[]; errors: boolean }> {
    return this.#last("bulk", { index, bulk_plan: plan, opid: newOpid() }, options) as never;
  }

  updateByQuery(
    index: string,
    query: SearchQuery,
    operations: Operation[],
    options?: SearchOptions,
  ): Promise<Changed> {
    return this.#last("update_by_query", { index, query, operations }, options) as never;
  }

  deleteByQuery(index: string, query: SearchQuery, options?: SearchOptions): Promise<Changed> {
    return this.#last("delete_by_query", { index, query }, options) as never;
  }

  /** Moves what a query finds into the collection's archive. */
  archive(index: string, query: SearchQuery, options?: SearchOptions): Promise<Changed> {
    return this.#last("archive", { index, query }, options) as never;
  }

  /** How many documents each value of a field has: the most frequent ones. */
  async facet(
    index: string,
    field: string,
    options?: SearchOptions & { query?: SearchQuery; rows?: number; mincount?: number },
  ): Promise<{ [value: string]: number }> {
    return (await this.#last("facet", { index, field }, options))["counts"] as never;
  }

  stats(
    index: string,
    field: string,
    options?: SearchOptions & { query?: SearchQuery },
  ): Promise<{ min: number; max: number; avg: number; count: number; sum: number }> {
    return this.#last("stats", { index, field }, options) as never;
  }

  /** How many documents lie in each gap from start to end, of numbers or dates. */
  async histogram(
    index: string,
    field: string,
    range: { start: Json; end: Json; gap: Json },
    options?: SearchOptions & { query?: SearchQuery; mincount?: number },
  ): Promise<{ [start: string]: number }> {
    return (await this.#last("histogram", { index, field, ...range }, options))["counts"] as never;
  }

  groupedSearch(
    index: string,
    group_field: string,
    query: SearchQuery,
    options?: PageOptions & { limit?: number },
  ): Promise<{ groups: { value: Json; total: number; items: Doc[] }[]; total: number }> {
    return this.#last("grouped_search", { index, group_field, query }, options) as never;
  }

  async fields(index: string, options?: SearchOptions): Promise<{ [name: string]: Doc }> {
    return (await this.#last("fields", { index }, options))["fields"] as never;
  }

  /** Any other function by its name: `commit`, `reindex`, `wipe`, `fix_ilm`, … */
  call(name: string, index: string, fields: Fields = {}, options?: SearchOptions): Promise<Frame> {
    return this.#last(name, { index, ...fields }, options);
  }

  async #last(action: string, fields: Fields, options?: SearchOptions): Promise<Frame> {
    return (await this.#run(action, fields, options)).last;
  }

  #run(action: string, fields: Fields, options: SearchOptions = {}) {
    const { timeoutMs, signal, database, ...asked } = options;
    const rest: RequestOptions = {
      ...(timeoutMs !== undefined && { timeoutMs }),
      ...(signal !== undefined && { signal }),
      ...(database !== undefined && { database }),
    };
    return this.#requests.run(action, { ...fields, ...asked }, rest);
  }
}
