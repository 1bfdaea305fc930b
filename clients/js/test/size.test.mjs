// What a page loads stays small, and the table tells the truth.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { sizes, table } from "../size.mjs";

test("the core is at most 8 KB gzipped, and smaller than its peers", async () => {
  const bytes = new Map((await sizes()).map(([name, size]) => [name, size]));
  assert.ok(bytes.get("@tidewire/client") <= 8 * 1024, `${bytes.get("@tidewire/client")} bytes`);
  assert.ok(bytes.get("@tidewire/client") < bytes.get("centrifuge"));
  assert.ok(bytes.get("@tidewire/client") < bytes.get("socket.io-client"));
  assert.ok(bytes.get("@tidewire/client/local") < bytes.get("rxdb"));
});

test("SIZES.md is what `npm run size` writes", async () => {
  const committed = readFileSync(new URL("../SIZES.md", import.meta.url), "utf8");
  assert.equal(committed, await table(), "run: npm run size");
});
