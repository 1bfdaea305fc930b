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

// Another zlib packs a few bytes otherwise.
test("SIZES.md is what `npm run size` writes, to 1 %", async () => {
  const committed = readFileSync(new URL("../SIZES.md", import.meta.url), "utf8");
  const rows = (text) => [...text.matchAll(/^\| (\S+)[^|]*\| ([\d,]+) \|/gm)].map(([, name, bytes]) => [name, Number(bytes.replace(",", ""))]);
  const [told, measured] = [rows(committed), rows(await table())];
  assert.deepEqual(told.map(([name]) => name), measured.map(([name]) => name));
  told.forEach(([name, bytes], i) => {
    const now = measured[i][1];
    assert.ok(Math.abs(bytes - now) <= now / 100, `${name}: ${bytes} told, ${now} now: npm run size`);
  });
});
