/* tables.tsx - connections by what waits for them, topics by who is behind, the configuration. */
import { useState } from "preact/hooks";

import { behind, bytes, count, type Configz, type Figures } from "./figures.ts";

const ROWS_MAX = 200; // shown; the whole list is at /connz and /streamz

export function Connections({ figures }: { figures: Figures | undefined }) {
  const all = figures?.connections ?? [];
  return (
    <div class="card scroll">
      <table>
        <caption>
          Connections, most pending bytes first{" "}
          <span class="soft">{all.length > ROWS_MAX && `(${ROWS_MAX} of ${count(all.length)})`}</span>
        </caption>
        <thead>
          <tr>
            <th>Connection</th>
            <th>Kind</th>
            <th>Address</th>
            <th>User</th>
            <th class="number">Streams</th>
            <th class="number">Pending</th>
            <th class="number">Quiet for</th>
          </tr>
        </thead>
        <tbody>
          {all.slice(0, ROWS_MAX).map((one) => (
            <tr key={`${one.gateway}.${one.id}`}>
              <th scope="row">{one.id}</th>
              <td>{one.kind}</td>
              <td>{one.address}</td>
              <td>{one.user}</td>
              <td class="number">{count(one.streams)}</td>
              <td class="number">{bytes(one.queued)}</td>
              <td class="number">{(one.quiet_ms / 1000).toFixed(1)} s</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** A question as the server keeps it: each collection with its filter and fields. */
function Asks({ asks }: { asks: unknown }) {
  const parts = (asks as { c?: { d: string; n: string; f?: object; s?: string[] }[] } | null)?.c;
  if (!Array.isArray(parts)) return <code class="asks">{JSON.stringify(asks)}</code>;
  return (
    <ul class="asked">
      {parts.map(({ d, n, ...rest }) => (
        <li key={`${d}.${n}`}>
          <b>{d === "main" ? n : `${d}.${n}`}</b>{" "}
          <code class="asks">{Object.values(rest).map((one) => JSON.stringify(one)).join(" ") || "everything"}</code>
        </li>
      ))}
    </ul>
  );
}

export function Topics({ figures }: { figures: Figures | undefined }) {
  const all = figures?.topics ?? [];
  if (all.length === 0) {
    return <p class="empty soft">Nobody is subscribed. Open the console and subscribe to something.</p>;
  }
  return (
    <div class="card scroll">
      <table>
        <caption>
          Topics: equal questions are one{" "}
          <span class="soft">{all.length > ROWS_MAX && `(${ROWS_MAX} of ${count(all.length)})`}</span>
        </caption>
        <thead>
          <tr>
            <th>Asks for</th>
            <th class="number">Streams</th>
            <th class="number">Live</th>
            <th class="number">Catching up</th>
            <th class="number">Topic</th>
          </tr>
        </thead>
        <tbody>
          {all.slice(0, ROWS_MAX).map((topic) => (
            <tr key={`${topic.gateway}.${topic.topic}`}>
              <td>
                <Asks asks={topic.asks} />
              </td>
              <td class="number">{count(topic.streams)}</td>
              <td class="number">{count(topic.live)}</td>
              <td class="number">{count(behind(topic))}</td>
              <td class="number soft">{topic.topic}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Configuration({ configz }: { configz: Configz | undefined }) {
  const [changed, setChanged] = useState(false);
  const told = configz?.configuration;
  if (!told) return <p class="empty soft">The server tells no configuration.</p>;
  const options = told.options.filter((option) => !changed || option.origin !== "default");
  return (
    <div class="stack">
      <div class="between">
        <p>
          {told.file === null ? "No file was read." : <>File <code>{told.file}</code>.</>} Passwords in URLs are
          masked.
        </p>
        <label class="check">
          <input
            type="checkbox"
            checked={changed}
            onChange={(event) => setChanged(event.currentTarget.checked)}
          />
          Without defaults
        </label>
      </div>
      <div class="card scroll">
        <table>
          <caption>Options, and where each value comes from</caption>
          <thead>
            <tr>
              <th>Option</th>
              <th>Value</th>
              <th>From</th>
              <th>Meaning</th>
            </tr>
          </thead>
          <tbody>
            {options.map((option) => (
              <tr key={`${option.section}.${option.key}`}>
                <th scope="row">
                  {option.section}.{option.key}
                </th>
                <td>
                  {option.value === "" ? <span class="soft">empty</span> : <code>{String(option.value)}</code>}
                </td>
                <td class={option.origin === "default" ? "soft" : "origin"}>{option.origin}</td>
                <td class="soft">{option.help}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {options.length === 0 && <p class="empty soft">Every option has its default.</p>}
      </div>
      <div class="card scroll">
        <table>
          <caption>Declared collections</caption>
          <thead>
            <tr>
              <th>Name</th>
              <th>Database</th>
              <th>Key</th>
              <th>Shape</th>
              <th>Rules</th>
              <th>Scope</th>
            </tr>
          </thead>
          <tbody>
            {told.collections.map((one) => (
              <tr key={`${one.database}.${one.name}`}>
                <th scope="row">{one.name}</th>
                <td>{one.database}</td>
                <td>{one.key}</td>
                <td>{one.shape}</td>
                <td>{one.rules}</td>
                <td>{one.scope ?? <span class="soft">none</span>}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {told.collections.length === 0 && <p class="empty soft">None: each comes into being by its first write.</p>}
      </div>
    </div>
  );
}
