/* wire.ts - what travels: the frames of Tidewire's protocol, as types, and positions.
 *
 * A position is (srv_id, seqno); what a client knows is a vector of them, the highest seqno of each
 * origin. Positions fit a JavaScript number: a seqno is below 2^53. */

/** `[[srv_id, seqno], …]`: the highest position that is known of each origin. */
export type Since = [srv_id: number, seqno: number][];

/** Any JSON value; ObjectIds and dates come in MongoDB's relaxed Extended JSON. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Doc = { [name: string]: Json };
/** An id as it is written: `{"$oid": "…"}`, its 24 hex digits, or any scalar. */
export type Id = Json;

/** A frame as it came, of any family. */
export interface Frame {
  type?: string;
  action?: string;
  event?: string;
  op?: string;
  mux_id?: number;
  reqID?: number;
  [name: string]: unknown;
}

/** What a stream asks of one collection. */
export type Spec = "*" | { filter?: Doc; fields?: string[]; db?: string };

/** A `subscribe`: `project_id`, and each other name a collection. */
export interface Query {
  project_id?: Json;
  archived?: "include";
  collections?: { [name: string]: Spec };
  [collection: string]: Json | Spec | { [name: string]: Spec } | undefined;
}

/** Raises a vector by one position. */
export function raise(known: Map<number, number>, srv_id: number, seqno: number): void {
  if (seqno > (known.get(srv_id) ?? 0)) known.set(srv_id, seqno);
}

/** A vector as the protocol writes it. */
export function sinceOf(known: ReadonlyMap<number, number>): Since {
  return [...known];
}

/** True when `known` covers every position of `wanted`: a stream there has shown the write. */
export function covers(known: Since, wanted: Since): boolean {
  const at = new Map(known);
  return wanted.every(([srv_id, seqno]) => (at.get(srv_id) ?? 0) >= seqno);
}

const LIKE_JSON = /^(?:-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[{["].*)$/s;

/** A key as text, equal for equal keys alone: a text that reads like another key (10, true) is quoted. */
export function keyText(key: Json): string {
  return typeof key === "string" && !LIKE_JSON.test(key) ? key : JSON.stringify(key);
}
