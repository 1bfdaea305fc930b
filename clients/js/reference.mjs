// Writes docs/web/reference.md from the declarations that tsc makes: every exported name with its
// comment and its members. `npm run reference`; a test compares it.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const doc = path.join(here, "../../docs/web/reference.md");
const entries = Object.entries(JSON.parse(readFileSync(path.join(here, "package.json"))).exports);

/** Names that an entry exports, with the file that declares each. */
function exportsOf(file) {
  const text = readFileSync(file, "utf8");
  const names = new Map();
  for (const [, list, from] of text.matchAll(/export (?:type )?\{([^}]*)\} from "([^"]+)"/g)) {
    const source = path.resolve(path.dirname(file), from.replace(/\.js$/, ".d.ts"));
    for (const name of list.split(",").map((each) => each.trim().replace(/^type /, ""))) {
      if (name !== "") names.set(name, source);
    }
  }
  for (const [, name] of text.matchAll(/^export (?:declare )?(?:abstract )?(?:class|interface|type|function|const) (\w+)/gm)) {
    names.set(name, file);
  }
  return names;
}

/** The declaration of a name: its comment, and its text without private members. */
function declarationOf(name, file) {
  const text = readFileSync(file, "utf8");
  const start = text.search(new RegExp(`^export (?:declare )?(?:abstract )?(?:class|interface|type|function|const) ${name}\\b`, "m"));
  if (start < 0) throw new Error(`${file} does not declare ${name}`);
  let depth = 0;
  let end = start;
  for (; end < text.length; end++) {
    if ("{([".includes(text[end])) depth++;
    if ("})]".includes(text[end])) depth--;
    const isBlock = text[end] === "}" && depth === 0 && /^export (declare )?(abstract )?(class|interface)/.test(text.slice(start));
    if (isBlock || (text[end] === ";" && depth === 0)) break;
  }
  const before = text.slice(0, start);
  const comment = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*$/.exec(before)?.[1] ?? "";
  const code = text
    .slice(start, end + 1)
    .split("\n")
    .filter((line) => !/^\s*(#private;|private |export \{\};)/.test(line))
    .join("\n")
    .replace(/^ *(?:constructor|protected)[^;{]*(?:\{[^}]*\})?[^;{]*;\n/gm, "") // for the library itself
    .replace(/^export (declare )?/, "");
  return { comment: comment.replace(/^\s*\* ?/gm, "").trim(), code };
}

export function reference() {
  const parts = entries.map(([entry, { types }]) => {
    const title = `@tidewire/client${entry.slice(1)}`;
    const names = [...exportsOf(path.join(here, types))].sort(([a], [b]) => a.localeCompare(b, "en"));
    const shown = names.map(([name, file]) => {
      const { comment, code } = declarationOf(name, file);
      return `### ${name}\n\n${comment === "" ? "" : `${comment}\n\n`}\`\`\`ts\n${code}\n\`\`\`\n`;
    });
    return `## ${title}\n\n${shown.join("\n")}`;
  });
  return `# Reference of the JavaScript client\n\nGenerated from the types by \`npm run reference\`; compared by a test.\n\n${parts.join("\n")}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(doc, reference());
