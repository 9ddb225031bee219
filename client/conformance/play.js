// Plays one scenario with one client: its steps one after the other, each a promise that is kept, or a fault in plain words.
// Times are those of the protocol; the driver says how many times faster its clock runs.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { Server } from "./server.js";

/** How much later than the protocol says something may come before it counts as missing: machines are busy. */
const PATIENCE_MS = 20_000;
/** What a node says where a scenario says nothing else. */
const HELLO = { p: "k3.100", c: "7-aX", client: "42", resumed: false, keep: 60, channels: false, spread: 0 };

/**
 * @param {{ name: string, steps: object[] }} scenario
 * @param {import("./driver.js").Driver} driver started if it is not running, and killed if something goes wrong
 * @returns {Promise<string | undefined>} what went wrong
 */
export async function play(scenario, driver) {
  const folder = await mkdtemp(join(tmpdir(), "conformance-"));
  const stage = new Stage(driver, join(folder, "position"));
  let number = 0;
  let step;
  try {
    await stage.begin();
    for (step of scenario.steps) {
      number += 1;
      await stage.take(step);
    }
    step = undefined;
    await stage.finish();
    return undefined;
  } catch (error) {
    await driver.kill();
    if (!(error instanceof Fault)) throw error;
    const where = step ? `step ${number}, ${JSON.stringify(step)}: ` : "at the end: ";
    return `${where}${error.message}${driver.words && `\n${driver.words.trimEnd()}`}`;
  } finally {
    stage.end();
    await rm(folder, { recursive: true });
  }
}

class Fault extends Error {}

class Stage {
  #driver;
  #store;
  #server;
  /** Connections in the order of their attempts, and how many of them a step has asked for. */
  #connections = [];
  #met = 0;
  #fault;
  #changed = () => {};
  /** When something was last ended: what a pause is counted from. */
  #endedAt = 0;
  #positions = new Set();

  constructor(driver, store) {
    this.#driver = driver;
    this.#store = store;
    driver.changed = () => this.#changed();
    const fault = (text) => {
      this.#fault ??= `the client ${text}`;
      this.#changed();
    };
    this.#server = new Server((connection) => {
      connection.at = performance.now();
      connection.changed = () => this.#changed();
      this.#connections.push(connection);
      this.#changed();
    }, fault);
  }

  async begin() {
    this.#driver.forget();
    await this.#server.listen();
    if (!this.#driver.isRunning) await this.#startDriver();
  }

  async finish() {
    this.#look();
    this.#nothingNew();
    await this.tell({ do: "stop" });
  }

  end() {
    this.#server.close();
  }

  /** @param {Record<string, any>} step */
  async take(step) {
    const { on, ...rest } = step;
    const [[verb, argument]] = Object.entries(rest);
    if (!Object.hasOwn(VERBS, verb)) throw new Error(`there is no step ${verb}`);
    await VERBS[verb](this, argument, on);
  }

  // --- The driver -----------------------------------------------------------------------------------

  async #startDriver() {
    this.#driver.start();
    await this.#until("the driver says that it is ready", 0, () => this.#driver.isReady);
  }

  /** Has the driver do something, and waits until it has. */
  async tell(command) {
    this.#driver.tell(command);
    await this.#until(`the driver has done ${command.do}`, 0, () => this.#driver.hasDone);
  }

  async start() {
    await this.tell({ do: "start", address: this.#server.address, store: this.#store });
  }

  /** The application is killed, and started anew. */
  async restart() {
    await this.#driver.kill();
    await this.#startDriver();
    await this.start();
  }

  answerNext(answer) {
    this.#server.answers.push(answer);
  }

  // --- Waiting --------------------------------------------------------------------------------------

  /** Waits until something is true: as long as the protocol gives, and patience. */
  async #until(what, ms, condition) {
    const end = performance.now() + ms / this.#driver.speed + PATIENCE_MS;
    for (;;) {
      this.#look();
      const found = condition();
      if (found) return found;
      const left = end - performance.now();
      if (left <= 0) throw new Fault(`still not: ${what}`);
      await this.#change(left);
    }
  }

  #change(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#changed = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #pass(ms) {
    const end = performance.now() + ms / this.#driver.speed;
    for (let left = end - performance.now(); left > 0; left = end - performance.now()) {
      this.#look();
      await this.#change(left);
    }
  }

  #look() {
    const fault = this.#driver.fault ?? this.#fault;
    if (fault) throw new Fault(fault);
  }

  #nothingNew() {
    const [told] = this.#driver.order;
    if (told) throw new Fault(`the application was given ${JSON.stringify(told)}`);
    if (this.#driver.end.length > 0) throw new Fault("the client has ended");
    if (this.#connections.length > this.#met) throw new Fault("the client connects");
  }

  // --- What steps ask for ---------------------------------------------------------------------------

  /** A connection by the number of its attempt, from 1; the newest. */
  connection(number) {
    const found = this.#connections[(number ?? this.#met) - 1];
    if (!found) throw new Error("there is no such connection yet");
    return found;
  }

  hasEnded() {
    this.#endedAt = performance.now();
  }

  async attempt({ after = 0, within = 60_000, ...expected }) {
    const found = await this.#until("the client connects", within, () => this.#connections[this.#met]);
    this.#met += 1;
    const passed = (found.at - this.#endedAt) * this.#driver.speed;
    if (passed < after) throw new Fault(`it came back after ${Math.round(passed)} ms`);
    const { since, c, asks } = found;
    for (const [name, value] of Object.entries({ since, c, asks })) {
      if (name in expected && expected[name] !== value) throw new Fault(`it connects with ${name} ${JSON.stringify(value)}`);
    }
    return found;
  }

  say(number, value) {
    if (typeof value === "object" && value !== null) {
      const position = value.hello?.p ?? value.p;
      if (position) this.#positions.add(position);
    }
    this.connection(number).say(typeof value === "string" ? value : JSON.stringify(value));
  }

  sent(position) {
    this.#positions.add(position);
  }

  hello(number, own) {
    this.say(number, { hello: { ...HELLO, ...own } });
  }

  async hear(number, expected) {
    const connection = this.connection(number);
    await this.#until(`the node hears ${JSON.stringify(expected)}`, 60_000, () => this.#heardOn(connection, expected));
  }

  /** Takes all that was heard up to what is asked for. */
  #heardOn(connection, expected) {
    const index = connection.heard.findIndex(({ word }) => isDeepStrictEqual(word, expected));
    for (const { word } of connection.heard) {
      if (word.a !== undefined && !this.#positions.has(word.a)) throw new Fault(`it acknowledges ${word.a}, which never was`);
    }
    if (index < 0) return false;
    connection.heard.splice(0, index + 1);
    return true;
  }

  async unheard(number, { for: ms, ...expected }) {
    await this.#pass(ms);
    if (this.#heardOn(this.connection(number), expected)) throw new Fault("it said so");
  }

  /** Not more often than one in a second; two may be as near as the network makes them. */
  async fewAcknowledgements(number, last) {
    const connection = this.connection(number);
    const isLast = ({ word }) => word.a === last;
    await this.#until(`the node hears ${last} acknowledged`, 5_000, () => connection.heard.some(isLast));
    const acknowledged = connection.heard.filter(({ word }) => word.a !== undefined);
    const seconds = ((acknowledged.at(-1).at - acknowledged[0].at) * this.#driver.speed) / 1_000;
    if (acknowledged.length > seconds + 2) throw new Fault(`it acknowledges ${acknowledged.length} times in ${seconds.toFixed(1)} s`);
    connection.heard = [];
  }

  silent(number) {
    const [said] = this.connection(number).heard;
    if (said) throw new Fault(`it said ${JSON.stringify(said.word)}`);
  }

  async expect(expected) {
    const told = await this.#until(`the application is given ${JSON.stringify(expected)}`, 60_000, () => this.#driver.order.shift());
    for (const [name, value] of Object.entries(expected)) {
      if (!isDeepStrictEqual(told[name] ?? null, value)) throw new Fault(`the application was given ${JSON.stringify(told)}`);
    }
  }

  async joins() {
    await this.#until("the client joins its channels", 60_000, () => this.#driver.join.shift());
  }

  joinsNot() {
    if (this.#driver.join.length > 0) throw new Fault("the client joins channels that it is in");
  }

  async ends(why) {
    const { why: told } = await this.#until("the client ends", 5_000, () => this.#driver.end.shift());
    if (told !== why) throw new Fault(`it ends as ${told}`);
  }

  async quiet(ms) {
    await this.#pass(ms);
    this.#nothingNew();
  }

  async leaves(number, code) {
    const connection = this.connection(number);
    await this.#until("the client closes the connection", 60_000, () => connection.gone !== undefined);
    if (code !== undefined && connection.gone !== code) throw new Fault(`it closes with ${connection.gone}`);
    this.hasEnded();
  }

  stays(number) {
    const { gone } = this.connection(number);
    if (gone !== undefined) throw new Fault(`the client has closed the connection with ${gone}`);
  }

  /** A node that does not know imcore.1: some WebSocket classes give up then, and the client asks for nothing next. */
  async plain() {
    const first = await this.attempt({});
    first.accept("");
    if (!first.asks) return;
    const comesAgain = () => this.#connections.length > this.#met;
    await this.#until("the client goes on without imcore.1, or tries again", 60_000, () => comesAgain() || this.#driver.order.length > 0);
    if (comesAgain()) (await this.attempt({ asks: false, since: null })).accept("");
  }
}

/** What a step may be, see README.md. */
const VERBS = {
  do: (stage, what) => (what === "start" ? stage.start() : stage.tell({ do: what })),
  hold: (stage, what) => stage.tell({ do: "hold", what }),
  restart: (stage) => stage.restart(),
  address: (stage, answer) => stage.answerNext(answer),
  /** From nothing to a client that has loaded its state. */
  live: async (stage, own) => {
    await stage.start();
    (await stage.attempt({ since: null, c: null, asks: true })).accept("imcore.1");
    stage.hello(undefined, own);
    await stage.expect({ is: "load", why: null });
    await stage.joins();
  },
  attempt: (stage, expected) => stage.attempt(expected),
  accept: (stage, protocol) => stage.connection().accept(protocol),
  plain: (stage) => stage.plain(),
  refuse: (stage, { status, headers }) => {
    stage.connection().refuse(status, headers);
    stage.hasEnded();
  },
  hello: (stage, own, on) => stage.hello(on, own),
  say: (stage, value, on) => stage.say(on, value),
  message: (stage, [p, m], on) => stage.say(on, { p, m }),
  messages: (stage, [from, to], on) => {
    for (let n = from; n <= to; n += 1) stage.say(on, { p: `k3.${n}`, m: n });
  },
  large: (stage, [p, size]) => stage.say(undefined, { p, m: "x".repeat(size) }),
  binary: (stage, text) => stage.connection().binary(text),
  parts: (stage, { p, parts }) => {
    stage.sent(p);
    stage.connection().sayInParts(parts);
  },
  drip: (stage, value) => {
    stage.sent(value.p);
    return stage.connection().drip(JSON.stringify(value));
  },
  half: (stage, value) => stage.connection().half(JSON.stringify(value)),
  ping: (stage, text) => stage.connection().ping(text),
  close: (stage, [code, reason], on) => {
    stage.hasEnded();
    stage.connection(on).close(code, typeof reason === "object" ? JSON.stringify(reason) : reason);
  },
  cut: (stage, _, on) => {
    stage.hasEnded();
    stage.connection(on).cut();
  },
  expect: (stage, event) => stage.expect(event),
  handles: async (stage, values) => {
    for (const value of values) await stage.expect({ is: "message", value });
  },
  handlesAll: async (stage, [from, to]) => {
    for (let n = from; n <= to; n += 1) await stage.expect({ is: "message", value: n });
  },
  handlesLarge: (stage, size) => stage.expect({ is: "message", value: "x".repeat(size) }),
  loads: (stage, why) => stage.expect(why === true ? { is: "load" } : { is: "load", why }),
  joins: (stage) => stage.joins(),
  joinsNot: (stage) => stage.joinsNot(),
  hear: (stage, word, on) => stage.hear(on, word),
  unheard: (stage, word, on) => stage.unheard(on, word),
  fewAcknowledgements: (stage, last, on) => stage.fewAcknowledgements(on, last),
  silent: (stage, _, on) => stage.silent(on),
  ends: (stage, why) => stage.ends(why),
  leaves: (stage, code, on) => stage.leaves(on, code === true ? undefined : code),
  stays: (stage, _, on) => stage.stays(on),
  quiet: (stage, ms) => stage.quiet(ms),
};
