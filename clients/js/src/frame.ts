/* frame.ts - the screen's rhythm: many changes, one call. */

const LATE_MS = 100; // a page that is not drawn (hidden, covered) calls back no later

/** Gives a function that makes `call` run once, before the next frame of the screen. */
export function oncePerFrame(call: () => void): () => void {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    let timer: ReturnType<typeof setTimeout>;
    const run = () => {
      clearTimeout(timer);
      if (!isDue) return;
      isDue = false;
      call();
    };
    const isDrawn = typeof document !== "undefined" && document.visibilityState === "visible";
    timer = setTimeout(run, isDrawn ? LATE_MS : 0);
    if (isDrawn) requestAnimationFrame(run);
  };
}
