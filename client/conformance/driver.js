// A client's driver as the scenarios see it: a program that is told what to do, and tells what the application is given, in lines of
// JSON. It serves one scenario after the other; README.md says what it has to do.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** What it tells in the order in which it happens to the application. */
const IN_ORDER = ["message", "receipt", "load"];

export class Driver {
  /** How many times faster its clock runs than ours. */
  speed = 1;
  /** What it has told and nobody has asked for. */
  order = [];
  join = [];
  end = [];
  /** What it wrote where people look. */
  words = "";
  isReady = false;
  hasDone = false;
  fault = undefined;
  changed = () => {};
  #command;
  #process = undefined;
  #isOver = undefined;

  /** @param {string[]} command */
  constructor(command) {
    this.#command = command;
  }

  get isRunning() {
    return this.#process !== undefined;
  }

  /** It is ready when it says so. */
  start() {
    const [program, ...words] = this.#command;
    const started = spawn(program, words, { stdio: ["pipe", "pipe", "pipe"] });
    this.#process = started;
    this.#isOver = new Promise((resolve) => started.on("close", resolve));
    this.isReady = false;
    started.on("error", (error) => this.#fails(started, `the driver does not start: ${error.message}`));
    started.on("exit", (code) => this.#fails(started, `the driver ended with ${code}`));
    started.stdin.on("error", () => {});
    started.stderr.setEncoding("utf8").on("data", (text) => { this.words += text; });
    createInterface({ input: started.stdout }).on("line", (line) => started === this.#process && this.#hear(line));
  }

  async kill() {
    const started = this.#process;
    this.#process = undefined;
    started?.kill("SIGKILL");
    await this.#isOver;
  }

  /** Another scenario begins. */
  forget() {
    [this.order, this.join, this.end] = [[], [], []];
    [this.words, this.fault] = ["", undefined];
  }

  /** @param {{ do: string }} command */
  tell(command) {
    this.hasDone = false;
    this.#process.stdin.write(`${JSON.stringify(command)}\n`);
  }

  #fails(started, text) {
    if (started !== this.#process) return;
    this.fault ??= text;
    this.changed();
  }

  #hear(line) {
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      event = {};
    }
    const { is, speed = 1 } = event;
    if (is === "ready") [this.isReady, this.speed] = [true, speed];
    else if (is === "done") this.hasDone = true;
    else if (is === "join" || is === "end") this[is].push(event);
    else if (IN_ORDER.includes(is)) this.order.push(event);
    else this.fault ??= `the driver says ${line}, which is no event`;
    this.changed();
  }
}
