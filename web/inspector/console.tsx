/* console.tsx - a websocket by hand: write a frame, see those of both directions. */
import { useEffect, useRef, useState } from "preact/hooks";

interface Line {
  n: number;
  at: string;
  direction: "sent" | "heard" | "told";
  text: string;
}

const LINES_MAX = 500; // older ones are forgotten
const samples = {
  Subscribe: '{"type":"subscribe","mux_id":1,"collections":{"movies":{"filter":{"IMDB Rating":{"$gte":8}}}}}',
  Close: '{"type":"close","mux_id":1}',
  Find: '{"action":"find","reqID":1,"collection":"movies","query":{},"limit":3}',
  Put: '{"action":"put","reqID":2,"collection":"people","doc":{"_id":1,"name":"Ada"}}',
  Watch: '{"action":"watch","reqID":3}',
};

function useSocket(url: string) {
  const [lines, setLines] = useState<readonly Line[]>([]);
  const [isOpen, setOpen] = useState(false);
  const socket = useRef<WebSocket | undefined>(undefined);
  const serial = useRef(0);
  const add = (direction: Line["direction"], text: string) => {
    const at = new Date().toISOString().slice(11, 23);
    setLines((before) => [...before, { n: serial.current++, at, direction, text }].slice(-LINES_MAX));
  };
  const open = () => {
    const made = new WebSocket(url);
    socket.current = made;
    made.onopen = () => (setOpen(true), add("told", `open: ${url}`));
    made.onmessage = ({ data }) => add("heard", String(data));
    made.onclose = ({ code, reason }) => {
      if (socket.current !== made) return;
      setOpen(false);
      add("told", `closed: ${code} ${reason}`);
    };
  };
  useEffect(() => {
    open();
    return () => {
      const made = socket.current;
      socket.current = undefined;
      made?.close();
    };
  }, [url]);
  const send = (text: string) => {
    add("sent", text);
    socket.current?.send(text);
  };
  return { lines, isOpen, open, send, clear: () => setLines([]) };
}

export function Console({ url }: { url: string }) {
  const { lines, isOpen, open, send, clear } = useSocket(url);
  const [text, setText] = useState(samples.Subscribe);
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => end.current?.scrollTo(0, end.current.scrollHeight), [lines]);
  let problem = "";
  try {
    JSON.parse(text);
  } catch (error) {
    problem = (error as Error).message;
  }
  return (
    <div class="stack">
      <form
        class="card stack pad"
        onSubmit={(event) => {
          event.preventDefault();
          send(text);
        }}
      >
        <div class="row" role="group" aria-label="Examples">
          {Object.entries(samples).map(([name, sample]) => (
            <button type="button" key={name} onClick={() => setText(sample)}>
              {name}
            </button>
          ))}
        </div>
        <label>
          Frame
          <textarea
            class="code"
            rows={4}
            spellcheck={false}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <div class="between">
          <p class="small soft" role="status">
            {problem === "" ? "" : `Not JSON: ${problem}. It may be sent all the same.`}
          </p>
          <div class="row">
            <button type="button" onClick={clear} disabled={lines.length === 0}>
              Clear
            </button>
            {isOpen ? (
              <button class="main">Send</button>
            ) : (
              <button type="button" class="main" onClick={open}>
                Connect
              </button>
            )}
          </div>
        </div>
      </form>
      <div class="card frames" ref={end} role="log" aria-label="Frames" tabIndex={0}>
        {lines.length === 0 && <p class="empty soft">No frames yet.</p>}
        {lines.map((line) => (
          <p key={line.n} class={line.direction}>
            <span class="soft">{line.at}</span>
            <span class="arrow" aria-label={line.direction}>
              {{ sent: "→", heard: "←", told: "·" }[line.direction]}
            </span>
            <code>{line.text}</code>
          </p>
        ))}
      </div>
    </div>
  );
}
