// React in the browser: StrictMode, and 10,000 records while the screen stays smooth.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, Server, until } from "../harness.mjs";
import { launch, serve, watchErrors } from "./browser.mjs";

const source = `
  import { createElement as h, StrictMode, useMemo } from "react";
  import { createRoot } from "react-dom/client";
  import { connect } from "../../src/index.ts";
  import { useConnection, useStream } from "../../src/react.ts";
  const tide = (window.tide = connect(location.hash.slice(1)));
  function People() {
    const { records, isSynced } = useStream(tide, { people: "*" });
    const newest = useMemo(() => records.toSorted((a, b) => b.n - a.n).slice(0, 40), [records]);
    window.renders = (window.renders ?? 0) + 1;
    return h("section", null,
      h("p", { id: "state" }, useConnection(tide) + " " + isSynced + " " + records.length + " " + (newest[0]?.n ?? "")),
      h("ol", null, newest.map((r) => h("li", { key: r._id }, r.name + " " + r.n))));
  }
  createRoot(document.querySelector("main")).render(h(StrictMode, null, h(People), h(People)));
  window.drawn = 0;
  requestAnimationFrame(function draw() { window.drawn++; requestAnimationFrame(draw); });
  window.frames = (ms) => new Promise((done) => {
    const times = [];
    const began = performance.now();
    const tick = (now) => (times.push(now), now - began < ms ? requestAnimationFrame(tick) : done(times));
    requestAnimationFrame(tick);
  });
`;
let server, tide, pages, browser;
before(async () => {
  server = await new Server().start();
  tide = open(server.url);
  pages = await serve(source);
  browser = await launch();
});
after(async () => {
  await browser.close();
  await pages.close();
  tide.close();
  await server.close();
});

test("StrictMode: one stream for both components; 10,000 records; the screen stays smooth", async () => {
  const total = 10_000;
  for (let n = 0; n < total; n += 500) {
    const ops = Array.from({ length: 500 }, (_, i) => ({ op: "put", collection: "people", doc: { _id: n + i, name: `Person ${n + i}`, n: n + i } }));
    await tide.request("batch", { ops });
  }
  const page = await browser.newPage();
  const errors = watchErrors(page);
  await page.goto(`${pages.url}#${server.url}`);
  const state = page.locator("#state").first();
  await until(async () => (await state.textContent()) === `online true ${total} ${total - 1}`, "all records");
  assert.equal(await page.evaluate(() => tide.figures.streams), 1);

  let isWriting = true;
  let n = total;
  const writing = (async () => {
    while (isWriting) {
      const ops = Array.from({ length: 20 }, () => ({ op: "put", collection: "people", doc: { _id: n % total, name: "New", n: n++ } }));
      await tide.request("batch", { ops });
      await new Promise((done) => setTimeout(done, 10)); // a pace, not a wait
    }
  })();
  const figures = () => page.evaluate(() => ({ renders: window.renders, drawn: window.drawn, at: performance.now() }));
  const before = await figures();
  const times = await page.evaluate(() => window.frames(3000));
  isWriting = false;
  await writing;
  const gaps = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
  const perSecond = (times.length - 1) / ((times.at(-1) - times[0]) / 1000);
  const end = await figures();
  const renders = end.renders - before.renders;
  console.log(`# ${perSecond.toFixed(1)} frames/s, p95 ${gaps[Math.floor(gaps.length * 0.95)].toFixed(1)} ms, ` +
    `longest ${gaps.at(-1).toFixed(1)} ms; ${n - total} changes, ${renders} renders`);
  await until(async () => (await state.textContent()) === `online true ${total} ${n - 1}`, "the newest");
  // Smooth is: no more work than frames, however fast the machine draws them (60 a second when it is idle, see
  // docs/BENCHMARKS.md). Two components, each rendered twice by StrictMode, once a frame; where no frame comes
  // for 100 ms, once for that.
  const turns = end.drawn - before.drawn + (end.at - before.at) / 100 + 2;
  assert.ok(renders <= 4 * turns, `${renders} renders in ${turns} turns`);
  assert.ok(times.length > 2, "frames are drawn while changes come");
  assert.ok(renders < n - total, "many changes are one render");
  assert.deepEqual(errors, []);
  await page.close();
});
