// Places and marks of sync in JavaScript, held against tests/vectors/sync_marks.json.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const utf8 = new TextEncoder();

function mix(h) {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

// FNV-1a of 64 bits as two halves.
function fnv(text, [hi, lo] = [0xcbf29ce4, 0x84222325]) {
  for (const byte of utf8.encode(text)) {
    lo = (lo ^ byte) >>> 0;
    const low = lo * 0x1b3;
    hi = (Math.imul(hi, 0x1b3) + Math.floor(low / 2 ** 32) + (lo << 8)) >>> 0;
    lo = low >>> 0;
  }
  return [hi, lo];
}

function textOf(key) {
  if (typeof key === "string") return "s" + key;
  if (Number.isInteger(key)) return "i" + key;
  if (key.$oid !== undefined) return "o" + key.$oid;
  return "j" + JSON.stringify(key);
}

export function place(key) {
  const [hi, lo] = fnv(textOf(key));
  return mix(lo ^ mix(hi));
}

export function mark(key, version) {
  const [hi, lo] = fnv("\0" + version, fnv(textOf(key)));
  const low = mix(lo ^ mix(hi));
  return [mix((hi + low) >>> 0), low];
}

const digits = (...halves) => halves.map((h) => h.toString(16).padStart(8, "0")).join("");

const path = fileURLToPath(new URL("../vectors/sync_marks.json", import.meta.url));
const { marks, sum } = JSON.parse(readFileSync(path, "utf8"));
let [high, low] = [0, 0];
for (const row of marks) {
  const [h, l] = mark(row.key, row.version);
  if (digits(place(row.key)) !== row.place || digits(h, l) !== row.mark) {
    throw new Error(`${row.text}: ${digits(place(row.key))} ${digits(h, l)}`);
  }
  high = (high + h) >>> 0;
  low = (low + l) >>> 0;
}
if (digits(high, low) !== sum) throw new Error("the sum differs");
console.log("good");
