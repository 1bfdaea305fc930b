/* index.ts - a realtime database: local first, on IndexedDB, the same in every tab and on every client.
 *
 *   const server = new RealtimeDb("ws://localhost:8090", { schemas: [schema] });
 *   const crm = await server.open("crm");
 *   await crm.put("person", { name: "Rodrigo Portela", title: "Juggernaut" }); */
import { connect, type Connection, type ConnectOptions } from "../connection.js";
import { Emitter } from "../emitter.js";
import { TidewireError } from "../errors.js";
import type { State } from "../socket.js";
import { Copy, type Schema } from "./copy.js";
import { Database } from "./database.js";
import { elect } from "./leader.js";

export { Database } from "./database.js";
export type { DatabaseEvents, PutOptions } from "./database.js";
export { LiveQuery } from "./query.js";
export type { Filter, QueryOptions } from "./query.js";
export type { Conflict, Entry, LocalAction, Schema } from "./copy.js";

export interface RealtimeOptions extends ConnectOptions {
  schemas: Schema[];
  /** Names the local copies; the server's address by default. */
  name?: string;
}

export interface RealtimeEvents {
  state: State;
  /** This tab owns the socket from now on (true), or no longer. */
  leader: boolean;
}

export class RealtimeDb extends Emitter<RealtimeEvents> {
  readonly #url: string;
  readonly #options: RealtimeOptions;
  readonly #name: string;
  readonly #databases = new Map<string, Promise<Database>>();
  readonly #opened = new Set<Database>();
  readonly #stop: () => void;
  #tide: Connection | undefined;

  constructor(url: string, options: RealtimeOptions) {
    super();
    this.#url = url;
    this.#options = options;
    this.#name = options.name ?? url;
    void globalThis.navigator?.storage?.persist?.().catch(() => {});
    this.#stop = elect(`tidewire:${this.#name}`, () => this.#lead());
  }

  /** "offline" in tabs that follow: ask the leader's. */
  get state(): State {
    return this.#tide?.state ?? "offline";
  }

  get isLeader(): boolean {
    return this.#tide !== undefined;
  }

  /** The local copy of a database, opened once. */
  open(name: string): Promise<Database> {
    let opening = this.#databases.get(name);
    if (opening === undefined) this.#databases.set(name, (opening = this.#open(name)));
    return opening;
  }

  close(): void {
    this.#stop();
    for (const database of this.#opened) database.close();
    this.#opened.clear();
    this.forget();
  }

  #lead(): () => void {
    const tide = connect(this.#url, this.#options);
    this.#tide = tide;
    tide.on("state", (state) => this.emit("state", state));
    for (const database of this.#opened) void database.lead(tide);
    this.emit("leader", true);
    return () => {
      this.#tide = undefined;
      for (const database of this.#opened) database.follow();
      tide.close();
      this.emit("leader", false);
    };
  }

  async #open(name: string): Promise<Database> {
    const schema = this.#options.schemas.find((each) => each.name === name);
    if (schema === undefined) throw new TidewireError("unknown_database", `no schema named ${name}`);
    const gone = () => void this.#reopen(name);
    const copyName = `${this.#name}/${name}`;
    const copy = await Copy.open(copyName, gone);
    if (!(await copy.adopt(schema))) {
      const waiting = (await copy.entries()).length;
      copy.close();
      throw new TidewireError(
        "schema_changed",
        `the schema has version ${schema.version} now, and ${waiting} writes wait`,
        "open with the old schema until they are sent, or export and discard them",
      );
    }
    const database = new Database(schema, copy, `tidewire:${copyName}`);
    this.#opened.add(database);
    if (this.#tide !== undefined) await database.lead(this.#tide);
    return database;
  }

  /** The browser took the copy away: the next `open` makes it anew from the server. */
  async #reopen(name: string): Promise<void> {
    const old = await this.#databases.get(name);
    this.#databases.delete(name);
    if (old === undefined) return;
    this.#opened.delete(old);
    old.close();
  }
}
