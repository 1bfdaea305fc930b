/* records.tsx - browse, edit and search records, by the public protocol. */
import type { Connection, Doc, Json, Page, TidewireError } from "@tidewire/client/index.ts";
import { useState } from "preact/hooks";

import type { Collection } from "./figures.ts";

interface Props {
  tide: Connection;
  collections: readonly Collection[];
}
const SHOWN_MAX = 100;

export function Records({ tide, collections }: Props) {
  const [collection, setCollection] = useState(collections[0]?.name ?? "movies");
  const [filter, setFilter] = useState("{}");
  const [docs, setDocs] = useState<Doc[]>();
  const [problem, setProblem] = useState("");
  const [edited, setEdited] = useState<{ text: string; key: Json | undefined }>();
  const keyField = collections.find((each) => each.name === collection)?.key ?? "_id";

  const attempt = async (work: () => Promise<void>) => {
    try {
      setProblem("");
      await work();
    } catch (error) {
      setProblem(`${(error as Error).message} ${(error as TidewireError).hint ?? ""}`);
    }
  };
  const load = () =>
    attempt(async () => {
      const query = JSON.parse(filter) as Doc;
      setDocs(await tide.db.find(collection, query, { limit: SHOWN_MAX }));
    });
  const change = (work: () => Promise<unknown>) =>
    attempt(async () => {
      await work();
      setEdited(undefined);
      await load();
    });

  return (
    <div class="stack">
      <form
        class="card pad ask"
        onSubmit={(event) => {
          event.preventDefault();
          void load();
        }}
      >
        <label>
          Collection
          <input
            list="collections"
            value={collection}
            required
            onInput={(event) => setCollection(event.currentTarget.value)}
          />
          <datalist id="collections">
            {collections.map((each) => (
              <option key={each.name} value={each.name} />
            ))}
          </datalist>
        </label>
        <label class="wide">
          Filter
          <input
            class="code"
            value={filter}
            spellcheck={false}
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
        </label>
        <button class="main">Find</button>
        <button type="button" onClick={() => setEdited({ text: "{\n  \n}", key: undefined })}>
          New record
        </button>
      </form>
      {problem !== "" && (
        <p class="note bad" role="alert">
          {problem}
        </p>
      )}
      {edited && (
        <Editor
          text={edited.text}
          onText={(text) => setEdited({ ...edited, text })}
          onCancel={() => setEdited(undefined)}
          onSave={() => change(() => tide.db.put(collection, JSON.parse(edited.text) as Doc))}
          onDelete={
            edited.key === undefined
              ? undefined
              : () => change(() => tide.db.remove(collection, edited.key as Json))
          }
        />
      )}
      <Found
        docs={docs}
        keyField={keyField}
        onEdit={(doc) => setEdited({ text: JSON.stringify(doc, null, 2), key: doc[keyField] })}
      />
    </div>
  );
}

interface EditorProps {
  text: string;
  onText(text: string): void;
  onSave(): void;
  onDelete: (() => void) | undefined;
  onCancel(): void;
}

function Editor({ text, onText, onSave, onDelete, onCancel }: EditorProps) {
  return (
    <form
      class="card stack pad"
      aria-label="Edit record"
      onSubmit={(event) => {
        event.preventDefault();
        onSave();
      }}
    >
      <label>
        Record, as JSON
        <textarea
          class="code"
          rows={Math.min(18, text.split("\n").length + 1)}
          spellcheck={false}
          value={text}
          onInput={(event) => onText(event.currentTarget.value)}
        />
      </label>
      <div class="row">
        <button class="main">Save</button>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
        {onDelete && (
          <button type="button" class="danger" onClick={onDelete}>
            Delete
          </button>
        )}
      </div>
    </form>
  );
}

function Found(props: { docs: Doc[] | undefined; keyField: string; onEdit(doc: Doc): void }) {
  const { docs, keyField, onEdit } = props;
  if (docs === undefined) return <p class="empty soft">Choose a collection and press Find.</p>;
  if (docs.length === 0) return <p class="empty soft">No record matches.</p>;
  return (
    <div class="card scroll">
      <table class="records">
        <caption>
          {docs.length} {docs.length === 1 ? "record" : "records"}
          <span class="soft">{docs.length === SHOWN_MAX && ` (no more than ${SHOWN_MAX} are shown)`}</span>
        </caption>
        <thead>
          <tr>
            <th>Key</th>
            <th>Record</th>
            <th>
              <span class="hidden">Edit</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {docs.map((doc) => (
            <tr key={JSON.stringify(doc[keyField])}>
              <th scope="row">
                <code>{textOf(doc[keyField])}</code>
              </th>
              <td>
                <code class="preview">{JSON.stringify(doc)}</code>
              </td>
              <td>
                <button class="plain" onClick={() => onEdit(doc)} aria-label={`Edit ${textOf(doc[keyField])}`}>
                  Edit
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function textOf(key: Json | undefined): string {
  const oid = (key as { $oid?: string } | null)?.$oid;
  return oid ?? (typeof key === "string" ? key : JSON.stringify(key ?? null));
}

const HITS_MAX = 20;

export function Search({ tide, collections }: Props) {
  const [index, setIndex] = useState(collections[0]?.name ?? "movies");
  const [query, setQuery] = useState("");
  const [found, setFound] = useState<Page>();
  const [problem, setProblem] = useState("");
  const keyField = collections.find((each) => each.name === index)?.key ?? "_id";
  const run = async () => {
    try {
      setProblem("");
      setFound(await tide.search.search(index, query, { rows: HITS_MAX }));
    } catch (error) {
      setFound(undefined);
      const { code, message, hint } = error as TidewireError;
      setProblem(code === "unsupported" ? "This server offers no search." : `${message} ${hint}`);
    }
  };
  return (
    <div class="stack">
      <form
        class="card pad ask"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}
      >
        <label>
          Index
          <input
            list="indices"
            value={index}
            required
            onInput={(event) => setIndex(event.currentTarget.value)}
          />
          <datalist id="indices">
            {collections.map((each) => (
              <option key={each.name} value={each.name} />
            ))}
          </datalist>
        </label>
        <label class="wide">
          Query
          <input
            type="search"
            placeholder="title:tide AND year:>1950"
            value={query}
            required
            onInput={(event) => setQuery(event.currentTarget.value)}
          />
        </label>
        <button class="main">Search</button>
      </form>
      {problem !== "" && (
        <p class="note bad" role="alert">
          {problem}
        </p>
      )}
      {found === undefined ? (
        problem === "" && <p class="empty soft">Words, a field with its value, or Lucene's syntax.</p>
      ) : (
        <Hits found={found} keyField={keyField} />
      )}
    </div>
  );
}

function Hits({ found, keyField }: { found: Page; keyField: string }) {
  const { items, total } = found;
  const shown = items.length < total ? `, the first ${items.length} are shown` : "";
  return (
    <>
      <p class="soft" role="status">
        {total === 0 ? "Nothing is found." : `${total} ${total === 1 ? "record" : "records"} found${shown}`}
      </p>
      {items.map((doc) => (
        <article class="card pad hit" key={JSON.stringify(doc[keyField])}>
          <h3>{textOf(doc[keyField])}</h3>
          <dl>
            {Object.entries(doc)
              .filter(([name]) => name !== keyField)
              .map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{typeof value === "object" ? <code>{JSON.stringify(value)}</code> : String(value)}</dd>
                </div>
              ))}
          </dl>
        </article>
      ))}
    </>
  );
}
