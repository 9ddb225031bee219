// Plays a section of the README: its commands in one shell, as they stand, and between them what it tells the
// reader to look at, in a browser. `check.sh` prepares it. CHROMIUM names another browser than the default one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Browser, until } from "../demo/browser.mjs";

const SECTION = "A cluster in five minutes";
const DONE = "== the shell is done";

/** The `sh` blocks of the section. */
async function commands() {
  const text = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const section = text.split(/^## /m).find((part) => part.startsWith(`${SECTION}\n`));
  return [...section.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block);
}

/** One shell, as the reader has one. */
class Shell {
  #process = spawn("bash", [], { stdio: ["pipe", "pipe", "inherit"] });
  #lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();

  constructor() {
    this.#process.stdin.write("set -eu\n");
  }

  /** Runs a block to its end and gives what it printed. */
  async run(block) {
    this.#process.stdin.write(`${block}\necho '${DONE}'\n`);
    const printed = [];
    for (;;) {
      const { value, done } = await this.#lines.next();
      assert.ok(!done, `the shell gave up in:\n${block}\nafter:\n${printed.join("\n")}`);
      if (value === DONE) return printed;
      printed.push(value);
    }
  }

  end() {
    this.#process.stdin.end();
  }
}

const json = (url, options) => fetch(url, options).then((answer) => answer.json()).catch(() => null);
const ready = (port) => fetch(`http://127.0.0.1:${port}/health/ready`).then(({ ok }) => ok).catch(() => false);
const allReady = () => Promise.all([9000, 9001, 9002].map(ready)).then((nodes) => nodes.every(Boolean));
const metric = (query) => json(`http://127.0.0.1:9090/api/v1/query?query=${encodeURIComponent(query)}`)
  .then((answer) => Number(answer?.data.result[0]?.value[1]));

const says = (page, selector, words) => page.until(`${selector} says ${words}`,
  (wanted, holds) => document.querySelector(wanted)?.textContent.includes(holds), selector, words);

async function talk(speaker, hearer, words) {
  await speaker.fill("#text", words);
  await speaker.press("Enter");
  await says(hearer, "#log", `42${words}`);
  await hearer.fill("#to", "42");
  await hearer.fill("#text", `${words} yourself`);
  await hearer.press("Enter");
  await says(speaker, "#log", `43${words} yourself`);
  await says(hearer, "#log", "to 42: sent");
}

/** Two people talk until something is over. */
async function talkDuring(work, speaker, hearer) {
  let isOver = false;
  const done = work.finally(() => { isOver = true; });
  for (let round = 1; !isOver; round++) await talk(speaker, hearer, `round ${round}.`);
  return done;
}

async function lookInto(admin, user) {
  await says(admin, "#state", "3 nodes ready");
  await admin.fill("#client-id", "42");
  await admin.press("Enter");
  await says(admin, "#found .who", "42onlinelives on im-");
  await says(admin, "#found .devices", "app.py");
  await says(admin, "#found .chips", "lobby");
  await admin.click("#found button", "Send");
  await admin.fill("#message", '{"text": "from the operator"}');
  await admin.click("#ask-message button[value=send]");
  await says(user, "#log", "from the operator");
  await admin.click("#found button", "Kick");
  await admin.click("#ask-kick button[value=kick]");
  await says(user, "#state", "kicked");
}

const [start, grow, metrics, wss, end, ...others] = await commands();
assert.ok(end && others.length === 0, "the section has the five blocks that are played here");
const shell = new Shell();
const browser = await Browser.launch(process.env.CHROMIUM ?? "chromium");
const sockets = [];
browser.listen((method, { url }) => method === "Network.webSocketCreated" && sockets.push(url));
const open = (url) => browser.open(url, { width: 900, height: 700 });
try {
  await shell.run(start);
  await until("the nodes are ready", allReady);
  await until("the web API answers", () => fetch("http://127.0.0.1:8081/").then(({ ok }) => ok).catch(() => false));
  const [one, other] = [await open("http://127.0.0.1:8081/?user=42"), await open("http://127.0.0.1:8081/?user=43")];
  for (const page of [one, other]) await says(page, "#log", "you are in the lobby");
  await talk(one, other, "hello");
  for (const url of sockets) assert.match(url, /^ws:\/\/127\.0\.0\.1:610[012]\/ws\?/);
  // A reader takes longer to get here.
  await until("each node has its share", () => json("http://127.0.0.1:7002/v1/slots").then((table) =>
    table?.nodes?.length === 3 && table.nodes.every(({ slots, leaving }) => slots.length === 4 && leaving.length === 0)));
  const grown = await talkDuring(shell.run(grow), one, other);
  assert.match(grown.join("\n"), /3 slots and about .* would move/);

  assert.match((await shell.run(metrics)).at(-1), /^imcore_connections [012]$/);
  await until("Prometheus scrapes all nodes", () => metric("sum(up)").then((count) => count === 3));
  await until("and sees both clients", () => metric("sum(imcore_connections)").then((count) => count === 2));

  await lookInto(await open("http://127.0.0.1:9000/"), one);

  // From here on the API is away for a moment.
  for (const page of [one, other]) assert.deepEqual(page.missing, []);
  await other.send("Security.setIgnoreCertificateErrors", { ignore: true });
  await shell.run(wss);
  const door = await open("about:blank");
  await door.send("Security.setIgnoreCertificateErrors", { ignore: true });
  await door.send("Page.navigate", { url: "https://localhost:8443/" });
  await says(door, "body", "Only sockets are served here");
  await until("the nodes are ready again", allReady);
  await until("43 is back, through nginx", () => /^wss:\/\/localhost:8443\/[012]\/ws\?/.test(sockets.at(-1)));
  await says(other, "#state", "open");
  await other.fill("#to", "");
  await until("its room has it again", () =>
    json("http://127.0.0.1:7002/v1/channels/lobby/clients").then((room) => room?.clients.includes("43")));
  await fetch("http://127.0.0.1:7002/v1/channels/lobby/messages", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ message: { text: "over wss" } }),
  });
  await says(other, "#log", "over wss");
  for (const page of [one, other]) assert.deepEqual(page.problems, []);
  for (const node of [0, 1, 2]) {
    // Redis is there before the nodes, so none of them has to wait for it.
    const log = await readFile(new URL(`../../target/tour/im-${node}.log`, import.meta.url), "utf8");
    assert.doesNotMatch(log, /hears nothing|unavailable/, log);
  }
  await shell.run(end);
} finally {
  shell.end();
  await browser.close();
}
console.log("the cluster of the README works as it says");
