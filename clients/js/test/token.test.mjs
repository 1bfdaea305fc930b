// Tokens: when they are asked for, and where they go. The server is a double that refuses and expires them at
// will, which a real one would take minutes for.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebSocketServer } from "ws";

import { open, until } from "./harness.mjs";

let server, url;
/** `judge(token)`: 0 to refuse it, else the seconds it is good for. */
let judge = () => 3600;
let seen = []; // "hello TOKEN", and the path of each connection
before(async () => {
  server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await new Promise((done) => server.once("listening", done));
  url = `ws://127.0.0.1:${server.address().port}`;
  server.on("connection", (socket, request) => {
    seen.push(request.url);
    let timer;
    socket.on("message", (data) => {
      const frame = JSON.parse(data);
      if (frame.type === "ping") socket.send('{"type":"pong"}');
      if (frame.type === "subscribe") socket.send(JSON.stringify({ type: "sync", mux_id: frame.mux_id, since: [[1, 1]] }));
      if (frame.type !== "hello") return;
      seen.push(`hello ${frame.token}`);
      clearTimeout(timer);
      const seconds = judge(frame.token);
      const refuse = () => {
        socket.send(JSON.stringify({ type: "error", code: "token", message: "The token has expired.", hint: "", retry: "no" }));
        socket.close(4401, "token");
      };
      if (seconds === 0) return refuse();
      timer = setTimeout(refuse, (seconds < 1 ? 0 : seconds + 30) * 1000); // with the real one's leeway
      timer.unref();
      socket.send(JSON.stringify({ type: "welcome", protocol: 1, srv_id: 1, limits: {}, expires: Date.now() / 1000 + seconds }));
    });
  });
});
after(() => {
  for (const client of server.clients) client.terminate();
  server.close();
});

/** A connection that asks for tokens a, b, c, …, and why it did. */
function client(options = {}) {
  seen = [];
  const asked = [];
  const tide = open(url, {
    getToken: (why) => {
      asked.push(why);
      return Promise.resolve(String.fromCharCode(96 + asked.length));
    },
    ...options,
  });
  const states = [];
  const errors = [];
  tide.on("state", (state) => states.push(state));
  const refusals = []; // as the connection has them when it tells
  tide.on("error", (error) => {
    errors.push(error.code);
    refusals.push(tide.refusal);
  });
  return { tide, asked, states, errors, refusals };
}

test("the token stands in hello, never in the URL", async () => {
  judge = () => 3600;
  const { tide, asked, errors } = client();
  await until(() => tide.state === "online", "online");
  assert.deepEqual(seen, ["/ws", "hello a"]);
  for (const socket of server.clients) socket.terminate();
  await until(() => seen.length === 4, "the next connection");
  assert.deepEqual([seen, asked, errors], [["/ws", "hello a", "/ws", "hello b"], ["connect", "connect"], []]);
  tide.close();
});

test("before it expires another is asked for; the connection and its streams stay", async () => {
  judge = (token) => (token === "a" ? 4 : 3600);
  const { tide, asked, states, errors } = client();
  const stream = tide.subscribe({ a: "*" });
  await stream.synced;
  await until(() => seen.includes("hello b"), "the next token");
  await until(() => tide.server.expires > Date.now() / 1000 + 60, "a welcome with it");
  assert.deepEqual(asked, ["connect", "expiry"]);
  assert.deepEqual([seen, states, errors], [["/ws", "hello a", "hello b"], ["connecting", "online"], []]);
  assert.equal(stream.isLive, true);
  tide.close();
});

test("a refused token: another at once; refused too: told, and tried with back-off", async () => {
  judge = (token) => (token >= "e" ? 3600 : 0);
  const { tide, asked, states, errors, refusals } = client();
  await until(() => tide.state === "online", "a token that is good");
  assert.equal(tide.refusal, undefined);
  assert.deepEqual([refusals[0].code, refusals[0].message], ["token", "The token has expired."]);
  assert.deepEqual(asked, ["connect", "refused", "refused", "refused", "refused"]);
  assert.deepEqual(errors, ["token", "token", "token"]);
  assert.equal(states.at(-1), "online");
  tide.close();
});

test("one refusal that a new token mends is nobody's business", async () => {
  judge = (token) => (token === "a" ? 0 : 3600);
  const { tide, asked, errors } = client({ backoff: { baseMs: 600_000, maxMs: 600_000 } });
  await until(() => tide.state === "online", "online, without waiting for the back-off");
  assert.deepEqual([asked, errors], [["connect", "refused"], []]);
  tide.close();
});

test("a server that lets in and refuses again and again is not stormed", async () => {
  judge = () => 0.001;
  const { tide, asked } = client({ backoff: { baseMs: 600_000, maxMs: 600_000 } });
  await until(() => tide.refusal?.code === "token" && tide.state === "offline", "the back-off");
  assert.deepEqual(asked, ["connect", "refused"]);
  tide.close();
});

test("getToken fails: told with no_token, tried again", async () => {
  judge = () => 3600;
  let calls = 0;
  const { tide, errors } = client({
    getToken: () => {
      if (++calls < 3) throw new Error("no network");
      return "good";
    },
  });
  await until(() => tide.state === "online", "online");
  assert.deepEqual(errors, ["no_token", "no_token"]);
  assert.equal(tide.refusal, undefined);
  assert.equal(calls, 3);
  tide.close();
});
