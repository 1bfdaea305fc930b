// What tests in a real browser share: headless Chromium, and a web server for pages of the test's own.
import { build } from "esbuild";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../../../..");

/** The client's own name, for esbuild. */
export const client = { "@tidewire/client": path.join(root, "clients/js/dist") };

const PATIENCE_MS = 120_000; // for what must come: a deadline says nothing about how fast a machine is
const options = {
  timeout: PATIENCE_MS,
  executablePath: process.env.TIDEWIRE_CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};

/** A browser; its `newPage()` has a profile of its own. */
export async function launch() {
  const browser = await chromium.launch(options);
  const newPage = browser.newPage.bind(browser);
  browser.newPage = async (...words) => {
    const page = await newPage(...words);
    page.setDefaultTimeout(PATIENCE_MS);
    return page;
  };
  return browser;
}

/** A profile on disk, as a person's: with Web Locks, BroadcastChannel and IndexedDB between its tabs. */
export async function profile() {
  const directory = mkdtempSync(path.join(tmpdir(), "tidewire-chromium-"));
  const context = await chromium.launchPersistentContext(directory, options);
  context.setDefaultTimeout(PATIENCE_MS);
  const close = context.close.bind(context);
  context.close = async () => {
    await close();
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  };
  return context;
}

/** Serves a page whose script is `source`, bundled; it may import the client by its source. */
export async function serve(source) {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: here, loader: "tsx" },
    bundle: true,
    format: "esm",
    jsx: "automatic",
    target: "es2022",
    write: false,
    logLevel: "error",
    alias: client,
    define: { "process.env.NODE_ENV": '"development"' },
  });
  const script = outputFiles[0].text;
  const server = http.createServer((request, answer) => {
    const isScript = request.url === "/page.js";
    answer.setHeader("Cross-Origin-Opener-Policy", "same-origin"); // with the next: clocks of microseconds
    answer.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    answer.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    answer.end(isScript ? script : '<!doctype html><title>test</title><main></main><script type="module" src="page.js"></script>');
  });
  server.listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => new Promise((done) => (server.closeAllConnections(), server.close(done))),
  };
}

/** Fails the test that a page's errors belong to. */
export function watchErrors(page) {
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    const isNetwork = /WebSocket|ERR_CONNECTION|Failed to load resource/.test(message.text());
    if (message.type() === "error" && !isNetwork) errors.push(message.text());
  });
  return errors;
}

/** Pictures of a page, light and dark, in zig-out/screenshots. */
export async function shoot(page, name) {
  const folder = path.join(root, "zig-out/screenshots");
  mkdirSync(folder, { recursive: true });
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: "light" });
}
