// Plain JavaScript: what is stored, then every change. Node: node plain.mjs [URL]
import { connect } from "@tidewire/client";
import { WebSocket } from "ws"; // Node 20 has none of its own; browsers do

const tide = connect(process.argv[2] ?? "ws://127.0.0.1:8090", { WebSocket });
await tide.db.put("people", { _id: "ada", name: "Ada", age: 36 });

const stream = tide.subscribe({ people: { filter: { age: { $gte: 18 } } } });
for await (const event of stream) {
  if (event.kind === "put") console.log(`${event.key} is ${event.doc.name}, ${event.doc.age}`);
  if (event.kind === "remove") {
    console.log(`${event.key} ${event.why}`);
    break; // leaving the loop closes the stream
  }
  if (event.kind === "sync") {
    console.log("synced");
    await tide.db.update("people", "ada", [["INC", "age", 1]]);
    await tide.db.remove("people", "ada");
  }
}
tide.close();
