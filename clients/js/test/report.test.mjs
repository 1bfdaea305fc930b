// The folds of the report preset, and that the server takes what they make.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { LiveSet } from "../dist/index.js";
import { deletionOf, editOf, foldComments, foldEntries, foldThreads, linkName } from "../dist/report.js";
import { open, Server, until } from "./harness.mjs";

const original = {
  proj_id: 7, report_uuid: "r", entry_uuid: "e", version_uuid: "v1", user_id: 1,
  clip_id: "11a", content: { speaker: "Ada", text: "at six" }, modifies: null, reason: null,
};
const edit = (version_uuid, modifies, content, clip_id = null) =>
  ({ ...original, version_uuid, modifies, content, clip_id, reason: "why" });

test("a chain of edits has one head, whatever the order of the records", () => {
  const versions = [
    original,
    edit("v2", ["v1"], { text: "at seven" }),
    edit("v3", ["v2"], { speaker: null, note: "unsure" }, "11b"),
  ];
  for (const order of [versions, [...versions].reverse(), [versions[1], versions[2], versions[0]]]) {
    const [entry] = foldEntries(order);
    assert.equal(entry.isConflict, false);
    assert.deepEqual(entry.versions.map((v) => v.version_uuid), ["v1", "v2", "v3"]);
    assert.deepEqual(entry.heads[0].content, { text: "at seven", note: "unsure" });
    assert.equal(entry.heads[0].clip_id, "11b");
  }
});

test("two edits of one version are a conflict; an edit of both resolves it", () => {
  const versions = [original, edit("a", ["v1"], { text: "A" }), edit("b", ["v1"], { text: "B" }, "11z")];
  const [entry] = foldEntries(versions);
  assert.equal(entry.isConflict, true);
  assert.deepEqual(entry.heads.map((h) => h.content.text), ["A", "B"]);
  const resolving = editOf(entry, { content: { speaker: "Ada", text: "A" } }, "both", "c");
  assert.deepEqual(resolving.modifies, ["a", "b"]);
  assert.equal(resolving.content.text, "A"); // named, as the heads differ in it
  const [resolved] = foldEntries([...versions, resolving]);
  assert.equal(resolved.isConflict, false);
  assert.deepEqual(resolved.heads[0].content, { speaker: "Ada", text: "A" });
});

test("a deletion on all heads deletes; beside an edit it is a conflict", () => {
  const gone = edit("d", ["v1"], null);
  const [deleted] = foldEntries([original, gone]);
  assert.equal(deleted.isDeleted, true);
  const [both] = foldEntries([original, gone, edit("a", ["v1"], { text: "A" })]);
  assert.deepEqual([both.isDeleted, both.isConflict], [false, true]);
  assert.deepEqual(both.heads.map((h) => h.isDeleted), [true, false]);
});

test("a parent that is not told counts as empty; a ring ends", () => {
  const [orphan] = foldEntries([edit("x", ["archived"], { text: "T" })]);
  assert.deepEqual(orphan.heads[0].content, { text: "T" });
  assert.doesNotThrow(() => foldEntries([edit("x", ["y"], {}), edit("y", ["x"], {}), original]));
});

test("comments by the latest authortime, later records win ties; threads by link", () => {
  const comment = (text, authortime) => ({ comment_uuid: "c", thread_uuid: "t", text, authortime });
  const [one] = foldComments([
    comment("new", "2022-01-02T00:00:00Z"),
    comment("old", "2022-01-01T00:00:00Z"),
    comment("tie", "2022-01-02T01:00:00+01:00"),
  ]);
  assert.deepEqual([one.version.text, one.versions], ["tie", 3]);
  const threads = foldThreads([
    { thread_uuid: "t1", links: [["report", "r"], ["entry", "e"]] },
    { thread_uuid: "t2", links: [["entry", "e"]] },
  ]);
  assert.deepEqual(threads.get(linkName("entry", "e")).map((t) => t.thread_uuid), ["t1", "t2"]);
});

let server, tide;
before(async () => {
  server = new Server();
  server.flags = ["--preset", "report"];
  await server.start();
  tide = open(server.url);
});
after(async () => {
  tide.close();
  await server.close();
});

test("the server takes edits, resolutions, no-changes and deletions", async () => {
  await tide.db.insert("entries", original);
  await tide.db.insert("entries", edit("a", ["v1"], { text: "A" }));
  await tide.db.insert("entries", edit("b", ["v1"], { text: "B" }));
  const set = new LiveSet(tide.subscribe({ project_id: 7, entries: "*" }));
  const entry = () => foldEntries(set.records)[0];
  await until(() => entry()?.isConflict, "the conflict");
  await tide.db.insert("entries", editOf(entry(), { content: { text: "both", speaker: "Ada" } }, "resolve"));
  await until(() => !entry().isConflict, "the resolution");
  assert.deepEqual(entry().heads[0].content, { text: "both", speaker: "Ada" });
  const same = editOf(entry(), { clip_id: "11a", content: entry().heads[0].content }, "nothing");
  assert.deepEqual([same.content, same.clip_id], [{}, null]);
  await tide.db.insert("entries", same);
  await until(() => entry().versions.length === 5, "the edit that changes nothing");
  assert.equal(entry().isDeleted, false);
  await tide.db.insert("entries", deletionOf(entry(), "gone"));
  await until(() => entry().isDeleted, "the deletion");
  await assert.rejects(tide.db.insert("entries", { ...edit("z", ["nothing"], {}), reason: "x" }), (e) =>
    e.frame.rule === "entry.modifies_unknown" || e.code === "rule");
  set.close();
});
