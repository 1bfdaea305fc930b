// Requests against the real server: every promise settles, a write has one effect.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, Server, until } from "./harness.mjs";

let server, tide;
before(async () => {
  server = await new Server().start();
  tide = open(server.url);
});
after(async () => {
  tide.close();
  await server.close();
});

test("insert, put, update, find, count, get, remove", async () => {
  const { key, version } = await tide.db.insert("people", { name: "Ada", age: 36 });
  assert.equal(version, 1);
  await assert.rejects(tide.db.insert("people", { _id: key }), { code: "conflict" });
  await tide.db.put("people", { _id: "grace", name: "Grace", age: 85 });
  const updated = await tide.db.update("people", key, { age: 37 }, { if_version: 1 });
  assert.equal(updated.version, 2);
  await assert.rejects(tide.db.update("people", key, { age: 1 }, { if_version: 1 }), (e) => {
    assert.equal(e.code, "conflict");
    assert.equal(e.frame.version, 2);
    return true;
  });
  const found = await tide.db.find("people", { age: { $gt: 1 } }, { sort: { age: -1 }, fields: ["name"] });
  assert.deepEqual(found.map((d) => d.name), ["Grace", "Ada"]);
  assert.equal((await tide.db.findOne("people", { name: "Ada" })).age, 37);
  assert.equal(await tide.db.count("people"), 2);
  assert.equal(await tide.db.getField("people", key, "age"), 37);
  const { docs, missing } = await tide.db.getByIds("people", ["grace", "nobody"]);
  assert.deepEqual([docs.length, missing], [1, ["nobody"]]);
  assert.equal(await tide.db.get("people", "nobody"), undefined);
  assert.equal((await tide.db.updateMany("people", { age: { $gt: 1 } }, [["INC", "age", 1]])).count, 2);
  assert.equal((await tide.db.remove("people", key)).count, 1);
  assert.equal((await tide.db.removeMany("people", {})).count, 1);
  assert.notEqual(await tide.db.getNewId("people"), null);
});

test("an opid has one effect", async () => {
  await tide.db.put("counters", { _id: 1, n: 0 });
  for (let i = 0; i < 3; i++) await tide.db.update("counters", 1, [["INC", "n", 1]], { opid: "same" });
  assert.equal((await tide.db.get("counters", 1)).n, 1);
});

test("errors: unknown action, bad message, timeout, abort, closed", async () => {
  await assert.rejects(tide.request("explode"), { code: "unknown" });
  await assert.rejects(tide.db.find("", {}), { name: "TidewireError" });
  const dead = open("ws://127.0.0.1:1");
  await assert.rejects(dead.db.count("x", {}, { timeoutMs: 30 }), { code: "timeout", retry: "backoff" });
  const stop = new AbortController();
  const aborted = dead.db.count("x", {}, { signal: stop.signal });
  stop.abort();
  await assert.rejects(aborted, { code: "aborted" });
  const waiting = dead.db.count("x");
  dead.close();
  await assert.rejects(waiting, { code: "closed" });
  await assert.rejects(dead.db.count("x"), { code: "closed" });
});

test("states, and what the server says of itself", async () => {
  const states = [];
  const own = open(server.url);
  own.on("state", (state) => states.push(state));
  await until(() => own.state === "online", "online");
  assert.deepEqual(states, ["connecting", "online"]);
  assert.equal(own.server.protocol, 1);
  own.close();
  assert.deepEqual(states.slice(2), ["closed"]);
});

test("a message that the server would close the socket for is refused here, and disturbs nobody", async () => {
  const tide = open(server.url);
  const stream = tide.subscribe({ big: "*" });
  await stream.synced;
  const states = [];
  tide.on("state", (state) => states.push(state));
  await assert.rejects(tide.db.put("big", { _id: 1, text: "x".repeat(70_000) }), { code: "too_big", retry: "no" });
  await assert.rejects(tide.subscribe({ big: { filter: { text: "x".repeat(70_000) } } }).synced, { code: "too_big" });
  await tide.db.put("big", { _id: 2, text: "x".repeat(60_000) });
  assert.deepEqual(states, []);
  tide.close();
});
