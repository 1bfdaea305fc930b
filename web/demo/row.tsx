/* row.tsx - one row of the report: shown, edited, in conflict; its comments. */
import type { Head } from "@tidewire/client/report.ts";
import { deletionOf, editOf } from "@tidewire/client/report.ts";
import { useState } from "preact/hooks";

import { PROJECT, type Report, type Row } from "./report.ts";

export interface Person {
  id: number;
  name: string;
}
const NAMES: { readonly [id: string]: string } = { 314: "Ada", 271: "Grace" };
const nameOf = (id: unknown) => NAMES[String(id)] ?? `user ${String(id)}`;

interface Props {
  row: Row;
  me: Person;
  report: Report;
}

export function RowView({ row, me, report }: Props) {
  const [isEditing, setEditing] = useState(false);
  const { entry } = row;
  const [head] = entry.heads;
  const history = entry.versions.length;
  const write = (wanted: Wanted, reason: string) => {
    report.write("entries", { ...editOf(entry, wanted, reason), user_id: me.id });
    setEditing(false);
  };
  return (
    <li class="card entry">
      {entry.isConflict ? (
        <Conflict row={row} write={write} />
      ) : isEditing ? (
        <Edit head={head} onSave={write} onCancel={() => setEditing(false)} />
      ) : (
        <>
          <div class="between">
            <p class="speaker">
              <span class="clip">{head.clip_id}</span> {head.content["speaker"] ?? "Nobody"}
            </p>
            <div class="row tight">
              <button class="plain" onClick={() => setEditing(true)} aria-label={`Edit ${head.clip_id}`}>
                Edit
              </button>
              <button
                class="plain"
                aria-label={`Delete ${head.clip_id}`}
                onClick={() =>
                  report.write("entries", { ...deletionOf(entry, "deleted"), user_id: me.id })
                }
              >
                Delete
              </button>
            </div>
          </div>
          <p class="text">{head.content["text"]}</p>
        </>
      )}
      <p class="soft small">
        {history === 1 ? "Original" : `${history} versions`}
        {head.version.reason && !entry.isConflict && (
          <> · {nameOf(head.version["user_id"])}: “{head.version.reason}”</>
        )}
        {row.waiting > 0 && <strong class="waits"> · waits for the network</strong>}
      </p>
      <Comments row={row} me={me} report={report} />
    </li>
  );
}

interface Wanted {
  clip_id?: string;
  content: { [field: string]: string };
}

function Edit(props: { head: Head; onSave(wanted: Wanted, reason: string): void; onCancel(): void }) {
  const { head, onSave, onCancel } = props;
  const [speaker, setSpeaker] = useState(head.content["speaker"] ?? "");
  const [text, setText] = useState(head.content["text"] ?? "");
  const [reason, setReason] = useState("");
  return (
    <form
      class="stack"
      onSubmit={(event) => {
        event.preventDefault();
        onSave({ content: { ...head.content, speaker, text } }, reason.trim() || "edited");
      }}
    >
      <label>
        Speaker
        <input value={speaker} onInput={(event) => setSpeaker(event.currentTarget.value)} required />
      </label>
      <label>
        Text
        <textarea rows={2} value={text} onInput={(event) => setText(event.currentTarget.value)} required />
      </label>
      <label>
        Reason
        <input
          value={reason}
          placeholder="edited"
          onInput={(event) => setReason(event.currentTarget.value)}
        />
      </label>
      <div class="row">
        <button class="main">Save</button>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </form>
  );
}

/** More than one head: every client sees them all, and an edit that modifies all resolves it. */
function Conflict({ row, write }: { row: Row; write(wanted: Wanted, reason: string): void }) {
  const { heads } = row.entry;
  return (
    <div class="note warn stack" role="group" aria-label="Conflict">
      <p>
        <span class="clip">{heads[0].clip_id}</span>{" "}
        <strong>{heads.length} versions of this row.</strong> They were edited at the same time; keep one,
        and the others remain in its history.
      </p>
      <ul class="heads">
        {heads.map((head) => {
          const by = nameOf(head.version["user_id"]);
          return (
            <li key={head.version.version_uuid} class="card head">
              <p class="soft small">
                {by}: “{head.version.reason}”
              </p>
              <p class="text">{head.isDeleted ? <em>deletes the row</em> : head.content["text"]}</p>
              {!head.isDeleted && (
                <button
                  aria-label={`Keep this version of ${by}`}
                  onClick={() => write({ content: { ...head.content } }, `kept ${by}'s version`)}
                >
                  Keep this
                </button>
              )}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function Comments({ row, me, report }: Props) {
  const [text, setText] = useState("");
  const { entry, comments, threads } = row;
  const send = () => {
    const thread_uuid = threads[0]?.thread_uuid ?? crypto.randomUUID();
    if (threads.length === 0) {
      report.write("threads", {
        proj_id: PROJECT,
        thread_uuid,
        user_uuid: me.id,
        links: [["entry", entry.entry_uuid]],
      });
    }
    report.write("comments", {
      _id: crypto.randomUUID(),
      proj_id: PROJECT,
      comment_uuid: crypto.randomUUID(),
      thread_uuid,
      user_uuid: me.id,
      text,
      authortime: new Date().toISOString(),
    });
    setText("");
  };
  return (
    <div class="comments">
      {comments.length > 0 && (
        <ul>
          {comments.map(({ comment_uuid, version }) => (
            <li key={comment_uuid}>
              <strong>{nameOf(version["user_uuid"])}</strong> {String(version["text"])}
            </li>
          ))}
        </ul>
      )}
      <form
        class="row comment-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim() !== "") send();
        }}
      >
        <input
          aria-label={`Comment on ${entry.heads[0].clip_id}`}
          placeholder="Comment"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button disabled={text.trim() === ""}>Send</button>
      </form>
    </div>
  );
}
