// Streams against the real server: each change once and in order, whatever breaks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { covers, LiveSet, TidewireError } from "../dist/index.js";
import { open, Proxy, Server, until } from "./harness.mjs";

let server, writer;
before(async () => {
  server = await new Server().start();
  writer = open(server.url);
});
after(async () => {
  writer.close();
  await server.close();
});

/** Collects what a stream tells of records, and checks that positions rise. */
function record(stream) {
  const seen = { events: [], resets: 0, bySeqno: new Map() };
  let last = 0;
  stream.on("event", (event) => {
    if (event.kind === "reset") {
      seen.resets++;
      last = 0;
    } else if (event.kind !== "sync") {
      assert.ok(event.seqno > last, `position ${event.seqno} after ${last}`);
      assert.ok(!seen.bySeqno.has(event.seqno), `position ${event.seqno} twice`);
      last = event.seqno;
      seen.bySeqno.set(event.seqno, event);
      seen.events.push(event);
    }
  });
  return seen;
}

test("a stream tells what is stored, then every change", async () => {
  await writer.db.put("a", { _id: 1, x: 1 });
  const stream = writer.subscribe({ a: "*" });
  const seen = record(stream);
  await stream.synced;
  assert.deepEqual(seen.events.map((e) => [e.kind, e.key, e.doc.x]), [["put", 1, 1]]);
  const { since } = await writer.db.update("a", 1, [["INC", "x", 5]]);
  await until(() => covers(stream.since, since), "the write's own fence");
  await writer.db.remove("a", 1);
  await until(() => seen.events.length === 3, "the removal");
  assert.deepEqual(seen.events.slice(1).map((e) => [e.kind, e.doc?.x, e.why]), [
    ["put", 6, undefined],
    ["remove", undefined, "deleted"],
  ]);
  stream.close();
});

test("filters: entering, leaving, fields", async () => {
  const stream = writer.subscribe({ b: { filter: { age: { $gte: 18 } }, fields: ["name"] } });
  const seen = record(stream);
  await stream.synced;
  await writer.db.put("b", { _id: "ada", name: "Ada", age: 17 });
  await writer.db.update("b", "ada", { age: 18 });
  await writer.db.update("b", "ada", { age: 3 });
  await until(() => seen.events.length === 2, "two events");
  assert.deepEqual(seen.events[0].doc, { _id: "ada", name: "Ada" });
  assert.equal(seen.events[1].why, "left");
  stream.close();
});

test("iteration ends with the loop, and the stream with it", async () => {
  await writer.db.put("c", { _id: 1 });
  const stream = writer.subscribe({ c: "*" });
  for await (const event of stream) {
    if (event.kind === "sync") break;
    assert.equal(event.kind, "put");
  }
  assert.equal(stream.isEnded, true);
  assert.equal(writer.figures.streams, 0);
});

test("a refused query rejects, with code and hint", async () => {
  const stream = writer.subscribe({ a: { filter: { x: { $where: 1 } } } });
  await assert.rejects(stream.synced, (e) => e instanceof TidewireError && e.code === "bad_filter");
  await assert.rejects(async () => {
    for await (const _ of stream);
  });
});

test("a slow iterator pauses its stream and loses nothing", async () => {
  const stream = writer.subscribe({ slow: "*" }, { bufferMax: 20 });
  const iterator = stream[Symbol.asyncIterator]();
  const seen = new Map();
  const take = async () => {
    const { value } = await iterator.next();
    if (value.kind === "put") seen.set(value.key, value.doc.n);
  };
  await take(); // the sync
  for (let n = 0; n < 300; n++) await writer.db.put("slow", { _id: n % 50, n });
  await until(async () => (await take(), seen.size === 50 && seen.get(49) === 299), "the newest");
  for (let key = 0; key < 50; key++) assert.equal(seen.get(key), 250 + key);
  stream.close();
});

test("cut connections: each change once, in order, no reset", async () => {
  const proxy = await new Proxy().start(server.port);
  const reader = open(proxy.url);
  const stream = reader.subscribe({ cut: "*" });
  const seen = record(stream);
  await stream.synced;
  const acknowledged = [];
  for (let n = 0; n < 400; n++) {
    const { since } = await writer.db.put("cut", { _id: n, n });
    acknowledged.push(since[0][1]);
    if (n % 25 === 24) {
      const told = seen.events.length;
      proxy.cut();
      if (n % 50 === 49) await until(() => seen.events.length > told, "events after a cut");
    }
  }
  await until(() => seen.events.length >= 400, "all events");
  assert.deepEqual([...seen.bySeqno.keys()], acknowledged);
  assert.equal(seen.resets, 0);
  reader.close();
  await proxy.close();
});

test("a frozen connection is noticed and replaced", async () => {
  const proxy = await new Proxy().start(server.port);
  const reader = open(proxy.url, { heartbeatMs: 1000 });
  const states = [];
  reader.on("state", (state) => states.push(state));
  const stream = reader.subscribe({ frozen: "*" });
  const seen = record(stream);
  await stream.synced;
  proxy.isFrozen = true;
  await writer.db.put("frozen", { _id: 1 });
  await until(() => states.includes("offline"), "offline");
  proxy.isFrozen = false;
  await until(() => seen.events.length === 1, "the change behind the freeze");
  assert.ok(states.includes("stale"));
  reader.close();
  assert.equal(reader.state, "closed");
  await proxy.close();
});

test("the server killed: streams resume, writes are applied once", async () => {
  const own = await new Server().start();
  const both = open(own.url);
  const stream = both.subscribe({ k: "*" });
  const set = new LiveSet(stream);
  const seen = record(stream);
  await stream.synced;
  const writes = [];
  for (let round = 0; round < 5; round++) {
    for (let n = 0; n < 40; n++) writes.push(both.db.update("k", 1, [["INC", "n", 1]]).catch((e) => e));
    if (round === 0) await both.db.put("k", { _id: 1, n: 0 });
    await Promise.race(writes.slice(-40));
    await own.kill();
    await own.start();
  }
  const results = await Promise.all(writes);
  const done = results.filter((r) => !(r instanceof Error) && r.version !== undefined);
  await until(() => set.get("k", 1)?.n === done.length, `the sum of ${done.length} increments`);
  assert.equal((await both.db.get("k", 1)).n, done.length);
  assert.equal(seen.resets, 0);
  set.close();
  both.close();
  await own.close();
});

test("a live set is the query's result, with stable snapshots", async () => {
  for (let n = 0; n < 10; n++) await writer.db.put("set", { _id: n });
  const set = new LiveSet(writer.subscribe({ set: "*" }));
  let calls = 0;
  set.subscribe(() => calls++);
  await until(() => set.isSynced, "synced");
  const first = set.records;
  assert.equal(first, set.records);
  assert.equal(first.length, 10);
  await writer.db.remove("set", 3);
  await until(() => set.size === 9, "the removal");
  assert.notEqual(set.records, first);
  assert.equal(first.length, 10);
  assert.equal(set.get("set", 3), undefined);
  await until(() => calls > 0, "a call");
  set.close();
});

test("the change stream tells own writes with their origin", async () => {
  const changes = writer.changes();
  const seen = [];
  changes.on("change", (change) => seen.push(change));
  await changes.synced;
  await writer.db.put("ch", { _id: 1, x: 1 });
  await writer.db.update("ch", 1, { x: 2 });
  await until(() => seen.length === 2, "two changes");
  assert.deepEqual(seen.map((c) => c.op), ["insert", "update"]);
  assert.deepEqual(seen[1].updateDescription.updatedFields.x, 2);
  const next = writer.changes({ collections: ["ch"] });
  await next.synced;
  await until(() => changes.isEnded, "the one before has ended");
  next.close();
});
