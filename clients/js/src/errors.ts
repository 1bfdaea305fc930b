/* errors.ts - what goes wrong, as one class: a code to branch on, a cause and a hint to read. */
import type { Frame } from "./wire.js";

/** Whether the same request may be sent again: not unchanged, at once, or after a while. */
export type Retry = "no" | "now" | "backoff";

export class TidewireError extends Error {
  override readonly name = "TidewireError";
  /** One of the server's codes (`conflict`, `bad_filter`, …), or `timeout`, `closed`, `aborted`. */
  readonly code: string;
  /** What would help, for a person; may be empty. */
  readonly hint: string;
  readonly retry: Retry;
  /** Milliseconds after which to try again, where the server said so. */
  readonly afterMs: number | undefined;
  /** The frame that told it: a `conflict` carries the stored `version`, a refused write its `rule`. */
  readonly frame: Frame | undefined;

  constructor(code: string, message: string, hint = "", retry: Retry = "no", frame?: Frame) {
    super(message);
    this.code = code;
    this.hint = hint;
    this.retry = retry;
    this.afterMs = frame?.["after_ms"] as number | undefined;
    this.frame = frame;
  }
}

export function errorOf(frame: Frame): TidewireError {
  return new TidewireError(
    String(frame["code"]),
    String(frame["message"] ?? frame["code"]),
    String(frame["hint"] ?? ""),
    (frame["retry"] as Retry | undefined) ?? "no",
    frame,
  );
}

export const closedError = (): TidewireError =>
  new TidewireError("closed", "the connection was closed by this program");
