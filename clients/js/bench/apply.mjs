// How many records a second the client applies, in Chromium, to memory (LiveSet) and to IndexedDB (the local
// database): from the server, and alone (the same frames again, played by a socket that is always ready).
// `node bench/apply.mjs [RECORDS]`, after npm run build.
import { open, Server, until } from "../test/harness.mjs";
import { launch, serve } from "../test/browser/browser.mjs";

const total = Number(process.argv[2] ?? 20_000);
const source = `
  import { connect, LiveSet } from "../../src/index.ts";
  import { RealtimeDb } from "../../src/local/index.ts";
  const tape = []; // frames of the subscription, as text without their mux_id
  class Recorder extends WebSocket {
    constructor(url) {
      super(url);
      this.addEventListener("message", ({ data }) => {
        if (/"mux_id":1,/.test(data)) tape.push(data);
        else if (/"type":"welcome"/.test(data)) tape.welcome = data;
      });
    }
  }
  /** Answers hello and a subscribe from the tape, one task a frame as a browser does. */
  class Player {
    bufferedAmount = 0;
    constructor() { setTimeout(() => this.onopen?.(), 0); }
    #say(texts) {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }) => this.onmessage?.({ data });
      for (const text of texts) port2.postMessage(text);
    }
    send(text) {
      const { type } = JSON.parse(text);
      if (type === "hello") this.#say([tape.welcome]);
      if (type === "subscribe") this.#say(tape);
    }
    close() { this.onmessage = null; }
  }
  const schema = { name: "crm", version: 1, collections: [{ name: "person", keyPath: "_id" }] };
  window.memory = async (url, isPlayed) => {
    const began = performance.now();
    const tide = connect(url, { WebSocket: isPlayed ? Player : Recorder });
    const set = new LiveSet(tide.subscribe({ collections: { person: { db: "crm" } } }));
    await set.stream.synced;
    const ms = performance.now() - began;
    tide.close();
    return [set.size, ms];
  };
  window.local = async (url, isPlayed) => {
    const began = performance.now();
    const name = isPlayed ? "played" : "bench";
    const server = new RealtimeDb(url, { schemas: [schema], name, ...(isPlayed && { WebSocket: Player }) });
    const crm = await server.open("crm");
    if (!crm.isSynced) await new Promise((done) => crm.on("synced", done));
    const ms = performance.now() - began;
    const count = await crm.count("person");
    if (isPlayed) server.close();
    else window.crm = crm;
    return [count, ms];
  };
  window.writes = async (count, isTogether) => {
    const began = performance.now();
    const all = [];
    for (let n = 0; n < count; n++) {
      const one = crm.put("person", { _id: "own" + n, n });
      all.push(isTogether ? one : await one);
    }
    await Promise.all(all);
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
const run = (name, ...args) => page.evaluate(([name, args]) => window[name](...args), [name, args]);
tell("memory, from the server", await run("memory", server.url, false));
tell("IndexedDB, from the server", await run("local", server.url, false));
for (let i = 0; i < 2; i++) {
  tell("memory, the client alone", await run("memory", server.url, true));
  if (i === 0) tell("IndexedDB, the client alone", await run("local", server.url, true));
}
const [count, kept] = await run("writes", 500, false);
tell("own writes, one after the other, each on disk", [count, kept]);
const [, together, sent] = await run("writes", 500, true);
tell("own writes, together, each on disk", [count, together]);
tell("own writes, together, confirmed by the server", [count, sent]);
await browser.close();
await pages.close();
tide.close();
await server.close();
