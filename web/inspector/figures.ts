/* figures.ts - what the admin listener tells, asked for once a second while the page is looked at. */
import { useEffect, useState } from "preact/hooks";

export interface Actor {
  name: string;
  state: string;
  handled: number;
  /** Messages in its mailbox. */
  waiting: number;
  gaps: number;
  gauges: { [name: string]: number };
}
export interface ConnectionFigures {
  gateway: string;
  id: number;
  kind: string;
  address: string;
  /** The subject of its token; empty where there is none. */
  user: string;
  streams: number;
  /** Bytes that wait to be sent. */
  queued: number;
  quiet_ms: number;
  age_ms: number;
}
export interface Topic {
  gateway: string;
  topic: number;
  query: string;
  streams: number;
  live: number;
  asks: unknown;
}
export interface Option {
  section: string;
  key: string;
  value: string | number | boolean;
  origin: string;
  help: string;
}
export interface Collection {
  name: string;
  database: string;
  key: string;
  message?: string;
  scope?: string;
  shape: string;
  rules: string;
}
export interface Configz {
  listen: { address: string; port: number; tls: boolean };
  demo: boolean;
  configuration: { file: string | null; options: Option[]; collections: Collection[] } | null;
}
export interface Figures {
  atMs: number;
  /** Milliseconds in which every actor had answered. */
  answeredMs: number;
  health: string;
  actors: Actor[];
  connections: ConnectionFigures[];
  connectionsCount: number;
  topics: Topic[];
}
/** The newest figures last; `error`: the last asking failed. */
export interface History {
  samples: readonly Figures[];
  error: string | undefined;
}

const EVERY_MS = 1000;
const SAMPLES_MAX = 180;

export async function ask<Answer>(path: string): Promise<Answer> {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return answer.json() as Promise<Answer>;
}

async function sample(): Promise<Figures> {
  const beganMs = performance.now();
  const varz = await ask<{ actors: Actor[]; health: string }>("/varz");
  const answeredMs = performance.now() - beganMs;
  const [connz, streamz] = await Promise.all([
    ask<{ count: number; connections: ConnectionFigures[] }>("/connz"),
    ask<{ topics: Topic[] }>("/streamz"),
  ]);
  return {
    atMs: Date.now(),
    answeredMs,
    health: varz.health,
    actors: varz.actors.sort((a, b) => a.name.localeCompare(b.name)),
    connections: connz.connections.sort((a, b) => b.queued - a.queued || a.id - b.id),
    connectionsCount: connz.count,
    topics: streamz.topics.sort((a, b) => behind(b) - behind(a) || b.streams - a.streams),
  };
}

/** Streams of a topic that catch up. */
export function behind(topic: Topic): number {
  return topic.streams - topic.live;
}

export function useHistory(): History {
  const [history, setHistory] = useState<History>({ samples: [], error: undefined });
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let isEnded = false;
    const again = async () => {
      try {
        if (!document.hidden) {
          const one = await sample();
          if (!isEnded) {
            setHistory(({ samples }) => ({
              samples: [...samples, one].slice(-SAMPLES_MAX),
              error: undefined,
            }));
          }
        }
      } catch (error) {
        if (!isEnded) setHistory(({ samples }) => ({ samples, error: (error as Error).message }));
      }
      if (!isEnded) timer = setTimeout(() => void again(), EVERY_MS);
    };
    void again();
    return () => {
      isEnded = true;
      clearTimeout(timer);
    };
  }, []);
  return history;
}

/** A gauge, added up over the actors that have it. */
export function gauge(figures: Figures, name: string): number {
  return figures.actors.reduce((sum, actor) => sum + (actor.gauges[name] ?? 0), 0);
}

export function count(value: number): string {
  return value.toLocaleString("en");
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
