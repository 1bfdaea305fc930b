// React: a list that stays true, and one that works offline.
import { connect } from "@tidewire/client";
import { RealtimeDb } from "@tidewire/client/local";
import { useCollection, useConnection, useDatabase, useStream } from "@tidewire/client/react";
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";

const url = new URLSearchParams(location.search).get("url") ?? "ws://127.0.0.1:8090";
const tide = connect(url);
const local = new RealtimeDb(url, {
  schemas: [{ name: "crm", version: 1, collections: [{ name: "notes", keyPath: "_id" }] }],
});

function People() {
  const { records, isSynced, error } = useStream<{ _id: string; name: string }>(tide, { people: "*" });
  if (error) return <p>{error.message}</p>;
  if (!isSynced) return <p>Loading…</p>;
  return (
    <ul>
      {records.map((person) => (
        <li key={person._id}>{person.name}</li>
      ))}
    </ul>
  );
}

/** Notes are written to IndexedDB at once, and to the server when it can be reached. */
function Notes() {
  const { database } = useDatabase(local, "crm");
  const { records } = useCollection<{ _id: string; text: string }>(database, "notes", { sort: "text" });
  const [text, setText] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void database?.put("notes", { text });
        setText("");
      }}
    >
      <input aria-label="Note" value={text} onChange={(event) => setText(event.target.value)} />
      <ol>
        {records.map((note) => (
          <li key={note._id}>{note.text}</li>
        ))}
      </ol>
    </form>
  );
}

function App() {
  return (
    <main>
      <p>{useConnection(tide)}</p>
      <People />
      <Notes />
    </main>
  );
}

createRoot(document.body.appendChild(document.createElement("div"))).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
