// What a copy lacks, against the real server: everything is found, little travels.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { markOf } from "../dist/sync.js";
import { open, Proxy, Server } from "./harness.mjs";

let server, proxy, tide;
before(async () => {
  server = await new Server().start();
  proxy = await new Proxy().start(server.port);
  tide = open(proxy.url);
});
after(async () => {
  tide.close();
  await proxy.close();
  await server.close();
});

test("places and marks are those of every client", () => {
  const { marks } = JSON.parse(readFileSync(new URL("../../../tests/vectors/sync_marks.json", import.meta.url)));
  assert.ok(marks.length > 0);
  const hex = (half) => half.toString(16).padStart(8, "0");
  for (const { key, version, place, mark } of marks) {
    const made = markOf([key, version]);
    assert.deepEqual([hex(made.place), hex(made.high) + hex(made.low)], [place, mark], JSON.stringify(key));
  }
});

/** What a copy has after a sync. */
function applied(held, { verdicts }) {
  const copy = new Map(held.map(([key, version]) => [key, version]));
  for (const { op, key, version } of verdicts) op === "remove" ? copy.delete(key) : copy.set(key, version);
  return copy;
}

test("a small copy is listed: inserts, updates, removes, and nothing of what is equal", async () => {
  for (let n = 0; n < 5; n++) await tide.db.put("small", { _id: n, n });
  await tide.db.put("small", { _id: 1, n: "new" });
  const held = [[0, 1], [1, 1], [2, null], ["gone", 3]];
  const told = await tide.sync({ small: held, nothing: [] });
  assert.deepEqual(told.verdicts.map(({ op, key }) => `${op} ${key}`).sort(), ["insert 3", "insert 4", "remove gone", "update 1", "update 2"]);
  assert.equal(told.same, 1);
  assert.deepEqual(told.verdicts.find(({ key }) => key === 1).doc.n, "new");
  const stream = tide.subscribe({ small: "*", nothing: "*" }, { since: told.since, query: told.query });
  const events = [];
  stream.on("event", (event) => events.push(event.kind));
  await stream.synced;
  assert.deepEqual(events, ["sync"], "a stream goes on from there, without a gap or a reset");
  stream.close();
});

test("a big copy is summed: a thousandth differs, a fiftieth travels; also across a break", async () => {
  const total = 5000;
  for (let n = 0; n < total; n += 100) {
    const ops = Array.from({ length: 100 }, (_, i) => ({ op: "put", collection: "big", doc: { _id: `key ${n + i}`, text: "x".repeat(200) } }));
    await tide.request("batch", { ops });
  }
  proxy.bytes = 0;
  const whole = await tide.sync({ big: [] });
  const all = proxy.bytes;
  assert.equal(whole.verdicts.length, total);
  const held = whole.verdicts.map(({ key, version }) => [key, version]);
  for (const n of [7, 2500, 4999]) await tide.db.put("big", { _id: `key ${n}`, text: "new" });
  await tide.db.remove("big", "key 1");
  await tide.db.put("big", { _id: "key new" });
  proxy.bytes = 0;
  const told = await tide.sync({ big: held });
  console.log(`# ${proxy.bytes} bytes both ways of ${all} for all`);
  assert.ok(proxy.bytes < all / 50, `${proxy.bytes} bytes of ${all}`);
  assert.equal(told.verdicts.length, 5);
  const truth = new Map((await tide.sync({ big: [] })).verdicts.map(({ key, version }) => [key, version]));
  assert.deepEqual([...applied(held, told)].sort(), [...truth].sort());

  const frames = [];
  const stop = tide.on("frame", ({ sent, frame }) => {
    if (frame.op !== "turn" || sent || frames.push(frame) > 1) return;
    proxy.cut(); // in the middle of the talk
  });
  const again = await tide.sync({ big: held });
  stop();
  assert.ok(frames.length > 1, "it began anew");
  assert.equal(again.verdicts.length, 5);
});

test("bad input ends the sync alone, with a code", async () => {
  await assert.rejects(tide.sync({}), { code: "bad_message" });
  await assert.rejects(tide.sync({ small: [["a", "one"]] }), { code: "bad_message" });
  assert.deepEqual((await tide.sync({ never: [["a", 1]] })).verdicts.map(({ op, key }) => [op, key]), [["remove", "a"]]);
});
