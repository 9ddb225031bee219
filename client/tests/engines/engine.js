// The engines that clients run in: Node with each WebSocket class, and a browser. All obey the same commands.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Browser } from "../../../tests/demo/browser.mjs";
import { until } from "./patience.js";

const FOLDER = fileURLToPath(new URL("../../../target/tmp/clients/engines", import.meta.url));
/** The versions that these tests were written with. */
const PACKAGES = ["ws@8.18.3", "undici@7.16.0", "typescript@5.9.3", "@types/node@20.19.0", "@types/ws@8.18.1"];
const NODE = process.env.ENGINE_NODE ?? process.execPath;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/**
 * Installs the packages, once. They get their name when they are complete: test files run side by side.
 * @returns {string | undefined} what is missing, if it cannot be had
 */
export function missing() {
  if (existsSync(FOLDER)) return undefined;
  const folder = `${FOLDER}-${process.pid}`;
  mkdirSync(folder, { recursive: true });
  try {
    execFileSync("npm", ["install", "--silent", "--no-save", "--prefix", folder, ...PACKAGES], { stdio: "pipe" });
    renameSync(folder, FOLDER);
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    if (!existsSync(FOLDER)) return `npm cannot install ${PACKAGES.join(" ")}: ${error.message}`;
  }
  return undefined;
}

export const packages = FOLDER;
export const chromiumIsMissing = existsSync(CHROMIUM) ? undefined : `there is no ${CHROMIUM}; CHROMIUM may name another`;

/** One client at work, and all that it has told. */
class Person {
  told = [];
  #echoes = 0;

  /** The first event from `from` on that fits. */
  async heard(what, fits, from = 0) {
    return until(() => `${what}; told: ${JSON.stringify(this.told.slice(-12))}`, () => {
      if (this.isGone) throw new Error(`the program ended before: ${what}\n${this.errors}`);
      return this.told.slice(from).find(fits);
    });
  }

  state(name, from) {
    return this.heard(`state ${name}`, ({ type, detail }) => type === "state" && detail.state === name, from);
  }

  /** All that was told up to now has arrived here, and the program lives. */
  async settled() {
    const echo = (this.#echoes += 1);
    await this.command({ echo });
    await this.heard("an echo", (event) => event.echo === echo);
  }

  /** What was told from `from` on, in short. */
  short(from = 0) {
    const words = ({ type, detail, kind }) => ({ state: detail?.state, close: `close ${detail?.code}`, error: `error ${kind}` })[type] ?? type;
    return this.told.slice(from).filter(({ type }) => type !== "echo").map(words);
  }
}

class NodePerson extends Person {
  #process;
  errors = "";
  isGone = false;

  constructor(name) {
    super();
    const isOwn = name === "own";
    const flags = isOwn && process.versions.node.startsWith("20.") && !process.env.ENGINE_NODE ? ["--experimental-websocket"] : [];
    const main = fileURLToPath(new URL("main.js", import.meta.url));
    this.#process = spawn(NODE, [...flags, main, name, FOLDER], { stdio: "pipe" });
    this.#process.on("exit", () => { this.isGone = true; });
    this.#process.stdin.on("error", () => {});
    this.#process.stderr.on("data", (data) => { this.errors += data; });
    createInterface({ input: this.#process.stdout }).on("line", (line) => this.told.push(JSON.parse(line)));
  }

  command(command) {
    this.#process.stdin.write(`${JSON.stringify(command)}\n`);
  }

  async leave() {
    this.#process.kill();
  }
}

let browser;
let pages = 0;

export class Page extends Person {
  /**
   * @param {string} url
   * @param {Page} [beside] a page of the same browser
   */
  static async open(url, beside) {
    browser ??= Browser.launch(CHROMIUM);
    const launched = await browser;
    const page = new Page();
    page.binding = `tell${(pages += 1)}`;
    launched.listen((method, { name, payload }) => {
      if (method === "Runtime.bindingCalled" && name === page.binding) page.told.push(JSON.parse(payload));
    });
    page.tab = await launched.open("about:blank", { width: 800, height: 600 }, beside?.tab);
    await page.tab.send("Runtime.addBinding", { name: page.binding });
    await page.go(url);
    return page;
  }

  async go(url) {
    await this.tab.send("Page.navigate", { url });
    await this.isLoaded();
  }

  isLoaded() {
    return this.tab.until("the page is loaded", () => globalThis.isReady === true);
  }

  async command(command) {
    await this.tab.run((order, tell) => globalThis.obey(order, (event) => globalThis[tell](JSON.stringify(event))), command, this.binding);
  }

  leave() {
    return this.tab.close();
  }
}

export async function closeBrowser() {
  await (await browser)?.close();
}

/**
 * The engines by name; each starts a client's program.
 * @type {Record<string, { start: (service: string) => Promise<Person>, isMissing?: string }>}
 */
export const ENGINES = {
  "the package ws": { start: async () => new NodePerson("ws") },
  "Node's own class": { start: async () => new NodePerson("own") },
  "the package undici": { start: async () => new NodePerson("undici") },
  "Chromium": { start: (service) => Page.open(`${service}/`), isMissing: chromiumIsMissing },
};
