/* report.ts - what the records of the report preset mean together: rows with their versions, comments
 * with theirs, threads by what they are linked to.
 *
 * All three collections are append-only: a version is a record of its own. These are pure folds over
 * the records of a stream, in any order:
 *   entries   a version that no other names in `modifies` is a head. One head is the row; several are
 *             a conflict, which an edit that modifies all of them resolves. The content of a version
 *             is its parents' with its own fields over them, where null takes a field away.
 *   comments  of the versions of one comment_uuid the latest authortime counts, ties by position.
 *   threads   under each link they name. */
import type { Doc } from "./wire.js";

export interface EntryVersion extends Doc {
  version_uuid: string;
  entry_uuid: string;
  report_uuid: string;
  clip_id: string | null;
  content: { [field: string]: string | null } | null;
  modifies: string[] | null;
  reason: string | null;
}
export interface ThreadRecord extends Doc {
  thread_uuid: string;
  links: [type: LinkType, uuid: string][];
}
export interface CommentVersion extends Doc {
  comment_uuid: string;
  thread_uuid: string;
  authortime: string;
}
export type LinkType = "report" | "entry" | "version" | "comment" | "entity";

/** A version, and what the row is if it counts. */
export interface Head {
  version: EntryVersion;
  clip_id: string | null;
  content: { readonly [field: string]: string };
  /** The version deletes the row. */
  isDeleted: boolean;
}
/** A row of a report. */
export interface Entry {
  entry_uuid: string;
  report_uuid: string;
  /** All that is known, originals first. */
  versions: readonly EntryVersion[];
  /** Versions that nobody replaced; more than one: a conflict. */
  heads: readonly [Head, ...Head[]];
  isConflict: boolean;
  /** Every head deletes it. */
  isDeleted: boolean;
}
export interface Comment {
  comment_uuid: string;
  thread_uuid: string;
  /** The version that counts. */
  version: CommentVersion;
  /** How many there are. */
  versions: number;
}

/** Rows in the order in which their first version came. */
export function foldEntries(versions: readonly EntryVersion[]): Entry[] {
  const rows = new Map<string, EntryVersion[]>();
  for (const version of versions) {
    const row = rows.get(version.entry_uuid);
    if (row === undefined) rows.set(version.entry_uuid, [version]);
    else row.push(version);
  }
  return [...rows.values()].map(entryOf);
}

function entryOf(found: EntryVersion[]): Entry {
  const byId = new Map(found.map((version) => [version.version_uuid, version]));
  const versions = parentsFirst(found, byId);
  const replaced = new Set(versions.flatMap((version) => version.modifies ?? []));
  const states = new Map<string, Head>();
  for (const version of versions) states.set(version.version_uuid, headOf(version, states));
  const heads = versions
    .filter((version) => !replaced.has(version.version_uuid))
    .map((version) => states.get(version.version_uuid) as Head);
  const [first] = versions as [EntryVersion];
  return {
    entry_uuid: first.entry_uuid,
    report_uuid: first.report_uuid,
    versions,
    heads: heads as unknown as Entry["heads"],
    isConflict: heads.length > 1,
    isDeleted: heads.every((head) => head.isDeleted),
  };
}

/** Each version behind those that it modifies; else in the order of their coming. A version that was
 * not told (archived, hidden) is as if it were empty; a ring, which no server makes, is cut. */
function parentsFirst(found: EntryVersion[], byId: Map<string, EntryVersion>): EntryVersion[] {
  const ordered = new Set<EntryVersion>();
  const waiting = new Set<EntryVersion>();
  const open = [...found].reverse();
  for (let version = open.at(-1); version !== undefined; version = open.at(-1)) {
    const parents = (version.modifies ?? []).map((id) => byId.get(id));
    const missing = parents.filter((p) => p !== undefined && !ordered.has(p) && !waiting.has(p));
    if (missing.length === 0 || ordered.has(version) || waiting.has(version)) {
      ordered.add(version);
      open.pop();
    } else {
      waiting.add(version);
      open.push(...(missing as EntryVersion[]));
    }
  }
  return [...ordered];
}

/** What a version makes of its parents: of several the later one's field wins, so that a resolving
 * edit names what it wants otherwise. */
function headOf(version: EntryVersion, states: ReadonlyMap<string, Head>): Head {
  const content: { [field: string]: string } = {};
  let clip_id: string | null = null;
  for (const id of version.modifies ?? []) {
    const parent = states.get(id);
    Object.assign(content, parent?.content);
    clip_id = parent?.clip_id ?? clip_id;
  }
  for (const [field, value] of Object.entries(version.content ?? {})) {
    if (value === null) delete content[field];
    else content[field] = value;
  }
  return {
    version,
    clip_id: version.clip_id ?? clip_id,
    content,
    isDeleted: version.modifies !== null && version.clip_id === null && version.content === null,
  };
}

/** The edit that turns these heads into this content: changed fields alone, null for those that go.
 * One head is an edit, several a resolution; give it `db.insert("entries", …)`. */
export function editOf(
  entry: Entry,
  wanted: { clip_id?: string; content: { readonly [field: string]: string } },
  reason: string,
  version_uuid: string = crypto.randomUUID(),
): EntryVersion {
  const merged = mergedOf(entry);
  const content: { [field: string]: string | null } = {};
  for (const [field, value] of Object.entries(wanted.content)) {
    if (merged.content[field] !== value || differs(entry, field)) content[field] = value;
  }
  for (const field of Object.keys(merged.content)) {
    if (!(field in wanted.content)) content[field] = null;
  }
  const clip_id = wanted.clip_id ?? null;
  const isMoved = clip_id !== null && (clip_id !== merged.clip_id || entry.isConflict);
  return {
    ...ofReport(entry),
    version_uuid,
    clip_id: isMoved ? clip_id : null,
    content, // an empty one changes nothing; null beside a clip_id of null would delete the row
    modifies: entry.heads.map((head) => head.version.version_uuid),
    reason,
  };
}

/** The version that deletes the row. */
export function deletionOf(
  entry: Entry,
  reason: string,
  version_uuid: string = crypto.randomUUID(),
): EntryVersion {
  const modifies = entry.heads.map((head) => head.version.version_uuid);
  return { ...ofReport(entry), version_uuid, clip_id: null, content: null, modifies, reason };
}

function mergedOf(entry: Entry): Head {
  const states = new Map(entry.heads.map((head) => [head.version.version_uuid, head]));
  const modifies = [...states.keys()];
  const edit = { ...entry.heads[0].version, clip_id: null, content: {}, modifies };
  return headOf(edit, states);
}

function differs(entry: Entry, field: string): boolean {
  return entry.heads.some((head) => head.content[field] !== entry.heads[0].content[field]);
}

function ofReport(entry: Entry) {
  const { entry_uuid, report_uuid, proj_id, user_id } = entry.heads[0].version;
  return {
    ...(proj_id !== undefined && { proj_id }),
    ...(user_id !== undefined && { user_id }),
    entry_uuid,
    report_uuid,
  };
}

/** Comments by their latest version, oldest first. Records that came later win ties: give them in
 * the order of a stream. */
export function foldComments(versions: readonly CommentVersion[]): Comment[] {
  const comments = new Map<string, Comment>();
  for (const version of versions) {
    const { comment_uuid, thread_uuid, authortime } = version;
    const known = comments.get(comment_uuid);
    const isLatest = known === undefined || !isBefore(authortime, known.version.authortime);
    comments.set(comment_uuid, {
      comment_uuid,
      thread_uuid,
      version: isLatest ? version : known.version,
      versions: (known?.versions ?? 0) + 1,
    });
  }
  return [...comments.values()];
}

/** Times as ISO texts or as dates of Extended JSON, compared as moments. */
function isBefore(a: unknown, b: unknown): boolean {
  return momentOf(a) < momentOf(b);
}

function momentOf(time: unknown): number {
  const date = (time as { $date?: string | number } | null)?.$date ?? time;
  return new Date(date as string | number).getTime();
}

/** Threads of each thing that they are linked to; the name is `linkName(type, uuid)`. */
export function foldThreads<Thread extends ThreadRecord>(
  threads: readonly Thread[],
): Map<string, Thread[]> {
  const byLink = new Map<string, Thread[]>();
  for (const thread of threads) {
    for (const [type, uuid] of thread.links) {
      const name = linkName(type, uuid);
      const linked = byLink.get(name);
      if (linked === undefined) byLink.set(name, [thread]);
      else linked.push(thread);
    }
  }
  return byLink;
}

export function linkName(type: LinkType, uuid: string): string {
  return `${type}/${uuid}`;
}
