/* main.tsx - the demo: two people, each with a connection of their own, edit one report. */
import { connect } from "@tidewire/client/index.ts";
import { useConnection } from "@tidewire/client/react.ts";
import { render } from "preact";
import { useState } from "preact/hooks";

import "../shared/base.css";
import "./demo.css";
import { Chunks } from "./chunks.tsx";
import { PROJECT, REPORT, useReport, type Report } from "./report.ts";
import { RowView, type Person } from "./row.tsx";
import { makeSwitch } from "./switched.ts";

const people = [
  { id: 314, name: "Ada" },
  { id: 271, name: "Grace" },
].map((person) => {
  const network = makeSwitch();
  const tide = connect("/", { WebSocket: network.Socket, backoff: { maxMs: 3000 } });
  return { person, network, tide };
});

function App() {
  return (
    <>
      <header class="top">
        <div>
          <h1>A report that two people edit</h1>
          <p class="soft">
            Each side is a client of its own. Take both offline, edit the same row, and come back: nothing
            is lost, and what contradicts is shown. Or <a href="" target="_blank">open another tab</a>.
          </p>
        </div>
      </header>
      <main class="panes">
        {people.map((each) => (
          <Pane key={each.person.id} {...each} />
        ))}
      </main>
    </>
  );
}

function Pane({ person, network, tide }: (typeof people)[number]) {
  const state = useConnection(tide);
  const report = useReport(tide);
  const [isOn, setOn] = useState(network.isOn);
  return (
    <section class="card pane" aria-label={person.name}>
      <div class="between pane-head">
        <h2>{person.name}</h2>
        <div class="row">
          <span class={`pill ${state}`} role="status">
            {state}
          </span>
          <label class="switch">
            <input
              type="checkbox"
              role="switch"
              checked={!isOn}
              onChange={(event) => {
                const wanted = !event.currentTarget.checked;
                network.set(wanted);
                setOn(wanted);
              }}
            />
            Offline
          </label>
        </div>
      </div>
      <Notes report={report} isOnline={state === "online"} isOn={isOn} />
      <Rows report={report} me={person} />
    </section>
  );
}

function Notes({ report, isOnline, isOn }: { report: Report; isOnline: boolean; isOn: boolean }) {
  const { waiting, refusal, error } = report;
  return (
    <div class="notes" aria-live="polite">
      {!isOnline && report.isSynced && (
        <p class="note warn">
          {isOn ? "The server cannot be reached." : "Offline by the switch."}{" "}
          {waiting === 0
            ? "What you write waits here."
            : `${waiting === 1 ? "1 write waits" : `${waiting} writes wait`} for the network.`}
        </p>
      )}
      {error && (
        <p class="note bad">
          The report cannot be read: {error.message}. {error.hint}
        </p>
      )}
      {refusal && (
        <p class="note bad between">
          <span>
            The server refused a write: {refusal.message}. {refusal.hint}
          </span>
          <button onClick={report.forgetRefusal}>Dismiss</button>
        </p>
      )}
    </div>
  );
}

function Rows({ report, me }: { report: Report; me: Person }) {
  if (!report.isSynced && report.rows.length === 0) {
    return <p class="empty soft">{report.error ? "Nothing to show." : "Waiting for the server…"}</p>;
  }
  return (
    <>
      {report.rows.length === 0 ? (
        <p class="empty soft">No rows yet. Add the first one below.</p>
      ) : (
        <ul class="rows">
          <Chunks items={report.rows}>
            {(row) => <RowView key={row.entry.entry_uuid} row={row} me={me} report={report} />}
          </Chunks>
        </ul>
      )}
      <AddRow report={report} me={me} />
    </>
  );
}

function AddRow({ report, me }: { report: Report; me: Person }) {
  const [text, setText] = useState("");
  const last = report.rows.at(-1)?.entry.heads[0].clip_id ?? "11";
  const add = () => {
    report.write("entries", {
      proj_id: PROJECT,
      report_uuid: REPORT,
      entry_uuid: crypto.randomUUID(),
      version_uuid: crypto.randomUUID(),
      user_id: me.id,
      clip_id: nextClip(last),
      content: { speaker: me.name, text },
      modifies: null,
      reason: null,
    });
    setText("");
  };
  return (
    <form
      class="row add"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() !== "") add();
      }}
    >
      <input
        aria-label={`New row by ${me.name}`}
        placeholder="New row"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button class="main" disabled={text.trim() === ""}>
        Add row
      </button>
    </form>
  );
}

/** 11a, 11b … 11z, 11za: sorts behind. */
function nextClip(last: string): string {
  const end = last.at(-1) ?? "";
  return end >= "a" && end < "z" ? last.slice(0, -1) + String.fromCharCode(end.charCodeAt(0) + 1) : `${last}a`;
}

render(<App />, document.getElementById("app") as HTMLElement);
