// The local database against the real server, on an IndexedDB in memory.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { deleteDB, openDB } from "idb";
import { WebSocket } from "ws";

import { RealtimeDb } from "../dist/local/index.js";
import { open, Proxy, Server, until } from "./harness.mjs";

const schema = {
  name: "crm",
  version: 12,
  collections: [
    { name: "person", keyPath: "_id" },
    { name: "company", keyPath: "_id" },
  ],
};
let server, proxy, direct;
before(async () => {
  server = await new Server().start();
  proxy = await new Proxy().start(server.port);
  direct = open(server.url);
});
after(async () => {
  direct.close();
  await proxy.close();
  await server.close();
});

let names = 0;
function realtime(url = server.url, more = {}) {
  return new RealtimeDb(url, {
    schemas: [schema],
    name: `test ${names++}`,
    WebSocket,
    backoff: { baseMs: 10, maxMs: 50 },
    ...more,
  });
}
const crmOf = (id) => direct.db.get("person", id, { database: "crm" });

test("put, add, get, select, first, forEach, count, delete: local first, then everywhere", async () => {
  const [one, two] = [realtime(), realtime()];
  const [a, b] = [await one.open("crm"), await two.open("crm")];
  const { _id } = await a.put("person", { name: "Rodrigo Portela", title: "Juggernaut" });
  assert.equal((await a.get("person", _id)).name, "Rodrigo Portela"); // at once
  await until(() => b.get("person", _id), "the other client");
  await a.add("person", { _id: "ada", name: "Ada", age: 36 });
  await assert.rejects(a.add("person", { _id: "ada" }), { code: "conflict" });
  await a.put("person", { _id: "grace", name: "Grace", age: 85 });
  assert.deepEqual(
    (await a.select("person", { where: (p) => p.age > 30, sort: "age" })).map((p) => p.name),
    ["Ada", "Grace"],
  );
  assert.equal((await a.first("person", { where: { name: "Grace" } })).age, 85);
  assert.equal(await a.count("person", (p) => p.age === undefined), 1);
  let visited = 0;
  await a.forEach("person", () => visited++);
  assert.equal(visited, 3);
  await a.delete("person", "ada");
  assert.equal(await a.get("person", "ada"), undefined);
  await until(async () => (await b.count("person")) === 2, "the deletion");
  await assert.rejects(a.get("nothing", 1), { code: "unknown_collection" });
  one.close();
  two.close();
});

test("writes made offline wait in the outbox, survive the page, and are applied once", async () => {
  const name = "offline";
  const dead = realtime("ws://127.0.0.1:1", { name });
  const before = await dead.open("crm");
  for (let n = 0; n < 50; n++) await before.put("person", { _id: "off", n });
  await before.put("person", { _id: "off2" });
  assert.equal((await before.outbox()).length, 51);
  dead.close(); // the tab is closed

  const back = realtime(server.url, { name });
  const after = await back.open("crm");
  assert.equal((await after.get("person", "off")).n, 49);
  await until(async () => (await after.outbox()).length === 0, "the outbox");
  const stored = await crmOf("off");
  assert.deepEqual([stored.n, stored._version], [49, 50]);
  back.close();
});

test("a refused write becomes a conflict, and the server's record is shown", async () => {
  await direct.db.put("person", { _id: "c", by: "other" }, { database: "crm" });
  const one = realtime("ws://127.0.0.1:1", { name: "conflict" });
  const crm = await one.open("crm");
  await crm.add("person", { _id: "c", by: "me" });
  await crm.put("person", { _id: "d", by: "me" }, { if_version: 7 });
  one.close();
  const two = realtime(server.url, { name: "conflict" });
  const same = await two.open("crm");
  const heard = [];
  same.on("conflict", (conflict) => heard.push(conflict));
  await until(async () => (await same.conflicts()).length === 2, "two conflicts");
  const [first] = await same.conflicts();
  assert.equal(first.code, "conflict");
  assert.equal(first.entry.doc.by, "me");
  await until(async () => (await same.get("person", "c"))?.by === "other", "the server's record");
  assert.equal(await same.get("person", "d"), undefined);
  await same.forgetConflict(first);
  assert.equal((await same.conflicts()).length, 1);
  two.close();
});

test("an outbox of big records leaves in parts; one that is too big becomes a conflict", async () => {
  const name = "big";
  const dead = realtime("ws://127.0.0.1:1", { name });
  const crm = await dead.open("crm");
  for (let n = 0; n < 60; n++) await crm.put("company", { _id: `big${n}`, text: "x".repeat(4000) });
  await crm.put("company", { _id: "huge", text: "x".repeat(70_000) });
  await crm.put("company", { _id: "last" });
  dead.close();
  const back = realtime(server.url, { name });
  const again = await back.open("crm");
  await until(async () => (await again.outbox()).length === 0, "the outbox");
  assert.deepEqual((await again.conflicts()).map(({ code, entry }) => [code, entry.key]), [["too_big", "huge"]]);
  assert.equal((await direct.db.get("company", "big59", { database: "crm" })).text.length, 4000);
  assert.ok(await direct.db.get("company", "last", { database: "crm" }));
  await direct.db.removeMany("company", {}, { database: "crm" });
  back.close();
});

test("a live query is stable and true", async () => {
  const one = realtime();
  const crm = await one.open("crm");
  const query = crm.watch("company", { where: (c) => c.size > 10, sort: "size" });
  await until(() => query.isReady, "ready");
  assert.equal(query.records, query.records);
  let calls = 0;
  query.subscribe(() => calls++);
  await direct.db.put("company", { _id: 1, size: 20 }, { database: "crm" });
  await direct.db.put("company", { _id: 2, size: 15 }, { database: "crm" });
  await direct.db.put("company", { _id: 3, size: 5 }, { database: "crm" });
  await until(() => query.records.length === 2, "two companies");
  assert.deepEqual(query.records.map((c) => c._id), [2, 1]);
  await crm.put("company", { _id: 1, size: 1 });
  await until(() => query.records.length === 1, "one company");
  assert.ok(calls > 0);
  query.close();
  one.close();
});

test("sorting is a total order, whatever the types of the keys", async () => {
  const one = realtime("ws://127.0.0.1:1");
  const crm = await one.open("crm");
  const keys = ["b", 10, "a", 2, true, { $oid: "0123456789abcdef01234567" }, "10"];
  for (const _id of keys) await crm.put("person", { _id });
  const sorted = [2, 10, "10", "a", "b", { $oid: "0123456789abcdef01234567" }, true];
  assert.deepEqual((await crm.select("person", { sort: "_id" })).map((p) => p._id), sorted);
  one.close();
});

test("another schema version empties the copy, but never a waiting write", async () => {
  const name = "schema";
  const one = realtime("ws://127.0.0.1:1", { name });
  await (await one.open("crm")).put("person", { _id: "waits" });
  one.close();
  const newer = { ...schema, version: 13 };
  const two = realtime(server.url, { name, schemas: [newer] });
  await assert.rejects(two.open("crm"), { code: "schema_changed" });
  two.close();
  const three = realtime(server.url, { name });
  const old = await three.open("crm");
  await until(async () => (await old.outbox()).length === 0, "the outbox");
  await until(() => crmOf("waits"), "the write");
  await until(() => old.isSynced, "synced");
  three.close();
  const four = realtime(server.url, { name, schemas: [newer] });
  const fresh = await four.open("crm");
  await until(() => fresh.get("person", "waits"), "the copy, made anew");
  four.close();
});

test("without schemas the server is asked, and the last answer serves offline", async () => {
  await direct.db.put("animal", { _id: 1, name: "otter" }, { database: "zoo" });
  const make = (url) =>
    new RealtimeDb(url, { name: "asked", WebSocket, backoff: { baseMs: 10, maxMs: 50 } });
  const one = make(server.url);
  const zoo = await one.open("zoo");
  assert.deepEqual(zoo.schema.collections, [{ name: "animal", keyPath: "_id" }]);
  await until(() => zoo.get("animal", 1), "the otter");
  one.close();
  const two = make("ws://127.0.0.1:1");
  assert.equal((await (await two.open("zoo")).get("animal", 1)).name, "otter");
  two.close();
});

/** Makes a copy of `count` records and closes it; how many bytes that took. */
async function copied(proxy, tide, name, count) {
  await tide.db.removeMany("person", {}, { database: "crm" });
  for (let n = 0; n < count; n += 100) {
    const ops = Array.from({ length: 100 }, (_, i) => ({ op: "put", collection: "person", doc: { _id: n + i, text: "x".repeat(300) } }));
    await tide.request("batch", { ops }, { database: "crm" });
  }
  proxy.bytes = 0;
  const one = realtime(proxy.url, { name });
  const crm = await one.open("crm");
  await until(() => crm.isSynced, "synced");
  assert.equal(await crm.count("person"), count);
  one.close();
  return proxy.bytes;
}

/** What the copy keeps of its position is `minutes` older. */
async function age(name, minutes) {
  const idb = await openDB(`tidewire:${name}/crm`);
  const position = await idb.get("meta", "position");
  await idb.put("meta", { ...position, atMs: position.atMs - minutes * 60_000 }, "position");
  idb.close();
  return position.since;
}

/** Until the server's log no longer reaches back to this position. */
async function compacted(tide, since) {
  await until(async () => {
    let isReset = false;
    const stream = tide.subscribe({ collections: { company: { db: "crm" } } }, { since });
    stream.on("reset", () => (isReset = true));
    await stream.synced;
    stream.close();
    if (!isReset) await tide.db.put("other", { _id: 1 });
    return isReset;
  }, "a position that is compacted");
}

test("a position that is too old: only what differs travels, asked before or told by a reset", async () => {
  const own = new Server();
  own.flags = ["--log-age", "1"];
  await own.start();
  const cable = await new Proxy().start(own.port);
  const tide = open(own.url);
  const total = 3000;
  const whole = await copied(cable, tide, "old", total);
  for (const minutes of [60, 0]) {
    const since = await age("old", minutes);
    await tide.db.put("person", { _id: 7, text: `new ${minutes}` }, { database: "crm" });
    await tide.db.remove("person", 8 + minutes, { database: "crm" });
    await compacted(tide, since);
    cable.bytes = 0;
    const again = realtime(cable.url, { name: "old" });
    const crm = await again.open("crm");
    await until(() => crm.isSynced, "synced");
    console.log(`# ${minutes} minutes old: ${cable.bytes} bytes of ${whole}`);
    // A reset that was not asked about is followed by what is on its way until the client has ended it.
    if (minutes > 0) assert.ok(cable.bytes < whole / 20, `${cable.bytes} bytes of ${whole}`);
    assert.equal((await crm.get("person", 7)).text, `new ${minutes}`);
    assert.equal(await crm.get("person", 8 + minutes), undefined);
    assert.equal(await crm.count("person"), await tide.db.count("person", {}, { database: "crm" }));
    await tide.db.put("person", { _id: 9, text: "live" }, { database: "crm" });
    await until(async () => (await crm.get("person", 9)).text === "live", "what comes behind the repair");
    await tide.db.put("person", { _id: 9, text: "" }, { database: "crm" });
    await until(async () => (await crm.get("person", 9)).text === "", "the next");
    again.close();
  }
  tide.close();
  await cable.close();
  await own.close();
});

test("IndexedDB is deleted while a tab watches: it is refilled from memory, and what waits is kept", async () => {
  const cable = await new Proxy().start(server.port);
  const whole = await copied(cable, direct, "evicted", 2000);
  const one = realtime(cable.url, { name: "evicted" });
  const crm = await one.open("crm");
  const all = crm.watch("person", { sort: "_id" });
  await until(() => crm.isSynced && all.records.length === 2000, "the records");
  const same = all.records[0];
  let evictions = 0;
  crm.on("evicted", () => evictions++);
  await server.kill();
  await until(() => one.state !== "online", "offline");
  await crm.put("person", { _id: "waits", text: "written before" });
  await deleteDB("tidewire:evicted/crm");
  await until(() => evictions === 1, "the eviction is noticed");
  await until(async () => (await crm.outbox()).length === 1, "the write waits again");
  cable.bytes = 0;
  await server.start();
  await direct.db.put("person", { _id: 1, text: "changed meanwhile" }, { database: "crm" });
  await until(async () => (await crm.outbox()).length === 0, "the write is sent");
  await until(async () => (await crm.get("person", 1))?.text === "changed meanwhile", "the change");
  assert.ok(await crmOf("waits"));
  assert.equal(await crm.count("person"), 2001);
  console.log(`# ${cable.bytes} bytes of ${whole}`);
  assert.ok(cable.bytes < whole / 20, `${cable.bytes} bytes of ${whole}`);
  await until(() => all.records.length === 2001 && all.records.find(({ _id }) => _id === 1).text !== "", "the query");
  assert.equal(same._id, 0);
  one.close();
  await cable.close();
  await direct.db.removeMany("person", {}, { database: "crm" });
});

test("a first copy that breaks off goes on with what it lacks", async () => {
  const cable = await new Proxy().start(server.port);
  const whole = await copied(cable, direct, "whole", 3000);
  cable.bytes = 0;
  cable.limit = whole / 2;
  const one = realtime(cable.url, { name: "broken" });
  const crm = await one.open("crm");
  await until(async () => cable.isFrozen && (await crm.count("person")) >= 500, "a part of the copy");
  const part = await crm.count("person");
  assert.ok(part < 3000);
  Object.assign(cable, { isFrozen: false, limit: Infinity, bytes: 0 });
  cable.cut();
  await until(() => crm.isSynced, "synced");
  assert.equal(await crm.count("person"), 3000);
  console.log(`# ${part} were there, then ${cable.bytes} bytes of ${whole}`);
  assert.ok(cable.bytes < (1.1 - part / 3000) * whole, `${cable.bytes} bytes of ${whole}, ${part} were there`);
  one.close();
  await cable.close();
  await direct.db.removeMany("person", {}, { database: "crm" });
});

test("partitions: no write lost, none applied twice, all copies equal", async () => {
  const rounds = Number(process.env.TIDEWIRE_PARTITIONS ?? 30);
  const names = ["left", "right"];
  const make = () => names.map((name) => realtime(proxy.url, { name }));
  let clients = make();
  let copies = await Promise.all(clients.map((client) => client.open("crm")));
  let seed = 12345;
  const random = (below) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
  const last = new Map(); // of each key that one client alone writes
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < 4; i++) {
      const who = random(2);
      const mine = `${names[who]} ${random(8)}`;
      if (random(4) === 0) {
        await copies[who].delete("person", mine);
        last.set(mine, undefined);
      } else {
        await copies[who].put("person", { _id: mine, round, i });
        last.set(mine, `${round} ${i}`);
      }
      await copies[who].put("person", { _id: `both ${random(4)}`, round, by: names[who] });
    }
    if (random(2) === 0) proxy.cut();
    if (random(5) === 0) {
      const who = random(2); // the page is reloaded
      clients[who].close();
      clients[who] = realtime(proxy.url, { name: names[who] });
      copies[who] = await clients[who].open("crm");
    }
  }
  for (const copy of copies) await until(async () => (await copy.outbox()).length === 0, "the outbox");
  const wanted = async () =>
    JSON.stringify((await direct.db.find("person", {}, { database: "crm", sort: { _id: 1 } })).filter(isOurs));
  const isOurs = ({ _id }) => /^(left|right|both) /.test(_id);
  const held = async (copy) =>
    JSON.stringify((await copy.select("person", { where: isOurs, sort: "_id" })));
  const truth = await wanted();
  for (const copy of copies) await until(async () => (await held(copy)) === truth, "equal copies");
  for (const doc of JSON.parse(truth)) {
    if (last.has(doc._id)) assert.equal(`${doc.round} ${doc.i}`, last.get(doc._id));
  }
  for (const [key, value] of last) {
    if (value !== undefined) assert.ok(JSON.parse(truth).some((doc) => doc._id === key), key);
  }
  for (const client of clients) client.close();
});
