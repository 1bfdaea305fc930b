// tide.search against the real server and its embedded engine.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, Server, until } from "./harness.mjs";

let server, tide;
before(async () => {
  server = await new Server().start();
  tide = open(server.url);
  for (let n = 0; n < 30; n++) {
    await tide.search.save("films", `f${n}`, { title: `film ${n}`, year: 1990 + (n % 10), n });
  }
});
after(async () => {
  tide.close();
  await server.close();
});

test("pages, bodies, streams of hits, keys", async () => {
  const { since } = await tide.search.save("films", "f30", { title: "the last film", year: 1999, n: 30 });
  const page = await tide.search.search("films", "year:1999", { sort: "n desc", rows: 2, min_since: since });
  assert.deepEqual([page.total, page.items.map((item) => item.n)], [4, [30, 29]]);
  const result = await tide.search.body({ query: { match: { title: "last" } } }, "films");
  assert.equal(result.hits.hits.length, 1);
  assert.equal((await tide.search.streamSearch("films", "title:film")).length, 31);
  assert.equal((await tide.search.keys("films")).length, 31);
});

test("documents by id, with their versions", async () => {
  const { doc, version } = await tide.search.get("films", "f3");
  assert.equal(doc.n, 3);
  await tide.search.update("films", "f3", [["INC", "views", 2]], { version });
  await assert.rejects(tide.search.save("films", "f3", { n: 0 }, { version }), { code: "conflict" });
  assert.equal((await tide.search.getIfExists("films", "f3")).doc.views, 2);
  assert.equal(await tide.search.exists("films", "nothing"), false);
  await assert.rejects(tide.search.require("films", "nothing", { deadline_ms: 50 }));
  const { docs, missing } = await tide.search.multiget("films", ["f1", "nothing"]);
  assert.deepEqual([Object.keys(docs), missing], [["f1"], ["nothing"]]);
  assert.equal((await tide.search.bulk("films", [["upsert", "b1", { n: 100 }], ["delete", "zzz"]])).items.length, 2);
  await tide.search.delete("films", "b1");
});

test("counts: facet, stats, histogram, groups; fields", async () => {
  assert.equal((await tide.search.facet("films", "year"))["1995"], 3);
  const stats = await tide.search.stats("films", "year");
  assert.deepEqual([stats.min, stats.max], [1990, 1999]);
  const counts = await tide.search.histogram("films", "year", { start: 1990, end: 2000, gap: 5 });
  assert.deepEqual(Object.keys(counts), ["1990", "1995"]);
  const grouped = await tide.search.groupedSearch("films", "year", "title:film", { rows: 3 });
  assert.equal(grouped.groups.length, 3);
  assert.ok("year" in (await tide.search.fields("films")));
});

test("what a query changes reaches streams; refusals name the clause", async () => {
  const stream = tide.subscribe({ films: { filter: { seen: true } } });
  const seen = [];
  stream.on("put", (event) => seen.push(event.doc.n));
  await stream.synced;
  const { count } = await tide.search.updateByQuery("films", "year:1992", [["SET", "seen", true]]);
  assert.equal(count, 3);
  await until(() => seen.length === 3, "three films");
  stream.close();
  assert.equal((await tide.search.deleteByQuery("films", "n:2")).count, 1);
  await assert.rejects(tide.search.body({ query: { script: {} } }, "films"), /script/);
  await tide.search.call("commit", "films");
});
