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

async function tab(context, url = proxy.url) {
  const page = await context.newPage();
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
  await direct.db.put("person", { _id: "before" }, { database: "crm" });
  await equal(one, two);
  await one.evaluate(
    () => new Promise((done, fail) => {
      const request = indexedDB.deleteDatabase("tidewire:test/crm");
      request.onsuccess = done;
      request.onerror = fail;
    }),
  );
  await equal(one, two);
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
    assert.equal(await page.evaluate(() => heard.length), 2, "told that the copy is gone");
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
