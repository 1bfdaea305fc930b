// A realtime database client as an app has it, with npm's ws: a copy that is changed by events, and
// a person who adds, puts and deletes at random. Reads lines from stdin:
//   go        begins to write          stop   writes no more, waits until all is answered
//   reach N   waits until N of its writes were answered, and one met a conflict
//   past S N  waits until the copy has passed position [S, N], then prints it as one line of JSON
// node realtime.mjs URL DB SEED
import readline from "node:readline";
import WebSocket from "ws";

const [url, db, seed] = process.argv.slice(2);
const collections = ["person", "company"];
let copy = {}, since = null, synced = false, socket = null, writing = false;
let number = 0, pending = null, passing = null, reaching = null, written = 0, conflicts = 0, state = Number(seed);

const random = (n) => { // a small generator: any run can be replayed
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return (state >> 8) % n;
};
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

function write() {
  if (!writing || pending !== null || socket === null || !synced) return;
  const event = ["DB_RECORD_ADD", "DB_RECORD_PUT", "DB_RECORD_PUT", "DB_RECORD_DELETE"][random(4)];
  const collection = collections[random(2)], key = "k" + random(12);
  pending = { event, db, collection, reqID: ++number, opid: `${seed}:${number}` };
  if (event === "DB_RECORD_DELETE") pending.key = key;
  else pending.record = { _id: key, by: seed, n: number };
  socket.send(JSON.stringify(pending));
}

function apply(frame) {
  const of = (copy[frame.collection] ??= {});
  const key = JSON.stringify(frame.key);
  if (frame.event === "DB_RECORD_ADD" || frame.event === "DB_RECORD_PUT") of[key] = frame.record;
  else if (frame.event === "DB_RECORD_DELETE") delete of[key];
  else if (frame.event === "DB_COLLECTION_DROP") copy[frame.collection] = {};
  else if (frame.event === "DB_DATABASE_DROP") copy = {};
  else throw new Error(JSON.stringify(frame));
  if (synced) since = [[frame.srv_id, frame.seqno]];
}

function tell() {
  if (passing === null || since === null || !synced) return;
  if (since.some(([srv, seqno]) => srv === passing[0] && seqno >= passing[1])) {
    say({ copy, since });
    passing = null;
  }
}

function count() {
  if (reaching === null || written < reaching || conflicts === 0) return;
  say({ reached: reaching });
  reaching = null;
}

function hear(frame) {
  if (frame.type === "error" && frame.event === undefined) throw new Error(JSON.stringify(frame));
  if (frame.event === "DB_RESET") copy = {};
  else if (frame.event === "DB_SYNC") {
    if (!synced) say({ synced: true });
    synced = true;
    since = frame.since;
    if (pending !== null) socket.send(JSON.stringify(pending)); // its answer was lost with the server
  } else if (frame.event === "DB_DONE" || frame.type === "error") {
    if (pending !== null && frame.reqID === pending.reqID) {
      const passes = frame.type === "error" && frame.retry !== "no";
      if (frame.code === "conflict") conflicts++;
      if (frame.event === "DB_DONE") written++;
      if (passes) setTimeout(() => socket?.send(JSON.stringify(pending)), 20);
      else pending = null;
      if (!writing && pending === null) say({ stopped: true, written, conflicts });
    }
  } else if (frame.seqno !== undefined) apply(frame);
  tell();
  count();
  write();
}

function open() {
  const made = new WebSocket(url);
  made.on("open", () => {
    socket = made;
    const again = since === null ? {} : { since };
    made.send(JSON.stringify({ event: "DB_SCHEMA", db, client: "node" + seed, ...again }));
  });
  made.on("message", (data) => hear(JSON.parse(data)));
  made.on("error", () => {});
  made.on("close", () => {
    socket = null;
    synced = false;
    setTimeout(open, 20);
  });
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const words = line.split(" ");
  if (words[0] === "go") writing = true;
  if (words[0] === "stop") {
    writing = false;
    if (pending === null) say({ stopped: true, written, conflicts });
  }
  if (words[0] === "past") passing = [Number(words[1]), Number(words[2])];
  if (words[0] === "reach") reaching = Number(words[1]);
  tell();
  count();
  write();
}).on("close", () => process.exit(0));
open();
