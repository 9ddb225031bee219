// How long the client stays away between two attempts: its back-off, what others asked for, and for how long a node waits for it.

import { clamp, step } from "./time.js";

/** Nobody waits for a hidden page, so it leaves the way to those that are looked at. */
const HIDDEN_FACTOR = 4;
/** Which part of the time that a node waits may go into one pause: several attempts must fit in. */
const PART_OF_KEEP = 1 / 4;
/** Others take over from a node that died within 10 s: so long, and some more, pauses do not outgrow this. */
const TAKEN_OVER_MS = 16_000;
const LONGEST_UNTIL_THEN = 4_000;

export class Pauses {
  #env;
  #firstPause;
  #longestPause;
  /** Failures in a row. */
  failures = 0;
  /** When a connection was lost that had lasted. */
  #lostAt = -Infinity;
  /** Until when we were asked to stay away. */
  #notBefore = 0;

  /**
   * @param {import("./environment.js").Environment} env
   * @param {{ firstPause: number, longestPause: number }} options
   */
  constructor(env, { firstPause, longestPause }) {
    this.#env = env;
    this.#firstPause = firstPause;
    this.#longestPause = longestPause;
  }

  /** The pauses start small again. */
  reset() {
    this.failures = 0;
  }

  /** A connection is lost that had lasted: the same, and they stay small until another node may have taken over. */
  lost() {
    this.reset();
    this.#lostAt = this.#env.now();
  }

  /** Somebody wants to connect now, whoever asked for what before. */
  forget() {
    this.failures = 0;
    this.#notBefore = 0;
  }

  /** Milliseconds that are left of what was asked for. */
  get asked() {
    return this.#notBefore - this.#env.now();
  }

  /**
   * The pause after one more failure.
   * @param {import("./codes.js").Hint | undefined} hint what was asked for
   * @param {number} keep milliseconds for which a node waits for this client that does so now; 0: none does
   */
  next(hint, keep) {
    const { isOnline, isHidden, now, random } = this.#env;
    const isOffline = !isOnline();
    const most = Math.min(
      this.#longestPause,
      keep > 0 ? keep * PART_OF_KEEP : Infinity,
      now() - this.#lostAt < TAKEN_OVER_MS && !isHidden() && !isOffline ? LONGEST_UNTIL_THEN : Infinity,
    );
    const first = isHidden() ? this.#firstPause * HIDDEN_FACTOR : this.#firstPause;
    const longest = isOffline ? most : step(first, this.failures, most);
    this.failures += 1;
    let pause = isOffline ? longest / 2 + random() * (longest / 2) : random() * longest;
    if (hint) {
      pause = Math.max(isOffline ? pause : 0, hint.after + random() * (hint.spread ?? longest));
      this.#notBefore = now() + clamp(pause);
    }
    return clamp(Math.max(pause, this.asked));
  }
}
