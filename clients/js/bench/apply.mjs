// How many records a second the client applies, in Chromium: to memory (LiveSet), to IndexedDB (the local
// database), and to both again after an hour away. `node bench/apply.mjs [RECORDS]`, after npm run build.
import { open, Server, until } from "../test/harness.mjs";
import { launch, serve } from "../test/browser/browser.mjs";

const total = Number(process.argv[2] ?? 20_000);
const source = `
  import { connect, LiveSet } from "../../src/index.ts";
  import { RealtimeDb } from "../../src/local/index.ts";
  window.memory = async (url) => {
    const began = performance.now();
    const set = new LiveSet(connect(url).subscribe({ collections: { person: { db: "crm" } } }));
    await set.stream.synced;
    return [set.size, performance.now() - began];
  };
  window.local = async (url) => {
    const schema = { name: "crm", version: 1, collections: [{ name: "person", keyPath: "_id" }] };
    const began = performance.now();
    window.server = new RealtimeDb(url, { schemas: [schema], name: "bench" });
    window.crm = await server.open("crm");
    if (!crm.isSynced) await new Promise((done) => crm.on("synced", done));
    return [await crm.count("person"), performance.now() - began];
  };
  window.writes = async (count) => {
    const began = performance.now();
    for (let n = 0; n < count; n++) await crm.put("person", { _id: "own" + n, n });
    const kept = performance.now() - began;
    while ((await crm.outbox()).length > 0) await new Promise((done) => setTimeout(done, 5));
    return [count, kept, performance.now() - began];
  };
  window.ready = true;
`;
const server = await new Server().start();
const tide = open(server.url);
for (let n = 0; n < total; n += 200) {
  const ops = Array.from({ length: 200 }, (_, i) => ({
    op: "put", collection: "person",
    doc: { _id: n + i, name: `Person ${n + i}`, city: "Brest", age: (n + i) % 90, note: "x".repeat(60) },
  }));
  await tide.request("batch", { ops }, { database: "crm" });
}
const pages = await serve(source);
const browser = await launch();
const page = await browser.newPage();
await page.goto(pages.url);
await until(() => page.evaluate(() => window.ready), "the page");
const tell = (what, [count, ms]) =>
  console.log(`${what}: ${count} records in ${ms.toFixed(0)} ms, ${Math.round(count / (ms / 1000))}/s`);
tell("memory", await page.evaluate((url) => window.memory(url), server.url));
tell("IndexedDB", await page.evaluate((url) => window.local(url), server.url));
const [count, kept, sent] = await page.evaluate((count) => window.writes(count), 500);
tell("own writes, kept in IndexedDB one after the other", [count, kept]);
tell("own writes, confirmed by the server", [count, sent]);
await browser.close();
await pages.close();
tide.close();
await server.close();
