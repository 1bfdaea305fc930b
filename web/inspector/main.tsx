/* main.tsx - the inspector: figures from the admin listener, records by the public protocol. */
import { connect, type Connection } from "@tidewire/client/index.ts";
import { useConnection } from "@tidewire/client/react.ts";
import { render, type ComponentChild } from "preact";
import { useEffect, useState } from "preact/hooks";

import "../shared/base.css";
import "./inspector.css";
import { ActorGraph, ActorTable } from "./actors.tsx";
import { Charts } from "./charts.tsx";
import { Console } from "./console.tsx";
import { ask, bytes, count, gauge, useHistory, type Configz, type Figures, type History } from "./figures.ts";
import { Records, Search } from "./records.tsx";
import { Configuration, Connections, Topics } from "./tables.tsx";

interface Shared {
  history: History;
  configz: Configz;
  url: string;
  tide: Connection;
}
const views: { [name: string]: (shared: Shared) => ComponentChild } = {
  Overview: ({ history: { samples } }) => (
    <>
      <Sum figures={samples.at(-1)} />
      <Charts samples={samples} />
    </>
  ),
  Actors: ({ history: { samples } }) => (
    <>
      <ActorGraph samples={samples} />
      <ActorTable figures={samples.at(-1)} />
    </>
  ),
  Streams: ({ history: { samples } }) => (
    <>
      <Topics figures={samples.at(-1)} />
      <Connections figures={samples.at(-1)} />
    </>
  ),
  Console: ({ url }) => <Console url={url} />,
  Records: ({ tide, configz }) => (
    <Records tide={tide} collections={configz.configuration?.collections ?? []} />
  ),
  Search: ({ tide, configz }) => (
    <Search tide={tide} collections={configz.configuration?.collections ?? []} />
  ),
  Configuration: ({ configz }) => <Configuration configz={configz} />,
};

/** The public port, by the address that this page was reached with, where that serves both. A policy
 * cannot name an IPv6 address: those go by localhost. */
function publicUrl({ listen }: Configz): string {
  const isAny = /^(0\.0\.0\.0|127\..*|localhost)$/.test(listen.address);
  const host = isAny ? location.hostname : listen.address;
  return `${listen.tls ? "wss" : "ws"}://${host.includes(":") ? "localhost" : host}:${listen.port}/ws`;
}

function useView(): string {
  const read = () => decodeURIComponent(location.hash.slice(1));
  const [name, setName] = useState(read);
  useEffect(() => {
    const changed = () => setName(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return name in views ? name : "Overview";
}

function App() {
  const history = useHistory();
  const [shared, setShared] = useState<{ configz: Configz; url: string; tide: Connection }>();
  const [problem, setProblem] = useState("");
  useEffect(() => {
    ask<Configz>("/configz").then(
      (configz) => {
        const url = publicUrl(configz);
        setShared({ configz, url, tide: connect(url) });
      },
      (error: Error) => setProblem(error.message),
    );
  }, []);
  const current = useView();
  const View = views[current] as (shared: Shared) => ComponentChild;
  return (
    <>
      <header class="bar">
        <h1>Tidewire</h1>
        <nav aria-label="Views">
          {Object.keys(views).map((name) => (
            <a key={name} href={`#${name}`} aria-current={name === current ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <Status history={history} tide={shared?.tide} />
      </header>
      <main class="view">
        <h2 class="hidden">{current}</h2>
        {(history.error ?? problem) !== "" && (history.error ?? problem) !== undefined && (
          <p class="note bad" role="alert">
            The admin listener does not answer: {history.error ?? problem}.
            {history.samples.length > 0 && " What is shown is old."}
          </p>
        )}
        {shared === undefined ? (
          <p class="empty soft">{problem === "" ? "Waiting for the server…" : "Nothing to show."}</p>
        ) : (
          <View history={history} {...shared} />
        )}
      </main>
    </>
  );
}

function Status({ history, tide }: { history: History; tide: Connection | undefined }) {
  const health = history.error === undefined ? history.samples.at(-1)?.health : "unknown";
  return (
    <div class="row status" role="status">
      {tide && <SocketState tide={tide} />}
      <span class={`pill ${health === "green" ? "online" : health === undefined ? "" : "offline"}`}>
        health {health ?? "…"}
      </span>
    </div>
  );
}

function SocketState({ tide }: { tide: Connection }) {
  const state = useConnection(tide);
  return <span class={`pill ${state}`}>websocket {state}</span>;
}

function Sum({ figures }: { figures: Figures | undefined }) {
  const shown: [string, string][] = figures
    ? [
        ["Websockets", count(gauge(figures, "websockets"))],
        ["Streams", count(gauge(figures, "streams"))],
        ["Topics", count(figures.topics.length)],
        ["Records", count(gauge(figures, "log_records"))],
        ["Rows of the log", count(gauge(figures, "log_rows"))],
        ["Log on disk", bytes(gauge(figures, "log_bytes"))],
        ["Pending", bytes(figures.connections.reduce((sum, one) => sum + one.queued, 0))],
      ]
    : [];
  return (
    <dl class="sum">
      {shown.map(([name, value]) => (
        <div key={name} class="card">
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

render(<App />, document.getElementById("app") as HTMLElement);
