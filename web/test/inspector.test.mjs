// The inspector as an operator uses it, in Chromium; its pictures stand in zig-out/screenshots.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, shoot, watchErrors } from "../../clients/js/test/browser/browser.mjs";
import { freePort, open, Server, until } from "../../clients/js/test/harness.mjs";

let server, browser, page, errors, reader;
before(async () => {
  server = new Server();
  server.admin = `127.0.0.1:${await freePort()}`;
  server.flags = ["--demo", "--origins", "https://app.example"]; // the inspector may connect all the same
  await server.start();
  browser = await launch();
  page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  errors = watchErrors(page);
  reader = open(server.url);
  for (const least of [7, 8]) reader.subscribe({ movies: { filter: { "IMDB Rating": { $gte: least } } } });
  for (const [n, text] of ["The tide turns at seven", "Seven boats", "An empty harbour"].entries()) {
    await reader.db.put("notes", { _id: `note${n}`, text, n, place: { $oid: "0123456789abcdef01234567" } });
  }
  for (let n = 0; n < 200; n++) await reader.db.put("movies", { _id: `n${n}`, Title: `Number ${n}`, "IMDB Rating": n % 10 });
});
after(async () => {
  reader.close();
  await browser.close();
  await server.close();
});
const view = (name) => page.getByRole("navigation").getByRole("link", { name }).click();

test("overview and actors: figures of every actor, drawn", async () => {
  await page.goto(`http://${server.admin}/`);
  assert.match(page.url(), /\/inspector\/$/);
  await page.getByText("websocket online").waitFor();
  await page.getByText("health green").waitFor();
  await page.getByRole("figure", { name: /^Messages a second: from clients/ }).waitFor();
  const writing = setInterval(() => void reader.db.put("movies", { _id: "n1", "IMDB Rating": 9 }).catch(() => {}), 20);
  await page.getByRole("figure", { name: /rows written [1-9]/ }).waitFor();
  await until(async () => (await page.locator(".chart canvas").count()) === 4, "four charts");
  await shoot(page, "inspector-overview");
  clearInterval(writing);
  await view("Actors");
  const graph = page.getByRole("img", { name: "Actors and their mailboxes" });
  for (const name of ["gateway", "subscription_manager", "log_reader.0", "store"]) {
    await graph.getByText(name, { exact: true }).waitFor();
  }
  await graph.getByText(/running · \d+\/s · \d+ waiting/).first().waitFor();
  await shoot(page, "inspector-actors");
});

test("streams: topics and connections; the console shows frames both ways", async () => {
  await view("Streams");
  await page.getByText('"IMDB Rating"').first().waitFor();
  await page.getByRole("table", { name: /Connections/ }).getByText("websocket").first().waitFor();
  await shoot(page, "inspector-streams");
  await view("Console");
  await page.getByText("No frames yet.").or(page.getByText("open: ws://")).first().waitFor();
  const frames = page.getByRole("log", { name: "Frames" });
  await page.getByRole("button", { name: "Subscribe" }).click();
  await page.getByRole("button", { name: "Send" }).click();
  await frames.getByText('"type":"subscribe"', { exact: false }).waitFor();
  await frames.getByText('"type":"sync"', { exact: false }).first().waitFor();
  await reader.db.put("movies", { _id: "live", Title: "Live", "IMDB Rating": 9 });
  await frames.getByText('"Title":"Live"', { exact: false }).waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByRole("button", { name: "Send" }).click();
  await frames.getByText('"type":"closed"', { exact: false }).waitFor();
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByText("No frames yet.").waitFor();
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("button", { name: "Send" }).click();
  await frames.getByText('{"action":"done"', { exact: false }).waitFor();
  await page.getByLabel("Frame", { exact: true }).fill("{no json");
  await page.getByText(/Not JSON/).waitFor();
  await page.getByRole("button", { name: "Send" }).click();
  await frames.getByText('"code":"bad_message"', { exact: false }).waitFor();
  await shoot(page, "inspector-console");
});

test("records: find, edit, add, delete; errors are told", async () => {
  await view("Records");
  await page.getByText("Choose a collection and press Find.").waitFor();
  await page.getByLabel("Collection").fill("movies");
  await page.getByLabel("Filter").fill('{"_id":"n7"}');
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("button", { name: "Edit n7" }).click();
  const text = page.getByLabel("Record, as JSON");
  await text.fill((await text.inputValue()).replace("Number 7", "Seven"));
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText('"Title":"Seven"').waitFor();
  assert.equal((await reader.db.get("movies", "n7")).Title, "Seven");
  await page.getByRole("button", { name: "Edit n7" }).click();
  await shoot(page, "inspector-records");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByText("No record matches.").waitFor();
  assert.equal(await reader.db.get("movies", "n7"), undefined);
  await page.getByLabel("Filter").fill('{"$where":1}');
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("alert").getByText("$where").waitFor();
  await shoot(page, "inspector-records-error");
});

test("search: hits of the engine, none, and a query it cannot read", async () => {
  await view("Search");
  await page.getByText("Words, a field with its value").waitFor();
  const search = async (query) => {
    await page.getByLabel("Query").fill(query);
    await page.keyboard.press("Enter");
  };
  await page.getByLabel("Index").fill("notes");
  await search("seven");
  await page.getByText("2 records found").waitFor();
  const hits = page.getByRole("article");
  assert.deepEqual((await hits.getByRole("heading").allTextContents()).sort(), ["note0", "note1"]);
  await hits.getByText("Seven boats").waitFor();
  await shoot(page, "inspector-search");
  await search('text:harbour AND n:[2 TO 9]');
  await page.getByText("1 record found").waitFor();
  await search("submarine");
  await page.getByText("Nothing is found.").waitFor();
  await shoot(page, "inspector-search-none");
  await search('text:"never closed');
  await page.getByRole("alert").waitFor();
  assert.equal(await hits.count(), 0);
  await page.getByLabel("Index").fill("movies");
  await search("Number");
  await page.getByText("198 records found, the first 20 are shown").waitFor();
});

test("the configuration tells origins", async () => {
  await view("Configuration");
  await page.getByRole("row", { name: /server.origins https:\/\/app.example command line/ }).waitFor();
  await page.getByRole("row", { name: /entries main version_uuid flat/ }).waitFor();
  await shoot(page, "inspector-configuration");
  const before = await page.getByRole("row").count();
  await page.getByLabel("Without defaults").check();
  await until(async () => (await page.getByRole("row").count()) < before, "the defaults are left out");
  await page.getByRole("row", { name: /server.origins/ }).waitFor();
});

test("the keyboard reaches every view, and what has the focus shows it", async () => {
  await page.goto(`http://${server.admin}/inspector/`);
  const current = page.getByRole("navigation").locator("a[aria-current]");
  for (const name of ["Overview", "Actors", "Streams", "Console"]) {
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), name);
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), "none");
    await page.keyboard.press("Enter");
    await until(async () => (await current.textContent()) === name, `the view ${name}`);
  }
});

test("narrow screens hold it; a server that is gone is told, and found again", async () => {
  await view("Overview");
  await page.setViewportSize({ width: 390, height: 844 });
  for (const name of ["Actors", "Streams", "Console", "Records", "Search", "Configuration", "Overview"]) {
    await view(name);
    await until(() => page.evaluate(() => document.documentElement.scrollWidth <= 390), `no sideways scrolling in ${name}`);
    if (["Streams", "Console", "Overview"].includes(name)) await shoot(page, `inspector-narrow-${name.toLowerCase()}`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await server.kill();
  await page.getByText(/The admin listener does not answer/).waitFor();
  await page.getByText("health unknown").waitFor();
  await shoot(page, "inspector-gone");
  await server.start();
  await page.getByText("health green").waitFor();
  await page.getByText("websocket online").waitFor();
  assert.deepEqual(errors, []);
});

test("the pages are where they belong, under their policy", async () => {
  const at = async (host, path) => fetch(`http://${host}${path}`, { redirect: "manual" });
  const listen = `127.0.0.1:${server.port}`;
  assert.equal((await at(listen, "/inspector/")).status, 404);
  assert.equal((await at(server.admin, "/demo/")).status, 404);
  for (const [host, path] of [[listen, "/demo/"], [server.admin, "/inspector/"]]) {
    const answer = await at(host, path);
    const policy = answer.headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self'/);
    assert.doesNotMatch(await answer.text(), /<script>|style=|onclick|https?:\/\//);
  }
});
