// How long the parts of an attempt may take: the address, the handshake, the greeting. Attempts that were too slow give the next
// ones more time; what was needed stays allowed.

import { clamp } from "./time.js";

/** The limit grows by this with each attempt that was too slow, this many times: 10, 15, 22.5 and 30 s. */
const GROWTH = 1.5;
const LARGEST_FACTOR = 3;

export class Limit {
  #env;
  #connectWithin;
  /** Attempts in a row that were too slow. */
  #tooSlow = 0;
  /** When the present part began, and what the slowest one of this attempt took. */
  #startedAt = 0;
  #slowest = 0;
  #cancel = () => {};

  /**
   * @param {import("./environment.js").Environment} env
   * @param {number} connectWithin
   */
  constructor(env, connectWithin) {
    this.#env = env;
    this.#connectWithin = connectWithin;
  }

  /** Nothing is known any more of how slow the way is. */
  reset() {
    this.#tooSlow = 0;
  }

  /** Another attempt begins. */
  begin() {
    this.#slowest = 0;
    this.#startedAt = this.#env.now();
  }

  /**
   * The next part of an attempt begins.
   * @param {(ms: number) => void} tooSlow it has not ended within its time
   */
  start(tooSlow) {
    this.#note();
    const ms = this.#after(this.#tooSlow);
    this.#cancel = this.#env.later(ms, () => {
      if (this.#after(this.#tooSlow + 1) > ms) this.#tooSlow += 1;
      tooSlow(ms);
    });
  }

  /** The attempt has come to a connection. */
  met() {
    this.#note();
    // The limit that was needed stays, in case the next handshake is as slow.
    while (this.#tooSlow > 0 && this.#slowest * GROWTH < this.#after(this.#tooSlow - 1)) this.#tooSlow -= 1;
  }

  /** The attempt is over. */
  stop() {
    this.#cancel();
  }

  #note() {
    this.stop();
    const now = this.#env.now();
    this.#slowest = Math.max(this.#slowest, now - this.#startedAt);
    this.#startedAt = now;
  }

  /** @param {number} tooSlow */
  #after(tooSlow) {
    return clamp(this.#connectWithin * Math.min(LARGEST_FACTOR, GROWTH ** tooSlow));
  }
}
