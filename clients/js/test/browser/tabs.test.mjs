// The realtime database in real tabs: IndexedDB, Web Locks, BroadcastChannel.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, Proxy, Server, until } from "../harness.mjs";
import { profile, serve, watchErrors } from "./browser.mjs";

const source = `
  import { RealtimeDb } from "../../src/local/index.ts";
  const schema = { name: "crm", version: 1, collections: [{ name: "person", keyPath: "_id" }] };
  window.start = async (url) => {
    window.server = new RealtimeDb(url, { schemas: [schema], name: "test", backoff: { baseMs: 10, maxMs: 100 } });
    window.heard = [];
    window.crm = await server.open("crm");
    for (const name of ["evicted", "error", "conflict"]) crm.on(name, (e) => heard.push(name + " " + (e?.message ?? "")));
    window.all = crm.watch("person", { sort: "_id" });
  };
  window.ready = true;
`;
let server, proxy, pages, direct, one, two;
const profiles = [];
before(async () => {
  server = await new Server().start();
  proxy = await new Proxy().start(server.port);
  direct = open(server.url);
  pages = await serve(source);
  for (let i = 0; i < 2; i++) profiles.push(await profile());
  one = await tab(profiles[0]);
  two = await tab(profiles[0]);
});
after(async () => {
  for (const each of profiles) await each.close();
  direct.close();
  await pages.close();
  await proxy.close();
  await server.close();
});

async function tab(context, url = proxy.url, prepare = () => {}) {
  const page = await context.newPage();
  await prepare(page);
  page.errors = watchErrors(page);
  await page.goto(pages.url);
  await page.waitForFunction(() => window.ready);
  await page.evaluate((url) => window.start(url), url);
  return page;
}
const put = (page, record) => page.evaluate((record) => crm.put("person", record).then(() => {}), record);
const shown = (page) => page.evaluate(() => JSON.stringify(all.records.map(({ _version, ...rest }) => rest)));
const isLeader = (page) => page.evaluate(() => server.isLeader);
const outbox = (page) => page.evaluate(async () => (await crm.outbox()).length);
const stored = async () => {
  const docs = await direct.db.find("person", {}, { database: "crm", sort: { _id: 1 } });
  return JSON.stringify(docs.map(({ _version, ...rest }) => rest));
};
async function equal(...tabs) {
  for (const page of tabs) await until(async () => (await outbox(page)) === 0, "the outbox");
  const truth = await stored();
  for (const page of tabs) {
    await until(async () => (await shown(page)) === truth, "equal copies");
  }
}

test("two tabs have one leader and one socket; a second profile converges", async () => {
  assert.deepEqual([await isLeader(one), await isLeader(two)], [true, false]);
  const three = await tab(profiles[1]);
  await put(one, { _id: 1, by: "one" });
  await put(two, { _id: 2, by: "two" }); // the follower writes, the leader sends
  await put(three, { _id: 3, by: "three" });
  await equal(one, two, three);
  assert.match(await stored(), /"two".*"three"/);
  await until(async () => (await two.evaluate(() => server.state)) === "online", "the follower knows the state");
  await three.close();
});

test("offline for a while, then back: nothing is lost, in the follower either", async () => {
  await profiles[0].setOffline(true); // the browser's own switch: new connections fail
  proxy.cut();
  await until(async () => (await two.evaluate(() => server.state)) !== "online", "offline");
  for (let n = 0; n < 30; n++) await put(n % 2 ? one : two, { _id: `off${n % 7}`, n });
  await direct.db.put("person", { _id: "meanwhile" }, { database: "crm" });
  assert.equal(await outbox(one), 30);
  await two.close(); // what a closed tab wrote is not lost
  await profiles[0].setOffline(false);
  two = await tab(profiles[0]);
  await equal(one, two);
  assert.match(await shown(two), /meanwhile/);
});

test("offline for minutes: few attempts, then all that was missed, and nothing twice", async () => {
  const cable = await new Proxy().start(server.port);
  let attempts = 0;
  cable.server.on("connection", () => attempts++);
  const page = await tab(profiles[1], cable.url, (page) => page.clock.install());
  await page.evaluate(() => void (server.on("state", (state) => (window.last = state)), (window.last = server.state)));
  await until(async () => (await page.evaluate(() => last)) === "online", "online");
  await page.evaluate(() => new Promise((done) => (crm.isSynced ? done() : crm.on("synced", done))));
  cable.isRefusing = true;
  cable.cut();
  await until(async () => (await page.evaluate(() => last)) !== "online", "offline");
  attempts = 0;
  for (let n = 0; n < 10; n++) await put(page, { _id: `minutes${n}`, n });
  for (let n = 0; n < 10; n++) await direct.db.put("person", { _id: `meanwhile${n}` }, { database: "crm" });
  for (let minutes = 0; minutes < 6; minutes += 0.5) {
    await page.clock.fastForward(30_000);
    await until(async () => (await page.evaluate(() => last)) === "offline", "refused again");
  }
  assert.ok(attempts >= 6 && attempts <= 60, `${attempts} attempts in 6 minutes`);
  assert.equal(await outbox(page), 10);
  cable.isRefusing = false;
  cable.bytes = 0;
  const back = async () => (await page.clock.fastForward(1000), (await page.evaluate(() => last)) === "online");
  await until(back, "online by itself");
  await until(async () => (await page.clock.fastForward(100), (await outbox(page)) === 0), "the outbox");
  const truth = await stored();
  await until(async () => (await page.clock.fastForward(100), (await shown(page)) === truth), "equal copies");
  for (let n = 0; n < 10; n++) {
    const { _version } = await direct.db.get("person", `minutes${n}`, { database: "crm" });
    assert.equal(_version, 1);
  }
  assert.deepEqual(page.errors, []);
  await page.close();
  await cable.close();
});

test("the leader's tab closes: the follower leads and sends what waits", async () => {
  await one.close();
  await until(() => isLeader(two), "the new leader");
  await put(two, { _id: "after", by: "two" });
  await equal(two);
  one = await tab(profiles[0]);
  assert.equal(await isLeader(one), false);
  await equal(one, two);
});

test("the server is killed while writes go on: each has one effect", async () => {
  for (let round = 0; round < 3; round++) {
    const writing = (async () => {
      for (let n = 0; n < 40; n++) await put(n % 2 ? one : two, { _id: `kill${n}`, round });
    })();
    await server.kill();
    await server.start();
    await writing;
  }
  await equal(one, two);
  for (let n = 0; n < 40; n++) {
    const { _version } = await direct.db.get("person", `kill${n}`, { database: "crm" });
    assert.equal(_version, 3, `kill${n} was written three times, not ${_version}`);
  }
});

test("IndexedDB is deleted under both tabs: the copies come again, live queries go on", async () => {
  const text = "x".repeat(500);
  for (let n = 0; n < 600; n += 100) {
    const ops = Array.from({ length: 100 }, (_, i) => ({ op: "put", collection: "person", doc: { _id: n + i, text } }));
    await direct.request("batch", { ops }, { database: "crm" });
  }
  await direct.db.put("person", { _id: "before" }, { database: "crm" });
  await equal(one, two);
  proxy.bytes = 0;
  await one.evaluate(
    () => new Promise((done, fail) => {
      const request = indexedDB.deleteDatabase("tidewire:test/crm");
      request.onsuccess = done;
      request.onerror = fail;
    }),
  );
  await until(async () => (await one.evaluate(() => heard.length)) + (await two.evaluate(() => heard.length)) === 2, "both are told");
  await until(async () => (await one.evaluate(() => crm.isSynced)) && (await two.evaluate(() => crm.isSynced)), "synced again");
  await equal(one, two);
  console.log(`# ${proxy.bytes} bytes to make the copy of 600 records anew`);
  assert.ok(proxy.bytes < 40_000, `${proxy.bytes} bytes: what the tabs held in memory was fetched`);
  await put(one, { _id: "again", by: "one" });
  await put(two, { _id: "again2", by: "two" });
  await equal(one, two);
  for (const page of [one, two]) {
    assert.deepEqual(await page.evaluate(() => heard), ["evicted "]);
    assert.deepEqual(page.errors, []);
  }
});

test("the browser clears the site's storage: the same", async () => {
  const session = await profiles[0].newCDPSession(one);
  await session.send("Storage.clearDataForOrigin", { origin: new URL(pages.url).origin, storageTypes: "indexeddb" });
  await put(two, { _id: "third", by: "two" });
  await put(one, { _id: "fourth", by: "one" });
  await equal(one, two);
  for (const page of [one, two]) {
    // A clearing that comes in two steps of the browser's is told twice.
    const told = await page.evaluate(() => heard);
    assert.ok(told.length >= 2 && told.every((text) => text === "evicted "), `told that the copy is gone: ${told}`);
    assert.deepEqual(page.errors, []);
  }
});

test("a frozen tab goes on where it was when it is thawed", async () => {
  const leader = (await isLeader(one)) ? one : two;
  const session = await profiles[0].newCDPSession(leader);
  await session.send("Page.setWebLifecycleState", { state: "frozen" });
  for (let n = 0; n < 20; n++) await direct.db.put("person", { _id: `ice${n}` }, { database: "crm" });
  proxy.cut(); // its socket dies while nobody listens
  await session.send("Page.setWebLifecycleState", { state: "active" });
  await equal(one, two);
});
