/* report.ts - one person's view of the report: the stream, and writes that wait for the network. */
import { TidewireError, type Connection, type Doc } from "@tidewire/client/index.ts";
import { useStream } from "@tidewire/client/react.ts";
import { foldComments, foldEntries, foldThreads, linkName } from "@tidewire/client/report.ts";
import type { Comment, CommentVersion, Entry, EntryVersion, ThreadRecord } from "@tidewire/client/report.ts";
import { useCallback, useMemo, useState } from "preact/hooks";

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
  collection: string;
  doc: Doc;
}

export function useReport(tide: Connection): Report {
  const { records, isSynced, error } = useStream(tide, QUERY);
  const [waiting, setWaiting] = useState<readonly Waiting[]>([]);
  const [refusal, setRefusal] = useState<Refusal>();

  const write = useCallback(
    (collection: string, doc: Doc) => {
      const one = { collection, doc };
      setWaiting((before) => [...before, one]);
      tide.db
        .insert(collection, doc, { timeoutMs: PATIENT_MS })
        .catch((error: TidewireError) => setRefusal({ message: error.message, hint: error.hint }))
        .finally(() => setWaiting((before) => before.filter((each) => each !== one)));
    },
    [tide],
  );
  const rows = useMemo(() => rowsOf(records, waiting), [records, waiting]);
  const forgetRefusal = () => setRefusal(undefined);
  return { rows, isSynced, error, waiting: waiting.length, refusal, forgetRefusal, write };
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
        waiting: waiting.filter(({ doc }) => doc["entry_uuid"] === entry.entry_uuid).length,
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
