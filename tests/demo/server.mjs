// Starts and stops the built example on ports of its own. Knows nothing of pages.

import { spawn } from "node:child_process";
import { randomInt, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./browser.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PROGRAM = process.env.CHAT_BIN ?? join(ROOT, "target/release/examples/chat");

/**
 * A port that was free a moment ago, below those that the kernel gives to outgoing connections: the restarted process must
 * get the same one again.
 */
async function freePort() {
  for (;;) {
    const port = randomInt(10_000, 12_000);
    const probe = createServer();
    const free = await new Promise((resolve) => {
      probe.once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

/** One process of the example. */
class ChatProcess {
  #process = null;
  #output = "";
  #flags;

  constructor(http, flags) {
    this.url = `http://${http}/`;
    this.#flags = ["--http", http, ...flags];
  }

  async start() {
    this.#output = "";
    const started = spawn(PROGRAM, this.#flags, { stdio: ["ignore", "pipe", "pipe"] });
    const collect = (data) => { this.#output += data; };
    started.stdout.on("data", collect);
    started.stderr.on("data", collect);
    this.#process = started;
    await until("the server answers", async () => {
      if (started.exitCode !== null) throw new Error(`the server ended at once: ${this.#output}`);
      return fetch(this.url).then(({ ok }) => ok, () => false);
    });
  }

  /** Sends a signal and waits for the end; fails if a polite signal does not lead to a clean end. */
  async stop(signal) {
    const stopped = this.#process;
    this.#process = null;
    if (!stopped) return;
    stopped.kill(signal);
    await until(`the server ends after ${signal}`, () => stopped.exitCode !== null || stopped.signalCode !== null);
    if (signal !== "SIGKILL" && stopped.exitCode !== 0) {
      throw new Error(`after ${signal} the server ended with ${stopped.exitCode}: ${this.#output}`);
    }
  }
}

/** The demo: one process on the in-process broker, or two nodes that share a Redis. */
export class Demo {
  #processes;

  static async prepare(redis) {
    if (!existsSync(PROGRAM)) {
      throw new Error(`${PROGRAM} is missing; run: cargo build --release --example chat`);
    }
    const demo = new Demo();
    const address = async () => `127.0.0.1:${await freePort()}`;
    const nodes = redis ? [await address(), await address()] : [await address()];
    // The sessions of the pages outlive a restart.
    const secret = ["--secret", randomUUID()];
    const shared = redis ? ["--redis", redis, "--servers", nodes.join()] : [];
    demo.#processes = [];
    for (const node of nodes) demo.#processes.push(new ChatProcess(await address(), [...secret, ...shared, "--server", node]));
    return demo;
  }

  /** Where the first and the second person go: two processes if there are two. */
  get urls() {
    return [this.#processes[0].url, this.#processes.at(-1).url];
  }

  start() {
    return Promise.all(this.#processes.map((each) => each.start()));
  }

  stop(signal) {
    return Promise.all(this.#processes.map((each) => each.stop(signal)));
  }
}
