// Tokens at the real server: who is let in, renewed while streams stay, what nobody may see, and what becomes of
// records when rights change.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";

import { LiveSet } from "../dist/index.js";
import { RealtimeDb } from "../dist/local/index.js";
import { open, Server, until } from "./harness.mjs";

const SECRET = "0123456789abcdef0123456789abcdef";
const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
function token(seconds, { sub = "ada", roles = ["own"], ...more } = {}) {
  const claims = { sub, roles, exp: Date.now() / 1000 + seconds, ...more };
  const text = `${encode({ alg: "HS256", kid: "main" })}.${encode(claims)}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}
let server, secret, config;
/** The configuration, with what the role crew may do. */
function configure(crew) {
  writeFileSync(config, `
auth:
  keys:
    - {kid: main, alg: HS256, file: "${secret}"}
  rules:
    - {role: own, collection: notes, verbs: [read, insert, update, remove], filter: '{"owner": "$claims.sub"}'}
    - {role: root, collection: "*", verbs: [read, insert, update, remove]}
${crew.map((rule) => `    - {role: crew, verbs: [read], ${rule}}`).join("\n")}
collections:
  - {name: notes}
  - {name: others}
  - {name: logs}
`);
}
const OF_TEAM = `filter: '{"team": {"$in": "$claims.teams"}}'`;
before(async () => {
  server = new Server();
  server.directory = mkdtempSync(path.join(tmpdir(), "tidewire-js-"));
  [secret, config] = ["secret.key", "tidewire.yaml"].map((name) => path.join(server.directory, name));
  writeFileSync(secret, `${SECRET}\n`);
  chmodSync(secret, 0o600);
  configure([`collection: logs, ${OF_TEAM}`, "collection: others"]);
  server.flags = ["--config", config];
  await server.start();
});
after(() => server.close());

test("a token is renewed before it expires: the connection and its stream stay; rights hold", async () => {
  const asked = [];
  const tide = open(server.url, {
    getToken: (why) => {
      asked.push(why);
      return token(asked.length === 1 ? 5 : 600);
    },
  });
  const states = [];
  tide.on("state", (state) => states.push(state));
  const stream = tide.subscribe({ notes: "*" });
  const seen = [];
  stream.on("put", ({ key }) => seen.push(key));
  await stream.synced;
  await until(() => asked.length === 2 && tide.server.expires > Date.now() / 1000 + 60, "the renewal");
  await tide.db.put("notes", { _id: 1, owner: "ada" });
  await until(() => seen.length === 1, "the note, by the same stream");
  await assert.rejects(tide.db.put("notes", { _id: 2, owner: "grace" }), { code: "forbidden" });
  await assert.rejects(tide.subscribe({ others: "*" }).synced, { code: "forbidden" });
  assert.deepEqual([asked, states], [["connect", "expiry"], ["connecting", "online"]]);
  tide.close();
});

test("an expired token: another is asked for at once; one that stays bad is told", async () => {
  const asked = [];
  const tide = open(server.url, { getToken: (why) => (asked.push(why), token(why === "connect" ? -600 : 600)) });
  assert.equal((await tide.db.find("notes")).length, 1);
  assert.deepEqual(asked, ["connect", "refused"]);
  tide.close();
  const bad = open(server.url, { getToken: () => token(-600) });
  const error = await new Promise((done) => bad.on("error", done));
  assert.equal(error.code, "token");
  assert.notEqual(bad.state, "online");
  bad.close();
});

/** A connection of the role crew, and one that may write everything. */
async function crew() {
  const [root, ada] = [{ sub: "root", roles: ["root"] }, { roles: ["crew"], teams: ["red", "blue"] }].map((claims) =>
    open(server.url, { getToken: () => token(600, claims) }),
  );
  for (const [_id, owner, team] of [[1, "ada", "red"], [2, "bob", "red"], [3, "ada", "blue"]]) {
    await root.db.put("logs", { _id, owner, team, n: 1 });
  }
  return { root, ada };
}

test("why a record is gone: revoked, left, deleted", async () => {
  const { root, ada } = await crew();
  const stream = ada.subscribe({ logs: { filter: { n: 1 } } });
  const gone = [];
  stream.on("remove", ({ key, why }) => gone.push([key, why]));
  await stream.synced;
  await root.db.update("logs", 1, { team: "green" });
  await root.db.update("logs", 2, { n: 2 });
  await root.db.remove("logs", 3);
  await until(() => gone.length === 3, "three removals");
  assert.deepEqual(gone, [[1, "revoked"], [2, "left"], [3, "deleted"]]);
  root.close();
  ada.close();
});

test("other rules: the connection comes back, streams reset and tell what may be seen now", async () => {
  const { root, ada } = await crew();
  const set = new LiveSet(ada.subscribe({ logs: "*" }), { sort: "_id" });
  const lost = new LiveSet(ada.subscribe({ others: "*" }));
  const local = new RealtimeDb(server.url, {
    schemas: [{ name: "main", version: 1, collections: [{ name: "logs", keyPath: "_id" }] }],
    getToken: () => token(600, { roles: ["crew"], teams: ["red", "blue"] }),
    WebSocket,
  });
  const copy = await local.open("main");
  await until(async () => (await copy.count("logs")) === 3, "the copy");
  const told = [];
  set.stream.on("event", ({ kind, reason, key }) => told.push(reason ?? (kind === "sync" ? kind : [kind, key])));
  await Promise.all([set.stream.synced, lost.stream.synced]);
  assert.deepEqual(set.records.map(({ _id }) => _id), [1, 2, 3]);
  told.length = 0;
  configure([`collection: logs, filter: '{"owner": "$claims.sub"}'`]);
  server.process.kill("SIGHUP");
  await until(() => told.at(-1) === "sync", "the stream again");
  assert.deepEqual(told, ["changed", ["put", 1], ["put", 3], "sync"]); // not a word of 2
  assert.deepEqual(set.records.map(({ _id }) => _id), [1, 3]);
  await until(() => lost.error !== undefined, "the refusal");
  assert.equal(lost.error.code, "forbidden");
  await root.db.update("logs", 3, { owner: "bob" });
  await until(() => set.size === 1, "live under the new rules");
  await until(async () => (await copy.count("logs")) === 1, "the copy under the new rules");
  assert.equal((await copy.first("logs"))._id, 1);
  local.close();
  root.close();
  ada.close();
});
