// Tokens at the real server: who is let in, renewed while streams stay, and what nobody may see.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import { open, Server, until } from "./harness.mjs";

const SECRET = "0123456789abcdef0123456789abcdef";
const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
function token(seconds, sub = "ada") {
  const claims = { sub, roles: ["own"], exp: Date.now() / 1000 + seconds };
  const text = `${encode({ alg: "HS256", kid: "main" })}.${encode(claims)}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}
let server;
before(async () => {
  server = new Server();
  server.directory = mkdtempSync(path.join(tmpdir(), "tidewire-js-"));
  const [secret, config] = ["secret.key", "tidewire.yaml"].map((name) => path.join(server.directory, name));
  writeFileSync(secret, `${SECRET}\n`);
  chmodSync(secret, 0o600);
  writeFileSync(config, `
auth:
  keys:
    - {kid: main, alg: HS256, file: "${secret}"}
  rules:
    - {role: own, collection: notes, verbs: [read, insert, update, remove], filter: '{"owner": "$claims.sub"}'}
collections:
  - {name: notes}
  - {name: others}
`);
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
