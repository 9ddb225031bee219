// Drives Chromium over the DevTools protocol through a pipe. Needs Node 20 and nothing else.
//
// Knows nothing of the chat. Every wait has a condition and a deadline.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

// Ends what hangs, and judges nothing: a tab that was closed counts as there for up to 19 s.
const DEADLINE_MS = 60_000;
const POLL_MS = 40;
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
];

/** Calls `condition` until it is truthy and returns its value; fails with `what` after the deadline. */
export async function until(what, condition, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  let last;
  for (;;) {
    last = await condition();
    if (last) return last;
    if (Date.now() > end) throw new Error(`waited ${deadline} ms in vain: ${what}`);
    await pause(POLL_MS);
  }
}

/** A page that is being left for another says nothing of either. */
function unlessItLeaves(error) {
  if (!/navigated or closed|context was destroyed|Cannot find context/.test(error.message)) throw error;
  return null;
}

export class Browser {
  #process;
  #profile;
  #next = 1;
  #waiting = new Map();
  #listeners = new Set();

  static async launch(path) {
    const browser = new Browser();
    browser.#profile = await mkdtemp(join(tmpdir(), "imcore-demo-"));
    const flags = [...FLAGS, `--user-data-dir=${browser.#profile}`, "about:blank"];
    browser.#process = spawn(path, flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.#process.on("exit", () => browser.#fail(new Error("the browser ended")));
    browser.#process.on("error", (error) => browser.#fail(error));
    browser.#process.stdio[3].on("error", () => {});
    browser.#read(browser.#process.stdio[4]);
    return browser;
  }

  async #read(output) {
    let rest = "";
    output.setEncoding("utf8");
    for await (const chunk of output) {
      const messages = (rest + chunk).split("\0");
      rest = messages.pop();
      for (const message of messages) this.#receive(JSON.parse(message));
    }
  }

  #receive({ id, result, error, method, params, sessionId }) {
    if (method) {
      for (const listener of this.#listeners) listener(method, params, sessionId);
      return;
    }
    const { resolve, reject, name } = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (error) reject?.(new Error(`${name}: ${error.message}`));
    else resolve?.(result);
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, name: method });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  listen(listener) {
    this.#listeners.add(listener);
  }

  /** A page in a context of its own: no shared storage, like another person's browser; or in that of a page that it is `beside`. */
  async open(url, size, beside) {
    const browserContextId = beside?.context ?? (await this.send("Target.createBrowserContext")).browserContextId;
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId, browserContextId, targetId);
    await page.prepare(size);
    await page.send("Page.navigate", { url });
    return page;
  }

  async close() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.send("Browser.close").catch(() => {});
    await Promise.race([ended, pause(5000).then(() => this.#process.kill("SIGKILL"))]);
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

export class Page {
  /** Exceptions and refused resources; a correct page has none. */
  problems = [];
  /** What it asked for and did not get: status and address. */
  missing = [];
  /** What the network failed to bring it: why and address. */
  failed = [];
  #browser;
  #session;
  #target;
  context;

  constructor(browser, session, context, target) {
    this.#browser = browser;
    this.#session = session;
    this.#target = target;
    this.context = context;
    const asked = new Map();
    browser.listen((method, params, sessionId) => {
      if (sessionId !== session) return;
      if (method === "Network.requestWillBeSent") asked.set(params.requestId, params.request.url);
      if (method === "Network.loadingFinished") asked.delete(params.requestId);
      if (method === "Network.loadingFailed") {
        this.failed.push(`${params.errorText} ${asked.get(params.requestId)}`);
        asked.delete(params.requestId);
      }
      if (method === "Runtime.exceptionThrown") {
        const { exception, text } = params.exceptionDetails;
        this.problems.push(exception?.description ?? text);
      }
      if (method === "Network.responseReceived" && params.response.status >= 400) {
        this.missing.push(`${params.response.status} ${params.response.url}`);
      }
      // Requests fail while the server is away; that is the page's business, not a problem.
      if (method === "Log.entryAdded" && params.entry.level === "error" && params.entry.source !== "network") {
        this.problems.push(`${params.entry.source}: ${params.entry.text}`);
      }
    });
  }

  send(method, params) {
    return this.#browser.send(method, params, this.#session);
  }

  async prepare(size) {
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await this.send(`${domain}.enable`);
    await this.resize(size);
    await this.dark(false);
    await this.send("Emulation.setFocusEmulationEnabled", { enabled: true });
    await this.send("Emulation.setLocaleOverride", { locale: "en-GB" });
  }

  resize({ width, height, phone = false, scale = 1 }) {
    return this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: scale, mobile: phone });
  }

  /** Colours of the page; movement is off in any case, so that nothing is caught half-way. */
  dark(on) {
    const features = [
      { name: "prefers-color-scheme", value: on ? "dark" : "light" },
      { name: "prefers-reduced-motion", value: "reduce" },
    ];
    return this.send("Emulation.setEmulatedMedia", { features });
  }

  /** Takes the page's network away or gives it back; the page gets the events of it. */
  network(isThere) {
    const unlimited = { latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    return this.send("Network.emulateNetworkConditions", { offline: !isThere, ...unlimited });
  }

  /** Runs a function in the page; arguments and result travel as JSON. */
  async run(body, ...parameters) {
    const expression = `(${body})(${parameters.map((value) => JSON.stringify(value)).join(",")})`;
    const answer = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? "exception in the page");
    return answer.result.value;
  }

  /** Fails with what the page shows, and what it asked for in vain. */
  async until(what, body, ...parameters) {
    try {
      return await until(what, () => this.run(body, ...parameters).catch(unlessItLeaves));
    } catch (error) {
      const shown = await this.run(() => document.body?.innerText).catch(({ message }) => message);
      const { problems, missing, failed } = this;
      error.message += `\n${JSON.stringify({ shown, problems, missing, failed }, null, 2)}`;
      throw error;
    }
  }

  /** Waits for a visible element that matches and holds `text`, and clicks where it is. */
  async click(selector, text = "") {
    const place = await this.until(`something to click: ${selector} ${text}`, (wanted, holds) => {
      const element = [...document.querySelectorAll(wanted)].find(
        (found) => found.checkVisibility({ visibilityProperty: true }) && found.textContent.includes(holds),
      );
      if (!element) return null;
      element.scrollIntoView({ block: "nearest" });
      const { x, y, width, height } = element.getBoundingClientRect();
      const [left, top] = [x + width / 2, y + height / 2];
      // Something may still cover it, for example a drawer that is sliding away.
      const hit = document.elementFromPoint(left, top);
      return hit && (element.contains(hit) || hit.contains(element)) ? { x: left, y: top } : null;
    }, selector, text);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.send("Input.dispatchMouseEvent", { type, ...place, button: "left", clickCount: 1 });
    }
  }

  /** Replaces what is in a field, as a user would. */
  async fill(selector, text) {
    // More than once if need be: Chromium drops input until a new page has been painted.
    await until(`${selector} takes "${text}"`, async () => {
      await this.click(selector);
      await this.run((wanted) => document.querySelector(wanted).select(), selector);
      await this.send("Input.insertText", { text });
      return this.run((wanted) => document.querySelector(wanted).value, selector).then((value) => value === text);
    });
  }

  async press(key, code = key, number = 13) {
    const common = { key, code, windowsVirtualKeyCode: number };
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", ...common, text: key === "Enter" ? "\r" : undefined });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...common });
  }

  /** Visible text that is harder to read than WCAG AA allows (4.5 to 1): what it says, and its contrast. */
  pale() {
    return this.run(() => {
      const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const rgba = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255];
      };
      const over = (above, below) => [0, 1, 2].map((at) => above[at] * above[3] + below[at] * (1 - above[3]));
      const behind = (element) => {
        if (!element) return rgba("Canvas").slice(0, 3);
        const color = rgba(getComputedStyle(element).backgroundColor);
        return color[3] === 1 ? color.slice(0, 3) : over(color, behind(element.parentElement));
      };
      const light = (color) => color
        .map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
      const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      const found = new Set();
      while (texts.nextNode()) {
        const [text, element] = [texts.currentNode.data.trim(), texts.currentNode.parentElement];
        const isShown = element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
        if (!text || !isShown || element.matches(":disabled, script, style, noscript, :disabled *")) continue;
        const ground = behind(element);
        const [a, b] = [light(ground), light(over(rgba(getComputedStyle(element).color), ground))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.add(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
      }
      return [...found];
    });
  }

  async screenshot(file) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    await writeFile(file, Buffer.from(data, "base64"));
  }

  /** Closes this tab alone. */
  closeTab() {
    return this.#browser.send("Target.closeTarget", { targetId: this.#target });
  }

  /** Closes it with all that is beside it. */
  close() {
    return this.#browser.send("Target.disposeBrowserContext", { browserContextId: this.context });
  }
}
