// The same from a page in headless Chromium: the browser's own WebSocket, with an Origin header.
//   node browser.mjs WS_URL HTTP_URL
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.TIDEWIRE_NODE_MODULES + "/x.js");
const { chromium } = require("playwright-core");
const [url, page_url] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.TIDEWIRE_CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
});
// With TLS the server's certificate is of nobody that a browser knows.
const page = await browser.newPage({ ignoreHTTPSErrors: url.startsWith("wss:") });
await page.goto(page_url); // any page of the server: the same host
const kinds = await page.evaluate(
  (url) =>
    new Promise((done, fail) => {
      const ws = new WebSocket(url + "/ws");
      const seen = [];
      ws.onerror = () => fail(new Error("no connection"));
      ws.onopen = () => {
        ws.send(JSON.stringify({ action: "put", reqID: 1, collection: "pages", doc: { _id: 1, a: "b" } }));
      };
      ws.onmessage = (m) => {
        const frame = JSON.parse(m.data);
        seen.push(frame.type ?? frame.action);
        if (frame.action === "put") {
          ws.send(JSON.stringify({ type: "subscribe", mux_id: 99, syncid: "abc123", pages: "*" }));
        } else if (frame.type === "sync") {
          ws.send(JSON.stringify({ type: "close", mux_id: 99 }));
        } else if (frame.type === "closed") {
          done(seen);
        }
      };
    }),
  url,
);
assert.deepEqual(kinds, ["put", "record", "sync", "closed"]);

// A page of another origin is refused.
await page.goto("data:text/html,<p>elsewhere</p>");
const refused = await page.evaluate(
  (url) =>
    new Promise((done) => {
      const ws = new WebSocket(url + "/ws");
      ws.onopen = () => done(false);
      ws.onerror = () => done(true);
    }),
  url,
);
assert.equal(refused, true);
await browser.close();
console.log("good");
