/* ticker.ts - a clock that goes on in hidden tabs: browsers slow the timers of a page that nobody
 * looks at to one a minute, but not those of a worker. */

/** Calls `tick` about every `everyMs`; returns what ends it. */
export function ticker(everyMs: number, tick: () => void): () => void {
  if (typeof document !== "undefined" && typeof Worker === "function") {
    const url = URL.createObjectURL(new Blob([`setInterval(()=>postMessage(0),${everyMs})`]));
    try {
      const worker = new Worker(url);
      worker.onmessage = tick;
      return () => {
        worker.terminate();
        URL.revokeObjectURL(url);
      };
    } catch {
      URL.revokeObjectURL(url); // a content security policy forbids it: the page's timer serves
    }
  }
  const timer = setInterval(tick, everyMs);
  (timer as { unref?: () => void }).unref?.(); // a script of Node ends when its work is done
  return () => clearInterval(timer);
}
