// The reference is what the types say.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { reference } from "../reference.mjs";

test("docs/web/reference.md is what `npm run reference` writes", () => {
  const committed = readFileSync(new URL("../../../docs/web/reference.md", import.meta.url), "utf8");
  assert.ok(committed === reference(), "stale: npm run reference");
  for (const name of ["connect", "LiveSet", "RealtimeDb", "foldEntries", "useStream", "tidewireCollectionOptions"]) {
    assert.ok(committed.includes(`### ${name}\n`), name);
  }
});
