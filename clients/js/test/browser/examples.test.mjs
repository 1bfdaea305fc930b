// The examples and the pages of docs/web run as they are written.
import assert from "node:assert/strict";
import { build } from "esbuild";
import { execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { freePort, open, Server, until } from "../harness.mjs";
import { client, launch, serve, watchErrors } from "./browser.mjs";

const run = promisify(execFile);
const js = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
let server, tide;
before(async () => {
  server = await new Server().start();
  tide = open(server.url);
});
after(async () => {
  tide.close();
  await server.close();
});

/** Runs a script that is not in a file of its own name: bundled beside the client, by Node. */
async function runScript(contents, loader) {
  const folder = mkdtempSync(path.join(js, "node_modules/.example-"));
  try {
    const { outputFiles } = await build({
      stdin: { contents, resolveDir: path.join(js, "examples"), loader },
      bundle: true, format: "esm", platform: "node", external: ["ws"], alias: client, write: false, logLevel: "error",
    });
    writeFileSync(path.join(folder, "script.mjs"), outputFiles[0].contents);
    return (await run("node", [path.join(folder, "script.mjs"), server.url], { timeout: 120_000 })).stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("plain.mjs", async () => {
  const told = await runScript(readFileSync(path.join(js, "examples/plain.mjs"), "utf8"), "js");
  assert.equal(told, "ada is Ada, 36\nsynced\nada is Ada, 37\nada deleted\n");
});

test("typed.ts", async () => {
  const told = await runScript(readFileSync(path.join(js, "examples/typed.ts"), "utf8"), "ts");
  assert.equal(told, "Grace 85\nconflict\n");
});

test("the examples type-check", async () => {
  await run(path.join(js, "node_modules/.bin/tsc"), ["-p", path.join(js, "tsconfig.examples.json")]);
});

test("react.tsx", async () => {
  await tide.db.put("people", { _id: "kim", name: "Kim" });
  const pages = await serve(readFileSync(path.join(js, "examples/react.tsx"), "utf8"));
  const browser = await launch();
  const page = await browser.newPage();
  const errors = watchErrors(page);
  await page.goto(`${pages.url}?url=${server.url}`);
  await page.getByText("Kim").waitFor();
  await page.getByLabel("Note").fill("buy a boat");
  await page.keyboard.press("Enter");
  await page.getByText("buy a boat").waitFor();
  await until(async () => (await tide.db.find("notes", {}, { database: "crm" })).length === 1, "the note");
  assert.deepEqual(errors, []);
  await browser.close();
  await pages.close();
});

test("the quickstart's page, from the packed client in an empty folder, without a bundler", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "tidewire-quickstart-"));
  await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: js });
  const [packed] = readdirSync(folder);
  const place = path.join(folder, "node_modules/@tidewire/client");
  mkdirSync(place, { recursive: true });
  await run("tar", ["xzf", path.join(folder, packed), "-C", place, "--strip-components=1"]);
  const text = readFileSync(path.join(js, "../../docs/web/quickstart.md"), "utf8");
  const [, html] = /```html\n([\s\S]*?)```/.exec(text);
  assert.ok(text.includes(packed), "the file's name as it is told");
  writeFileSync(path.join(folder, "index.html"), html.replace("ws://127.0.0.1:8090", server.url));
  const port = await freePort();
  const site = spawn("python3", ["-m", "http.server", String(port), "--bind", "127.0.0.1"], { cwd: folder, stdio: "ignore" });
  const url = `http://127.0.0.1:${port}/`;
  await until(() => fetch(url).then(() => true, () => false), "the pages");
  const browser = await launch();
  const [one, two] = [await browser.newPage(), await browser.newPage()];
  const errors = watchErrors(one);
  for (const page of [one, two]) {
    await page.goto(url);
    await page.getByText("online").waitFor();
  }
  for (const boat of ["Tug", "Pilot"]) {
    await one.getByPlaceholder("A boat").fill(boat);
    await one.getByRole("button").click();
    await two.getByText(boat).waitFor();
  }
  assert.deepEqual(await two.locator("li").allTextContents(), ["Pilot", "Tug"]);
  assert.deepEqual(errors.filter((error) => !/favicon/.test(error)), []);
  await browser.close();
  site.kill();
  rmSync(folder, { recursive: true });
});

for (const name of ["docs/web/quickstart.md", "docs/web/guide.md"]) {
  test(name, async () => {
    const text = readFileSync(path.join(js, "../..", name), "utf8");
    const blocks = [...text.matchAll(/```js\n([\s\S]*?)```\n+(?:```text\n([\s\S]*?)```)?/g)];
    assert.ok(blocks.length > 0);
    for (const [, code, wanted] of blocks) {
      const script = code.replaceAll('"ws://127.0.0.1:8090"', "process.argv[2]");
      const before = `import { WebSocket as Ws } from "ws";\nimport "fake-indexeddb/auto";\nglobalThis.WebSocket = Ws;\n`;
      const told = await runScript(`${before}${script}\nprocess.exit(0);`, "js");
      assert.equal(told, wanted ?? "", code);
    }
  });
}
