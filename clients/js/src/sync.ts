/* sync.ts - what a copy lacks: keys and versions against what is stored, by the sums of ranges of keys
 * where the copy is big, so that what is equal does not travel (docs/PROTOCOL.md, "Sync"). */
import type { Requests, RequestOptions } from "./requests.js";
import type { Doc, Frame, Json, Since } from "./wire.js";

/** The records of a copy, by collection: keys, and versions where they are known. */
export interface Held {
  [collection: string]: readonly (readonly [key: Json, version: number | null])[];
}
/** What makes a copy the query's result. */
export interface Verdict {
  op: "insert" | "update" | "remove";
  collection: string;
  key: Json;
  /** Absent in a `remove`, as the rest. */
  version?: number;
  srv_id?: number;
  seqno?: number;
  doc?: Doc;
}
export interface Synced {
  verdicts: Verdict[];
  /** All of it is the state at this position: subscribe from here. */
  since: Since;
  query: string | undefined;
  /** Records that were equal, and did not travel. */
  same: number;
}
export interface SyncOptions extends RequestOptions {
  /** Narrows the query, as in `subscribe`. */
  collections?: { [name: string]: { filter?: Doc; fields?: string[] } };
}

const LISTED_MAX = 200; // records of a collection: a list of them is no longer than the sums
const BITS = 8; // of the first ranges
const MESSAGE_CHARS = 16_000; // a third of what the server takes: an id has 3 bytes a character at worst

type Half = number; // 32 bits
type Fields = { [name: string]: unknown };

interface Mark {
  place: Half;
  high: Half;
  low: Half;
  pair: readonly [Json, number | null];
}

const utf8 = new TextEncoder();

function mix(h: Half): Half {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** FNV-1a of 64 bits, as two halves. */
function fnv(text: string, [hi, lo]: readonly [Half, Half] = [0xcbf29ce4, 0x84222325]): [Half, Half] {
  for (const byte of utf8.encode(text)) {
    lo = (lo ^ byte) >>> 0;
    const low = lo * 0x1b3;
    hi = (Math.imul(hi, 0x1b3) + Math.floor(low / 2 ** 32) + (lo << 8)) >>> 0;
    lo = low >>> 0;
  }
  return [hi, lo];
}

function textOf(key: Json): string {
  if (typeof key === "string") return `s${key}`;
  if (Number.isInteger(key)) return `i${key}`;
  const oid = (key as { $oid?: string } | null)?.$oid;
  return oid !== undefined ? `o${oid}` : `j${JSON.stringify(key)}`;
}

/** The place of a key, and the mark of its version. */
export function markOf(pair: readonly [Json, number | null]): Mark {
  const start = fnv(textOf(pair[0]));
  const [hi, lo] = fnv(`\0${pair[1] ?? 0}`, start); // 0: no stored record has it
  const low = mix(lo ^ mix(hi));
  return { place: mix(start[1] ^ mix(start[0])), high: mix(hi + low), low, pair };
}

const hex = (half: Half) => half.toString(16).padStart(8, "0");
const rangeOf = (place: Half, bits: number) => place >>> (32 - bits);

/** The sums of these ranges, in their order. */
function sums(marks: readonly Mark[], bits: number, ranges: readonly number[]): string[] {
  const at = new Map(ranges.map((range) => [range, [0, 0] as [Half, Half]]));
  for (const { place, high, low } of marks) {
    const sum = at.get(rangeOf(place, bits));
    if (sum === undefined) continue;
    sum[0] = (sum[0] + high) >>> 0;
    sum[1] = (sum[1] + low) >>> 0;
  }
  return [...at.values()].map(([high, low]) => hex(high) + hex(low));
}

function* sumMessages(name: string, bits: number, all: readonly string[]): Generator<Fields> {
  const most = MESSAGE_CHARS / 16;
  for (let i = 0; i < all.length; i += most) {
    yield { ranges: { [name]: { bits, sums: all.slice(i, i + most).join("") } } };
  }
}

function* listMessages(name: string, marks: Iterable<Mark>): Generator<Fields> {
  let pairs: unknown[] = [];
  let size = 0;
  for (const { pair } of marks) {
    pairs.push(pair);
    size += JSON.stringify(pair).length;
    if (size < MESSAGE_CHARS) continue;
    yield { manifests: { [name]: pairs } };
    [pairs, size] = [[], 0];
  }
  yield { manifests: { [name]: pairs } };
}

/** What the server has asked for since the last turn. */
function* answers(marks: ReadonlyMap<string, Mark[]>, asked: readonly Frame[]): Generator<Fields> {
  for (const frame of asked) {
    const name = String(frame["collection"]);
    const all = marks.get(name) ?? [];
    const bits = Number(frame["bits"]);
    const ranges = frame["ranges"] as number[];
    if (frame.op === "list") {
      const wanted = new Set(ranges);
      yield* listMessages(name, all.filter(({ place }) => wanted.has(rangeOf(place, bits))));
    } else if (frame.op === "split") {
      const next = Number(frame["next_bits"]);
      const parts = 2 ** (next - bits);
      const finer = ranges.flatMap((range) => Array.from({ length: parts }, (_, i) => range * parts + i));
      yield* sumMessages(name, next, sums(all, next, finer));
    }
  }
}

/** `more` stands in every message but the last. */
function inTurn(messages: Iterable<Fields>, common: Fields): Fields[] {
  const all = [...messages];
  if (all.length === 0) all.push({});
  return all.map((each, i) => ({ ...common, ...each, ...(i < all.length - 1 && { more: true }) }));
}

/** Holds a copy against what is stored; see `Connection.sync`. */
export async function sync(requests: Requests, held: Held, options: SyncOptions): Promise<Synced> {
  const { collections, ...rest } = options;
  const marks = new Map(Object.entries(held).map(([name, pairs]) => [name, pairs.map(markOf)]));
  const first: Fields[] = [];
  for (const [name, all] of marks) {
    const every = Array.from({ length: 2 ** BITS }, (_, i) => i);
    first.push(
      ...(all.length <= LISTED_MAX ? listMessages(name, all) : sumMessages(name, BITS, sums(all, BITS, every))),
    );
  }
  const common: Fields = { ...(collections !== undefined && { collections }) };
  const { last, parts } = await requests.converse("sync", inTurn(first, common), rest, (asked) =>
    inTurn(answers(marks, asked), {}),
  );
  return {
    verdicts: parts as unknown as Verdict[],
    since: last["since"] as Since,
    query: last["query"] as string | undefined,
    same: Number(last["same"] ?? 0),
  };
}
