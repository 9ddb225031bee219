// A real imserver, and what the business would ask its API.

import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { until } from "./patience.js";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const KEY = randomBytes(16).toString("hex");

/** A loopback address of this run's own, so that no port is taken by a neighbour. */
export const HOST = `127.${[...randomBytes(2)].map((byte) => 1 + (byte % 250)).join(".")}.9`;

/** The program; built if it is not there in its newest form. */
function program() {
  if (process.env.IMSERVER_BIN) return process.env.IMSERVER_BIN;
  execFileSync("cargo", ["build", "--quiet", "--locked", "--bin", "imserver"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  return `${process.env.CARGO_TARGET_DIR ?? `${ROOT}target`}/debug/imserver`;
}

export class Node {
  address = { host: HOST, port: 6001 };
  #process;
  #log = "";

  async start() {
    const flags = ["--listen", `${HOST}:6001`, "--api", `${HOST}:7001`];
    const env = { ...process.env, IMSERVER_API_KEY: KEY };
    this.#process = spawn(program(), flags, { stdio: ["ignore", "pipe", "pipe"], env });
    for (const output of [this.#process.stdout, this.#process.stderr]) output.on("data", (data) => { this.#log += data; });
    await until("imserver is ready", async () => {
      if (this.#process.exitCode !== null) throw new Error(`imserver ended: ${this.#log}`);
      return this.ask("GET", "/v1/nodes").catch(() => false);
    });
    return this;
  }

  async stop() {
    const ended = new Promise((resolve) => { this.#process.once("exit", resolve); });
    this.#process.kill("SIGKILL");
    await ended;
  }

  async ask(method, path, body) {
    const headers = { Authorization: `Bearer ${KEY}`, "Content-Type": "application/json" };
    const answer = await fetch(`http://${HOST}:7001${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === "" ? true : JSON.parse(text);
  }

  /** Where a client may connect, once: at a proxy of the test's. */
  async addressOf(client, proxy) {
    const { url } = await this.ask("POST", "/v1/connections", { client });
    return url.replace(/\/\/[^/]+\//, `//${proxy.host}:${proxy.port}/`);
  }

  send(client, message, more = {}) {
    return this.ask("POST", "/v1/messages", { receivers: [client], message, ...more });
  }

  async isOnline(client) {
    return (await this.ask("GET", `/v1/clients/${client}`)).online;
  }

  async connectionsOf(client) {
    return (await this.ask("GET", `/v1/clients/${client}/connections`)).connections.length;
  }
}
