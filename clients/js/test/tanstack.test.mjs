// The collection options in TanStack DB itself.
import { createCollection, createLiveQueryCollection, gt } from "@tanstack/db";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { tidewireCollectionOptions } from "../dist/tanstack.js";
import { open, Proxy, Server, until } from "./harness.mjs";

let server, proxy, tide, other;
before(async () => {
  server = await new Server().start();
  proxy = await new Proxy().start(server.port);
  tide = open(proxy.url);
  other = open(server.url);
});
after(async () => {
  tide.close();
  other.close();
  await proxy.close();
  await server.close();
});

test("what is stored, then changes; own writes are optimistic and stay", async () => {
  await other.db.put("people", { _id: "ada", name: "Ada", age: 36 });
  const people = createCollection(tidewireCollectionOptions({ tide, collection: "people" }));
  await people.preload();
  assert.equal(people.get("ada").name, "Ada");
  const inserted = people.insert({ _id: "grace", name: "Grace", age: 85 });
  assert.equal(people.get("grace").age, 85, "at once");
  const ages = [];
  const watching = people.subscribeChanges((changes) => {
    for (const { key, value } of changes) if (key === "grace") ages.push(value?.age);
  });
  await inserted.isPersisted.promise;
  await people.update("grace", (draft) => void (draft.age = 86)).isPersisted.promise;
  assert.ok(!ages.includes(undefined) && ages.at(-1) === 86, `never gone: ${ages}`);
  assert.equal((await other.db.get("people", "grace")).age, 86);
  watching.unsubscribe();

  const old = createLiveQueryCollection((q) =>
    q.from({ p: people }).where(({ p }) => gt(p.age, 50)).select(({ p }) => ({ name: p.name })));
  await old.preload();
  assert.deepEqual(old.toArray.map((p) => p.name), ["Grace"]);
  await other.db.put("people", { _id: "alan", name: "Alan", age: 60 });
  await until(() => old.size === 2, "Alan");
  proxy.cut();
  await other.db.remove("people", "alan");
  await until(() => old.size === 1, "the removal, after a break");
  await people.delete("ada").isPersisted.promise;
  assert.equal(await other.db.get("people", "ada"), undefined);
  assert.equal(people.has("ada"), false);
});

test("a refused write rolls back", async () => {
  const people = createCollection(tidewireCollectionOptions({ tide, collection: "people", id: "again" }));
  await people.preload();
  await other.db.put("people", { _id: "late", name: "Late" });
  await until(() => people.has("late"), "the record");
  const stale = createCollection(
    tidewireCollectionOptions({ tide, collection: "people", id: "few", filter: { age: { $gt: 1000 } } }),
  );
  await stale.preload();
  const refused = stale.insert({ _id: "late", age: 2000 });
  await assert.rejects(refused.isPersisted.promise, { code: "conflict" });
  assert.equal(stale.has("late"), false);
});
