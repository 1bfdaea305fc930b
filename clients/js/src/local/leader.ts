/* leader.ts - of all tabs of a page, one leads: it owns the socket, the others follow. */

/** Calls `lead` when this tab is the leader, and what it returned when it no longer is or `stop` is
 * called. Without Web Locks (Node, old browsers) every caller leads. */
export function elect(name: string, lead: () => () => void): () => void {
  let end: (() => void) | undefined;
  let isStopped = false;
  const begin = () => {
    if (!isStopped) end = lead();
  };
  const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
  if (locks === undefined) {
    begin();
    return () => ((isStopped = true), end?.());
  }
  const abort = new AbortController();
  let release = () => {};
  locks
    .request(name, { signal: abort.signal }, () => {
      begin();
      return new Promise<void>((done) => (release = done));
    })
    .catch(() => {}); // aborted while it waited
  return () => {
    isStopped = true;
    abort.abort();
    end?.();
    release();
  };
}
