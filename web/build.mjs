// Bundles the pages into web/dist/, which the build embeds into the program (protocol/asset.h).
//   node build.mjs [FOLDER]     FOLDER: instead of web/dist
// React's hooks of the client run on Preact here.
import { build } from "esbuild";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const out = path.resolve(process.argv[2] ?? path.join(here, "dist"));
const pages = ["demo", "inspector"];

/** Files that are there already with the same bytes keep their time: the build has nothing to do. */
function write(file, bytes) {
  if (existsSync(file) && Buffer.from(bytes).equals(readFileSync(file))) return;
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, bytes);
}

for (const page of pages) {
  const { outputFiles } = await build({
    entryPoints: { [page]: path.join(here, page, "main.tsx") },
    outdir: path.join(out, page),
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    jsx: "automatic",
    jsxImportSource: "preact",
    alias: { react: "preact/compat", "@tidewire/client": path.join(here, "../clients/js/src") },
    nodePaths: [path.join(here, "node_modules")],
    legalComments: "none",
    logLevel: "error",
    write: false,
  });
  for (const { path: file, contents } of outputFiles) write(file, contents);
  write(path.join(out, page, "index.html"), readFileSync(path.join(here, page, "index.html")));
  const wanted = new Set([...outputFiles.map((file) => path.basename(file.path)), "index.html"]);
  for (const name of readdirSync(path.join(out, page))) {
    if (!wanted.has(name)) rmSync(path.join(out, page, name));
  }
}
