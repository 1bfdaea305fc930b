// A server that dies at each step of the protocol, before a client in the browser.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, Server, until } from "../harness.mjs";
import { launch, serve, watchErrors } from "./browser.mjs";

const source = `
  import { connect } from "../../src/index.ts";
  window.begin = (url, step) => {
    const tide = (window.tide = connect(url, { backoff: { baseMs: 10, maxMs: 100 } }));
    window.events = [];
    window.resets = 0;
    const stream = tide.subscribe({ steps: "*" });
    stream.on("event", (e) => {
      if (e.kind === "reset") { window.events = []; window.resets++; }
      if (e.kind === "put") events.push(e.doc.n);
    });
    window.written = [];
    window.write = (n) => tide.db.put("steps", { _id: n, n }).then(({ version }) => written.push([n, version]));
    return new Promise((done) => {
      tide.on("frame", ({ sent, frame }) => {
        if (window.met) return;
        const name = (sent ? "sent " : "heard ") + (frame.type ?? frame.action);
        if (name === step) { window.met = true; done(name); }
      });
      tide.on("state", (state) => { if (!window.met && state === step) { window.met = true; done(state); } });
      if (step.endsWith("put")) stream.synced.then(() => write(1000));
    });
  };
  window.ready = true;
`;
let server, tide, pages, browser;
before(async () => {
  server = await new Server().start();
  tide = open(server.url);
  pages = await serve(source);
  browser = await launch();
  for (let n = 0; n < 300; n++) await tide.db.put("steps", { _id: n, n });
});
after(async () => {
  await browser.close();
  await pages.close();
  tide.close();
  await server.close();
});

const steps = ["connecting", "sent subscribe", "heard record", "heard sync", "sent put", "heard put"];
for (const step of steps) {
  test(`killed at: ${step}`, async () => {
    const page = await browser.newPage();
    const errors = watchErrors(page);
    await page.goto(pages.url);
    await page.waitForFunction(() => window.ready);
    const met = page.evaluate(([url, step]) => window.begin(url, step), [server.url, step]);
    await met;
    await server.kill();
    await server.start();
    if (!step.endsWith("put")) await page.evaluate(() => void window.write(1000));
    await page.evaluate(() => void window.write(1001));
    await until(() => page.evaluate(() => written.length === 2), "both writes are answered");
    const wanted = (await tide.db.find("steps", {}, { sort: { _id: 1 }, limit: 1000 })).map((doc) => doc.n);
    const seen = () => page.evaluate(() => JSON.stringify([...new Set(events)].sort((a, b) => a - b)));
    await until(async () => (await seen()) === JSON.stringify(wanted), "all records, after the break");
    for (const [n, version] of await page.evaluate(() => written)) {
      const doc = await tide.db.get("steps", n);
      assert.equal(doc._version, version, "a write has one effect");
    }
    await tide.db.removeMany("steps", { _id: { $gte: 1000 } });
    assert.deepEqual(errors, []);
    await page.close();
  });
}
