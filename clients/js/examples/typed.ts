// TypeScript: a live set of typed records, a write with its fence, and an error to branch on.
import { connect, covers, LiveSet, TidewireError, type Doc } from "@tidewire/client";
import { WebSocket } from "ws";

interface Person extends Doc {
  _id: string;
  name: string;
  age: number;
}

const tide = connect(process.argv[2] ?? "ws://127.0.0.1:8090", { WebSocket });
const people = new LiveSet<Person>(tide.subscribe({ people: "*" }));
await people.stream.synced;

const { since, version } = await tide.db.put("people", { _id: "grace", name: "Grace", age: 85 });
while (!covers(people.stream.since, since)) {
  await new Promise<void>((told) => {
    const stop = people.subscribe(() => (stop(), told()));
  });
}
console.log(people.records.map((person) => `${person.name} ${person.age}`).join(", "));

try {
  await tide.db.put("people", { _id: "grace", name: "G." }, { if_version: version + 1 });
} catch (error) {
  if (!(error instanceof TidewireError)) throw error;
  console.log(error.code); // conflict: somebody else has written meanwhile
}
await tide.db.remove("people", "grace");
people.close();
tide.close();
