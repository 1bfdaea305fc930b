/* report.ts - one person's view of the report: the stream, and writes that wait for the network. */
import { TidewireError, type Connection, type Doc } from "@tidewire/client/index.ts";
import { useStream } from "@tidewire/client/react.ts";
import { foldComments, foldEntries, foldThreads, linkName } from "@tidewire/client/report.ts";
import type { Comment, CommentVersion, Entry, EntryVersion, ThreadRecord } from "@tidewire/client/report.ts";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";

export const PROJECT = 7;
export const REPORT = "r1";
const QUERY = { project_id: PROJECT, entries: "*", threads: "*", comments: "*" } as const;
const PATIENT_MS = 2 ** 31 - 1; // a write waits for the network as long as the page is open

export interface Row {
  entry: Entry;
  threads: ThreadRecord[];
  comments: Comment[];
  /** Versions of it that the server does not have yet. */
  waiting: number;
}
export interface Refusal {
  message: string;
  hint: string;
}
export interface Report {
  rows: Row[];
  isSynced: boolean;
  error: TidewireError | undefined;
  /** Writes that the server has not confirmed. */
  waiting: number;
  refusal: Refusal | undefined;
  forgetRefusal(): void;
  write(collection: string, doc: Doc): void;
}

interface Waiting {
  doc: Doc;
  /** The server has it; the stream may not have shown it yet. */
  isWritten: boolean;
}

export function useReport(tide: Connection): Report {
  const { records, isSynced, error } = useStream(tide, QUERY);
  const [waiting, setWaiting] = useState<readonly Waiting[]>([]);
  const [refusal, setRefusal] = useState<Refusal>();

  const write = useCallback(
    (collection: string, doc: Doc) => {
      const become = (made: Waiting[]) =>
        setWaiting((before) => before.flatMap((each) => (each.doc === doc ? made : [each])));
      setWaiting((before) => [...before, { doc, isWritten: false }]);
      tide.db.insert(collection, doc, { timeoutMs: PATIENT_MS }).then(
        () => become([{ doc, isWritten: true }]),
        ({ message, hint }: TidewireError) => {
          become([]);
          setRefusal({ message, hint });
        },
      );
    },
    [tide],
  );
  useEffect(() => {
    const shown = new Set(records.map(nameOf)); // never before: what is written would vanish for a moment
    setWaiting((before) => {
      const left = before.filter(({ doc, isWritten }) => !isWritten || !shown.has(nameOf(doc)));
      return left.length === before.length ? before : left;
    });
  }, [records, waiting]);
  const rows = useMemo(() => rowsOf(records, waiting), [records, waiting]);
  const forgetRefusal = () => setRefusal(undefined);
  const unwritten = waiting.filter((each) => !each.isWritten).length;
  return { rows, isSynced, error, waiting: unwritten, refusal, forgetRefusal, write };
}

/** Records tell what they are by their key; what waits counts as if it were there. */
function rowsOf(records: readonly Doc[], waiting: readonly Waiting[]): Row[] {
  const all = new Map<string, Doc>();
  for (const doc of [...records, ...waiting.map((each) => each.doc)]) all.set(nameOf(doc), doc);
  const docs = [...all.values()];
  const entries = foldEntries(docs.filter((doc) => "version_uuid" in doc) as EntryVersion[]);
  const comments = foldComments(docs.filter((doc) => "comment_uuid" in doc) as CommentVersion[]);
  const threads = foldThreads(docs.filter((doc) => "links" in doc) as ThreadRecord[]);
  return entries
    .filter((entry) => entry.report_uuid === REPORT && !entry.isDeleted)
    .map((entry) => {
      const linked = threads.get(linkName("entry", entry.entry_uuid)) ?? [];
      const uuids = new Set(linked.map((thread) => thread.thread_uuid));
      return {
        entry,
        threads: linked,
        comments: comments.filter((comment) => uuids.has(comment.thread_uuid)),
        waiting: waiting.filter(
          ({ doc, isWritten }) => !isWritten && doc["entry_uuid"] === entry.entry_uuid,
        ).length,
      };
    })
    .sort((a, b) => clipOf(a).localeCompare(clipOf(b)));
}

function clipOf({ entry }: Row): string {
  return entry.heads[0].clip_id ?? "";
}

function nameOf(doc: Doc): string {
  return String(doc["version_uuid"] ?? doc["_id"] ?? doc["thread_uuid"]);
}
