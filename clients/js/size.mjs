// The gzipped size of each entry beside that of its peers: `npm run size` writes SIZES.md, a test
// compares it. Each is what a page would load that imports all of it: bundled and minified by esbuild,
// for browsers, without what the page has anyway (react, @tanstack/db).
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const here = (name) => new URL(name, import.meta.url).pathname;
const ours = [
  ["@tidewire/client", "src/index.ts", "streams, records, changes"],
  ["@tidewire/client/local", "src/local/index.ts", "the local database, IndexedDB, idb, and the core"],
  ["@tidewire/client/report", "src/report.ts", "the folds of the report preset"],
  ["@tidewire/client/react", "src/react.ts", "the hooks"],
  ["@tidewire/client/tanstack", "src/tanstack.ts", "collection options of TanStack DB"],
];
const peers = [
  ["centrifuge", 'export * from "centrifuge"', "channels, recovery from a short history"],
  ["socket.io-client", 'export * from "socket.io-client"', "events; what was missed is the program's affair"],
  [
    "rxdb",
    'export * from "rxdb"; export * from "rxdb/plugins/storage-dexie"; export * from "rxdb/plugins/replication"',
    "the local database on IndexedDB (Dexie) and replication",
  ],
];

async function gzipped(contents) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: here("."), loader: "ts" },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform: "browser",
    external: ["react", "@tanstack/db"],
    logLevel: "error",
    write: false,
  });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

export async function sizes() {
  const rows = [];
  for (const [name, file, what] of ours) rows.push([name, await gzipped(`export * from "./${file}"`), what]);
  for (const [name, contents, what] of peers) rows.push([name, await gzipped(contents), what]);
  return rows;
}

const versions = JSON.parse(readFileSync(here("package.json"))).devDependencies;

export async function table() {
  const lines = (await sizes()).map(([name, bytes, what]) => {
    const version = versions[name] === undefined ? "" : ` ${versions[name]}`;
    return `| ${name}${version} | ${bytes.toLocaleString("en")} | ${what} |`;
  });
  return `# Sizes

Bytes, gzipped, of all that an entry exports, bundled and minified by esbuild ${versions.esbuild}.
Written by \`npm run size\`, compared by a test.

| entry | bytes | what it does |
|---|---:|---|
${lines.join("\n")}
`;
}

if (process.argv[1] === here("size.mjs")) {
  writeFileSync(here("SIZES.md"), await table());
}
