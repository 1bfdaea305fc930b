// The hooks in React itself, in StrictMode, without a browser: react-dom on jsdom's document.
import "fake-indexeddb/auto";
import { JSDOM } from "jsdom";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";

import { RealtimeDb } from "../dist/local/index.js";
import { open, Server, until } from "./harness.mjs";

const dom = new JSDOM("<!doctype html><main></main>", { pretendToBeVisual: true });
for (const name of ["window", "document", "navigator", "requestAnimationFrame"]) {
  globalThis[name] = name === "window" ? dom.window : dom.window[name]; // before react-dom is loaded
}
const { createElement: h, StrictMode } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useCollection, useConnection, useDatabase, useRecord, useStream } =
  await import("../dist/react.js");

let server, tide;
before(async () => {
  server = await new Server().start();
  tide = open(server.url);
});
after(async () => {
  tide.close();
  await server.close();
  dom.window.close();
});

function show(element) {
  const place = dom.window.document.createElement("main");
  const root = createRoot(place);
  root.render(h(StrictMode, null, element));
  return { text: () => place.textContent, close: () => root.unmount() };
}

test("useStream: two components and StrictMode share one stream, which ends after them", async () => {
  await tide.db.put("people", { _id: 1, name: "Ada" });
  let renders = 0;
  const People = () => {
    renders++;
    const { records, isSynced } = useStream(tide, { people: "*" });
    return h("p", null, isSynced ? records.map((r) => r.name).join() : "…");
  };
  const page = show(h("div", null, h(People), h(People)));
  await until(() => page.text() === "AdaAda", "both show Ada");
  assert.equal(tide.figures.streams, 1);
  const before = renders;
  await tide.db.put("people", { _id: 2, name: "Grace" });
  await until(() => page.text() === "Ada,GraceAda,Grace", "both show Grace");
  assert.equal(renders - before, 4, "one render a component (StrictMode renders twice)");
  page.close();
  await until(() => tide.figures.streams === 0, "the stream's end");
});

test("useStream tells an error; undefined asks nothing", async () => {
  const Wrong = ({ query }) => {
    const { error, records } = useStream(tide, query);
    return h("p", null, error?.code ?? `none ${records.length}`);
  };
  const page = show(h(Wrong, { query: { people: { filter: { $where: 1 } } } }));
  await until(() => page.text() === "bad_filter", "the code");
  page.close();
  const idle = show(h(Wrong, { query: undefined }));
  await until(() => idle.text() === "none 0", "nothing");
  idle.close();
});

test("useRecord and useConnection follow one record and the state", async () => {
  const Person = () => {
    const { record, isSynced } = useRecord(tide, "people", 1);
    return h("p", null, `${useConnection(tide)} ${isSynced ? (record?.name ?? "gone") : "…"}`);
  };
  const page = show(h(Person));
  await until(() => page.text() === "online Ada", "Ada");
  await tide.db.update("people", 1, { name: "Ada L." });
  await until(() => page.text() === "online Ada L.", "the new name");
  await tide.db.remove("people", 1);
  await until(() => page.text() === "online gone", "the removal");
  await server.kill();
  await until(() => page.text() === "offline gone" || page.text() === "connecting gone", "offline");
  await server.start();
  await until(() => page.text() === "online gone", "online again");
  page.close();
});

test("useDatabase and useCollection show the local copy", async () => {
  const schema = { name: "crm", version: 1, collections: [{ name: "person", keyPath: "_id" }] };
  const local = new RealtimeDb(server.url, { schemas: [schema], WebSocket, name: "react" });
  const Local = ({ least }) => {
    const { database, error } = useDatabase(local, "crm");
    const { records, isReady } = useCollection(database, "person", { sort: "age", where: least });
    return h("p", null, error?.code ?? `${isReady} ${records.map((r) => r.name).join()}`);
  };
  const old = (person) => person.age > 30;
  const page = show(h(Local, { least: old }));
  await until(() => page.text() === "true ", "ready and empty");
  const crm = await local.open("crm");
  await crm.put("person", { _id: 1, name: "Grace", age: 85 });
  await crm.put("person", { _id: 2, name: "Ada", age: 36 });
  await crm.put("person", { _id: 3, name: "Kim", age: 7 });
  await until(() => page.text() === "true Ada,Grace", "both, by age");
  page.close();
  local.close();
});
