/* index.ts - a realtime database: local first, on IndexedDB, the same in every tab and on every client.
 *
 *   const server = new RealtimeDb("ws://localhost:8090"); // or with { schemas: [schema] }
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
  /** Absent: the server is asked for a database's schema when it is opened for the first time; later
   * the one it was opened with serves offline too. */
  schemas?: Schema[];
  /** Names the local copies; the server's address by default. Where several people use one browser,
   * name the person in it: each then has a copy of their own. */
  name?: string;
}

const SCHEMA_MS = 3000; // then the schema of the last time serves

export interface RealtimeEvents {
  state: State;
  /** This tab owns the socket from now on (true), or no longer. */
  leader: boolean;
  /** The server does not let us in, or there is no token; told in the tab that leads, which goes on
   * trying. */
  error: TidewireError;
}

export class RealtimeDb extends Emitter<RealtimeEvents> {
  readonly #url: string;
  readonly #options: RealtimeOptions;
  readonly #name: string;
  readonly #databases = new Map<string, Promise<Database>>();
  readonly #opened = new Set<Database>();
  readonly #stop: () => void;
  readonly #channel: BroadcastChannel | undefined;
  #tide: Connection | undefined;
  #told: State = "offline"; // by the tab that leads

  constructor(url: string, options: RealtimeOptions = {}) {
    super();
    this.#url = url;
    this.#options = options;
    this.#name = options.name ?? url;
    void globalThis.navigator?.storage?.persist?.().catch(() => {});
    if (typeof BroadcastChannel === "function") {
      this.#channel = new BroadcastChannel(`tidewire:${this.#name}`);
      (this.#channel as { unref?: () => void }).unref?.();
      this.#channel.onmessage = ({ data }) => this.#hear(data as State | "tell");
      this.#channel.postMessage("tell");
    }
    this.#stop = elect(`tidewire:${this.#name}`, () => this.#lead());
  }

  /** Of the one connection, in tabs that follow too: the leader tells them. */
  get state(): State {
    return this.#tide?.state ?? this.#told;
  }

  get isLeader(): boolean {
    return this.#tide !== undefined;
  }

  /** The local copy of a database, opened once. */
  open(name: string): Promise<Database> {
    let opening = this.#databases.get(name);
    if (opening === undefined) {
      this.#databases.set(name, (opening = this.#open(name)));
      opening.catch(() => this.#databases.delete(name)); // may be tried again
    }
    return opening;
  }

  /** A database that was opened before. */
  getDb(name: string): Database {
    for (const database of this.#opened) if (database.schema.name === name) return database;
    throw new TidewireError("not_open", `${name} is not open`, `await open("${name}") first`);
  }

  close(): void {
    this.#stop();
    this.#channel?.close();
    for (const database of this.#opened) database.close();
    this.#opened.clear();
    this.forget();
  }

  #lead(): () => void {
    const tide = connect(this.#url, this.#options);
    this.#tide = tide;
    tide.on("state", (state) => {
      this.emit("state", state);
      this.#channel?.postMessage(state);
    });
    tide.on("error", (error) => this.emit("error", error));
    for (const database of this.#opened) void database.lead(tide);
    this.emit("leader", true);
    return () => {
      this.#tide = undefined;
      for (const database of this.#opened) database.follow();
      tide.close();
      this.emit("leader", false);
    };
  }

  #hear(note: State | "tell"): void {
    if (note === "tell") {
      if (this.#tide !== undefined) this.#channel?.postMessage(this.#tide.state);
    } else if (this.#tide === undefined && note !== this.#told) {
      this.#told = note === "closed" ? "offline" : note; // of that tab alone
      this.emit("state", this.#told);
    }
  }

  /** The app's own, else the server's, else (nobody answers) the one of the last time. */
  async #schema(name: string, copyName: string): Promise<Schema> {
    const { schemas } = this.#options;
    const own = schemas?.find((each) => each.name === name);
    if (own !== undefined) return own;
    if (schemas !== undefined) {
      throw new TidewireError("unknown_database", `no schema named ${name}`);
    }
    const { schema: kept, waiting } = await Copy.glance(copyName);
    if (kept !== undefined && waiting > 0) return kept; // they are sent first
    const tide = this.#tide ?? connect(this.#url, this.#options);
    try {
      const wait = kept === undefined ? {} : { timeoutMs: SCHEMA_MS };
      const { last } = await tide.request("schema", {}, { ...wait, database: name });
      const { version, collections } = last as unknown as Schema;
      return { name, version, collections };
    } catch (error) {
      if (kept === undefined) throw error;
      return kept;
    } finally {
      if (tide !== this.#tide) tide.close();
    }
  }

  async #open(name: string): Promise<Database> {
    const copyName = `${this.#name}/${name}`;
    const schema = await this.#schema(name, copyName);
    let database: Database | undefined;
    const reopen = () => openCopy(copyName, schema, () => database?.lost());
    database = new Database(schema, await reopen(), reopen, `tidewire:${copyName}`);
    this.#opened.add(database);
    if (this.#tide !== undefined) await database.lead(this.#tide);
    return database;
  }
}

/** The local copy, made for this schema. */
async function openCopy(name: string, schema: Schema, onGone: () => void): Promise<Copy> {
  const copy = await Copy.open(name, onGone);
  if (await copy.adopt(schema)) return copy;
  const waiting = (await copy.entries()).length;
  copy.close();
  throw new TidewireError(
    "schema_changed",
    `the schema has version ${schema.version} now, and ${waiting} writes wait`,
    "open with the old schema until they are sent, or export and discard them",
  );
}
