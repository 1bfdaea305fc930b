// The demo as a person uses it, in Chromium; its pictures stand in zig-out/screenshots.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, shoot, watchErrors } from "../../clients/js/test/browser/browser.mjs";
import { open, Server, until } from "../../clients/js/test/harness.mjs";

let server, browser;
before(async () => {
  server = new Server();
  server.flags = ["--demo"];
  await server.start();
  browser = await launch();
});
after(async () => {
  await browser.close();
  await server.close();
});

async function openDemo(viewport = { width: 1280, height: 900 }) {
  const page = await browser.newPage({ viewport });
  const errors = watchErrors(page);
  await page.goto(server.url.replace("ws:", "http:"));
  const pane = (name) => page.getByRole("region", { name });
  return { page, pane, errors };
}

test("two people edit offline, meet in a conflict, and resolve it", async () => {
  const { page, pane, errors } = await openDemo();
  assert.match(page.url(), /\/demo\/$/);
  const [ada, grace] = [pane("Ada"), pane("Grace")];
  await ada.getByText("The tide turns at seven.").waitFor();
  await grace.getByText("Was it not seven?").waitFor();
  await shoot(page, "demo");

  await ada.getByLabel("New row by Ada").fill("Then the harbour is empty.");
  await ada.getByRole("button", { name: "Add row" }).click();
  await grace.getByText("Then the harbour is empty.").waitFor();
  await grace.getByLabel("Comment on 11c").fill("Not for long.");
  await grace.locator("li.entry", { hasText: "harbour" }).getByRole("button", { name: "Send" }).click();
  await ada.getByText("Not for long.").waitFor();

  for (const [side, text] of [[ada, "The tide turns at half past six."], [grace, "The tide turns at noon."]]) {
    await side.getByRole("switch", { name: "Offline" }).click();
    await side.getByText(/Offline by the switch/).waitFor();
    await side.getByRole("button", { name: "Edit 11a" }).click();
    await side.getByLabel("Text").fill(text);
    await side.getByLabel("Reason").fill("checked the table");
    if (side === ada) await shoot(page, "demo-edit");
    await side.getByRole("button", { name: "Save" }).click();
    await side.getByText("1 write waits for the network.").waitFor();
    await side.getByText(text).waitFor(); // shown at once
  }
  await shoot(page, "demo-offline");
  for (const side of [ada, grace]) await side.getByRole("switch", { name: "Offline" }).click();
  for (const side of [ada, grace]) await side.getByText("2 versions of this row.").waitFor();
  await shoot(page, "demo-conflict");
  await ada.getByRole("button", { name: "Keep this version of Grace" }).click();
  for (const side of [ada, grace]) {
    await side.getByText("The tide turns at noon.").waitFor();
    await until(async () => (await side.getByText("2 versions of this row.").count()) === 0, "no conflict");
  }
  assert.deepEqual(errors, []);
  await page.close();
});

test("the server is gone: it is said, what is written waits, and all is well again", async () => {
  const { page, pane, errors } = await openDemo();
  await pane("Ada").getByText("The tide turns at noon.").waitFor();
  await server.kill();
  await pane("Ada").getByText("The server cannot be reached.").waitFor();
  await pane("Ada").getByLabel("New row by Ada").fill("Written while nobody listens.");
  await pane("Ada").getByRole("button", { name: "Add row" }).click();
  await pane("Ada").getByText("waits for the network", { exact: false }).first().waitFor();
  await shoot(page, "demo-unreachable");
  await server.start();
  await pane("Grace").getByText("Written while nobody listens.").waitFor();
  assert.deepEqual(errors, []);
  await page.close();
});

test("a report of 600 rows: those near the screen are made, and what is being written stays", async () => {
  const tide = open(server.url);
  const rows = Array.from({ length: 600 }, (_, n) => ({
    proj_id: 7, report_uuid: "r1", entry_uuid: `long${n}`, version_uuid: `long${n}`, user_id: 314,
    clip_id: `20${String(n).padStart(4, "0")}`, content: { speaker: "Ada", text: `Line ${n}` }, modifies: null, reason: null,
  }));
  await Promise.all(rows.map((row) => tide.db.insert("entries", row)));
  const { page, pane, errors } = await openDemo();
  const ada = pane("Ada");
  await until(async () => (await ada.locator("li.chunk").count()) >= 30, "a place for every row");
  const made = () => ada.locator("li.entry").count();
  assert.ok((await made()) < 200, `${await made()} rows are made`);
  await ada.getByRole("button", { name: "Edit 11a" }).click();
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await ada.getByText("Line 599").waitFor();
  assert.ok((await made()) < 200, `${await made()} rows are made`);
  await ada.getByRole("button", { name: "Save" }).waitFor({ state: "attached" });
  await ada.getByRole("button", { name: "Cancel" }).click();
  for (const row of rows) void tide.db.insert("entries", { ...row, version_uuid: `${row.entry_uuid}x`, clip_id: null, content: null, modifies: [row.version_uuid], reason: "gone" });
  await until(async () => (await ada.locator("li.chunk").count()) === 1, "the long rows are gone");
  tide.close();
  assert.deepEqual(errors, []);
  await page.close();
});

test("the report is empty: it says so; a narrow screen holds one pane below the other", async () => {
  const { page, pane } = await openDemo({ width: 390, height: 844 });
  const rows = pane("Ada").locator("li.entry");
  for (const name of ["Ada", "Grace"]) {
    await until(async () => (await pane(name).locator("li.entry").count()) === 4, `the rows of ${name}`);
  }
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390, "no sideways scrolling");
  await shoot(page, "demo-narrow");
  while ((await rows.count()) > 0) {
    const left = await rows.count();
    await rows.first().getByRole("button", { name: /^Delete/ }).click();
    await until(async () => (await rows.count()) < left, "the row is gone");
  }
  await pane("Grace").getByText("No rows yet. Add the first one below.").waitFor();
  await shoot(page, "demo-empty");
  await page.close();
});

test("what waits for a server that never was is shown", async () => {
  const { page, pane } = await openDemo();
  await page.addInitScript(() => {
    window.WebSocket = class extends EventTarget {
      close() {}
    };
  });
  await page.reload();
  await pane("Ada").getByText("Waiting for the server…").waitFor();
  await shoot(page, "demo-loading");
  await page.close();
});
