/* actors.tsx - the actors as a graph: who speaks to whom, and what waits in each mailbox. */
import { count, type Actor, type Figures } from "./figures.ts";

const COLUMNS = [
  ["gateway", "service"],
  [
    "subscription_manager",
    "processor",
    "embedded_search",
    "es_proxy",
    "indexer",
    "mongo_reader",
    "mongo_writer",
    "change_tailer",
  ],
  ["log_reader"],
  ["store"],
];
/** Who asks whom; ends stand for all actors of that name. */
const EDGES = [
  ["gateway", "subscription_manager"],
  ["gateway", "processor"],
  ["gateway", "log_reader"],
  ["gateway", "embedded_search"],
  ["gateway", "es_proxy"],
  ["gateway", "mongo_reader"],
  ["gateway", "mongo_writer"],
  ["service", "log_reader"],
  ["processor", "log_reader"],
  ["embedded_search", "log_reader"],
  ["indexer", "log_reader"],
  ["indexer", "es_proxy"],
  ["subscription_manager", "store"],
  ["change_tailer", "store"],
  ["log_reader", "store"],
];
const BOX = { width: 230, height: 66, gapX: 90, gapY: 18 };
const QUEUE_FULL = 4096; // messages a mailbox takes

interface Placed {
  actor: Actor;
  x: number;
  y: number;
  perSecond: number;
}

const kindOf = (name: string) => name.replace(/\.\d+$/, "");

function place(figures: Figures, before: Figures | undefined): { boxes: Placed[]; height: number } {
  const seconds = before === undefined ? 1 : (figures.atMs - before.atMs) / 1000;
  const columns: Actor[][] = COLUMNS.map(() => []);
  for (const actor of figures.actors) {
    const found = COLUMNS.findIndex((kinds) => kinds.includes(kindOf(actor.name)));
    (columns[found < 0 ? COLUMNS.length - 1 : found] as Actor[]).push(actor);
  }
  const tall = Math.max(1, ...columns.map((column) => column.length));
  const height = tall * (BOX.height + BOX.gapY) - BOX.gapY;
  const boxes = columns.flatMap((column, c) => {
    const top = (height - (column.length * (BOX.height + BOX.gapY) - BOX.gapY)) / 2;
    return column.map((actor, i) => {
      const old = before?.actors.find((each) => each.name === actor.name);
      return {
        actor,
        x: 1 + c * (BOX.width + BOX.gapX),
        y: 1 + top + i * (BOX.height + BOX.gapY),
        perSecond: old === undefined ? 0 : Math.max(0, actor.handled - old.handled) / seconds,
      };
    });
  });
  return { boxes, height: height + 2 };
}

export function ActorGraph({ samples }: { samples: readonly Figures[] }) {
  const now = samples.at(-1);
  if (now === undefined) return <p class="empty soft">Waiting for the first figures…</p>;
  const { boxes, height } = place(now, samples.at(-2));
  const edges = boxes.flatMap((from) =>
    boxes
      .filter((to) => EDGES.some(([a, b]) => a === kindOf(from.actor.name) && b === kindOf(to.actor.name)))
      .map((to) => ({ from, to })),
  );
  const width = COLUMNS.length * BOX.width + (COLUMNS.length - 1) * BOX.gapX + 2;
  return (
    <div class="card graph">
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label="Actors and their mailboxes">
        {edges.map(({ from, to }) => {
          const [x1, y1] = [from.x + BOX.width, from.y + BOX.height / 2];
          const isBeside = to.x === from.x; // in one column: round its side
          const [x2, y2] = [isBeside ? x1 : to.x, to.y + BOX.height / 2];
          const bend = BOX.gapX / (isBeside ? -2 : 2);
          return (
            <path
              key={`${from.actor.name} ${to.actor.name}`}
              class="edge"
              d={`M${x1},${y1} C${x1 + Math.abs(bend)},${y1} ${x2 - bend},${y2} ${x2},${y2}`}
            />
          );
        })}
        {boxes.map(({ actor, x, y, perSecond }) => (
          <g key={actor.name} transform={`translate(${x},${y})`}>
            <rect class={`box ${actor.state}`} width={BOX.width} height={BOX.height} rx="8" />
            <text class="name" x="12" y="24">
              {actor.name}
            </text>
            <text class="figure" x="12" y="44">
              {actor.state} · {count(Math.round(perSecond))}/s · {count(actor.waiting)} waiting
            </text>
            <rect class="queue" x="12" y="53" width={BOX.width - 24} height="5" rx="2.5" />
            <rect
              class="filled"
              x="12"
              y="53"
              width={Math.min(1, actor.waiting / QUEUE_FULL) * (BOX.width - 24)}
              height="5"
              rx="2.5"
            />
          </g>
        ))}
      </svg>
    </div>
  );
}

export function ActorTable({ figures }: { figures: Figures | undefined }) {
  return (
    <div class="card scroll">
      <table>
        <caption>Every actor's gauges</caption>
        <thead>
          <tr>
            <th>Actor</th>
            <th class="number">Handled</th>
            <th class="number">Waiting</th>
            <th class="number">Gaps</th>
            <th>Gauges that are not zero</th>
          </tr>
        </thead>
        <tbody>
          {figures?.actors.map((actor) => (
            <tr key={actor.name}>
              <th scope="row">{actor.name}</th>
              <td class="number">{count(actor.handled)}</td>
              <td class="number">{count(actor.waiting)}</td>
              <td class="number">{count(actor.gaps)}</td>
              <td>
                <div class="gauges">
                  {Object.entries(actor.gauges)
                    .filter(([, value]) => value !== 0)
                    .map(([name, value]) => (
                      <span key={name}>
                        {name} <b>{count(value)}</b>
                      </span>
                    ))}
                </div>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
