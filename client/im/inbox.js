// What waits for the application, and the calls that hand it on: `onMessage` and `onResync`, one call at a time, in order.
//
// Knows no connection and no position: whoever puts something in is told when it is done. What waits is bounded; beyond that its
// owner is told, and has the state loaded instead.

import { ImError, inWords } from "./error.js";
import { pause, Scope } from "./scope.js";
import { clamp, step } from "./time.js";

const MOST_WAITING = 1_000;
const MOST_CHARACTERS = 1 << 20;
/** A call that takes so long is told, and waited for all the same: two at a time, or a message that is left, would be worse. */
const LONG_MS = 30_000;

/**
 * @typedef {object} Entry
 * @property {string} p
 * @property {"message" | "receipt" | "position"} type
 * @property {unknown} [value]
 * @property {number} size
 */

/**
 * @typedef {object} Load
 * @property {import("../im.d.ts").ImResync["why"]} why
 * @property {string} position
 * @property {number} spread milliseconds over which to draw its begin
 * @property {() => void} done
 */

/**
 * @typedef {object} InboxListener
 * @property {(entry: Entry) => void} done the application has handled it, or passed it over
 * @property {() => void} overflowed more waits than may; nothing waits any more
 * @property {(type: string, detail: unknown) => void} emit
 * @property {(isSyncing: boolean) => void} syncing
 * @property {(entry: Entry) => string} stored what `onMessage` is told as the position of its message
 */

export class Inbox {
  /** Messages that were passed over, because their handler failed. */
  passedOver = 0;
  #env;
  #options;
  #listener;
  /** @type {Entry[]} */
  #waiting = [];
  #characters = 0;
  /** @type {Entry | null} What the application is busy with. */
  #current = null;
  /** @type {Load | null} What is loaded, or will be as soon as the application is free. */
  #load = null;
  /** Of everything that was put in since it was last cleared, and of the load. */
  #scope;
  #isRunning = false;
  /** @type {(() => void)[]} Who waits until nothing is due. */
  #idlers = [];

  /**
   * @param {import("./environment.js").Environment} env
   * @param {ReturnType<typeof import("./options.js").complete>} options
   * @param {InboxListener} listener
   */
  constructor(env, options, listener) {
    this.#env = env;
    this.#options = options;
    this.#listener = listener;
    this.#scope = new Scope(env);
  }

  /** The positions of the messages and receipts that are not done. */
  get positions() {
    const undone = this.#current ? [this.#current, ...this.#waiting] : this.#waiting;
    return undone.filter(({ type }) => type !== "position").map(({ p }) => p);
  }

  /** Whether the application has done all that was due. */
  get isIdle() {
    return !this.#isRunning;
  }

  /** Fulfilled when the application has done all that is due. */
  get idle() {
    /** @type {Promise<void>} */
    const idle = new Promise((resolve) => this.#idlers.push(resolve));
    this.#run();
    return idle;
  }

  /** @param {Entry} entry */
  add(entry) {
    this.#waiting.push(entry);
    this.#characters += entry.size;
    const isTooMuch = this.#waiting.length > MOST_WAITING || this.#characters > MOST_CHARACTERS;
    // One that is too large by itself is not refused: it is here already.
    if (isTooMuch && this.#waiting.length > 1) this.#listener.overflowed();
    else this.#run();
  }

  /**
   * Has the application load its state, in place of all that waits, and of a load that is under way.
   * @param {Load} load
   */
  load(load) {
    this.#void();
    this.#load = load;
    const scope = this.#scope;
    this.#listener.syncing(true);
    this.#listener.emit("resync", { why: load.why });
    if (!scope.isOver) this.#run();
  }

  /** Nobody wants any of it any more. A call that is under way is left to itself; what it comes to does not matter. */
  clear() {
    this.#void();
    if (this.#load) this.#listener.syncing(false);
    this.#load = null;
  }

  #void() {
    this.#scope.end();
    this.#scope = new Scope(this.#env);
    this.#waiting = [];
    this.#characters = 0;
  }

  /** Does what is due. Goes on at once as long as it has not to wait for the application. */
  async #run() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (;;) {
      if (this.#load) await this.#carryOut(this.#load);
      else if (this.#waiting.length) {
        const handling = this.#next();
        if (handling) await handling;
      } else break;
    }
    this.#isRunning = false;
    for (const resolve of this.#idlers.splice(0)) resolve();
  }

  /** @returns {Promise<void> | undefined} nothing if it is done */
  #next() {
    const entry = /** @type {Entry} */ (this.#waiting.shift());
    this.#characters -= entry.size;
    const scope = this.#scope;
    this.#current = entry;
    if (entry.type !== "position") this.#listener.emit(entry.type, entry.value);
    if (!scope.isOver && entry.type === "message" && this.#options.onMessage) return this.#handOn(entry, scope);
    this.#current = null;
    if (!scope.isOver) this.#listener.done(entry);
    return undefined;
  }

  /**
   * Calls the handler, and again if it fails, up to its retries: a stream must not stand still for one message.
   * @param {Entry} entry
   * @param {Scope} scope
   */
  async #handOn(entry, scope) {
    const { onMessage, retries } = this.#options;
    const position = this.#listener.stored(entry);
    for (let left = retries; !scope.isOver; left -= 1) {
      try {
        await this.#watched("handler", "onMessage", scope, () => onMessage?.(entry.value, { position }));
        break;
      } catch (error) {
        if (scope.isOver) break;
        const passed = left > 0 ? "" : "; the message is passed over";
        if (passed) this.passedOver += 1;
        this.#listener.emit("error", new ImError("handler", `onMessage failed${passed}: ${inWords(error)}`, error));
        if (passed) break;
      }
    }
    this.#current = null;
    if (!scope.isOver) this.#listener.done(entry);
  }

  /** @param {Load} load */
  async #carryOut(load) {
    const scope = this.#scope;
    const { onResync, firstPause, longestPause } = this.#options;
    const { why, position, spread, done } = load;
    let wait = onResync ? this.#env.random() * spread : 0;
    for (let failures = 0; onResync; failures += 1) {
      if (wait > 0) await pause(this.#env, wait, scope);
      if (scope.isOver) return;
      try {
        await this.#watched("resync", "onResync", scope, () => onResync({ why, position, signal: scope.signal }));
        break;
      } catch (error) {
        if (scope.isOver) return;
        this.#listener.emit("error", new ImError("resync", `onResync failed; it is called again: ${inWords(error)}`, error));
        wait = clamp(this.#env.random() * step(firstPause, failures, longestPause));
      }
    }
    if (scope.isOver) return;
    this.#load = null;
    this.#listener.syncing(false);
    done();
  }

  /**
   * Waits for the application, however long it takes.
   * @param {"handler" | "resync"} kind
   * @param {string} name
   * @param {Scope} scope
   * @param {() => unknown} call
   */
  async #watched(kind, name, scope, call) {
    const cancel = this.#env.later(LONG_MS, () => {
      if (scope.isOver) return;
      const message = `${name} has not returned for ${LONG_MS / 1_000} s; all that comes waits for it: give its calls a time limit`;
      this.#listener.emit("error", new ImError(kind, message));
    });
    try {
      await call();
    } finally {
      cancel();
    }
  }
}
