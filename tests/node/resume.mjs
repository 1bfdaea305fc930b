// A client by npm `ws`: the report protocol and getByIds verbatim, a break, a resume.
//   node resume.mjs WS_URL      exits 0 and prints `good` when every answer is as described
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.TIDEWIRE_NODE_MODULES + "/x.js");
const WebSocket = require("ws");
const url = process.argv[2];

function open(path) {
  const ws = new WebSocket(url + path);
  const frames = [];
  let wake = () => {};
  ws.on("message", (data) => (frames.push(JSON.parse(data)), wake()));
  const next = async () => {
    while (frames.length === 0) await new Promise((done) => (wake = done));
    return frames.shift();
  };
  const until = async (type) => {
    const all = [];
    do all.push(await next());
    while (all.at(-1).type !== type && all.at(-1).action !== type);
    return all;
  };
  const ready = new Promise((done, fail) => ws.on("open", done).on("error", fail));
  return { ready, next, until, send: (m) => ws.send(typeof m === "string" ? m : JSON.stringify(m)), end: () => ws.terminate() };
}

const db = open("/db");
await db.ready;
db.send({ action: "put", reqID: 1, collection: "properties", doc: { _id: "id1", text: "é😀" } });
const [put] = await db.until("put");
db.send('{\n  "action": "getByIds",\n  "reqID": "abcd",\n  "collection": "properties",\n  "ids": ["id1", "id2"]\n}');
const got = await db.until("done");
assert.equal(got[0].doc.text, "é😀");
assert.deepEqual(got.map((r) => r.reqID), ["abcd", "abcd"]);
assert.deepEqual(got[1].missing, ["id2"]);

const first = open("/ws");
await first.ready;
first.send({ type: "subscribe", mux_id: "one", syncid: "s", properties: "*" });
const frames = await first.until("sync");
assert.deepEqual(frames.map((f) => f.type), ["record", "sync"]);
assert.deepEqual(frames[1].since, put.since);
first.end();

db.send({ action: "put", reqID: 2, collection: "properties", doc: { _id: "id3" } });
await db.until("put");
const second = open("/ws");
await second.ready;
second.send({ type: "subscribe", mux_id: 7, since: frames[1].since, properties: "*" });
const missed = await second.until("sync");
assert.deepEqual(missed.map((f) => f.key), ["id3", undefined]);
second.send({ type: "close", mux_id: 7 });
assert.equal((await second.next()).type, "closed");
second.end();
db.end();
console.log("good");
