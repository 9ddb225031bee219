// Whether an open link lives. Browsers tell a page nothing of pings, so this goes by what is heard, by clocks, and by the check
// of the application. It decides; what to do about a dead link is its owner's business.

import { isRefusal } from "./error.js";
import { Scope } from "./scope.js";
import { step } from "./time.js";

/** How often an open link is looked at; more often where a shorter silence counts. */
const WATCH_MS = 5_000;
const SHORTEST_WATCH_MS = 500;
/** A watch this late means that the machine slept. Hidden pages are called once a minute, which is not sleep. */
const SLEPT_MS = 90_000;
/** Pauses between checks that could not tell. */
const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 300_000;
/** A patient link is given this many times as long at most: 40 s become more than 5 min. */
const LARGEST_PATIENCE = 8;

/** The doubt that many links have at the same moment, if what they listen to has stopped. */
export const SILENCE = "silence";

export class Liveness {
  #env;
  #check;
  #checkWithin;
  #silence;
  #listener;
  /**
   * A message is seen when all of it is here, and what the node says meanwhile stands behind it: a link that is busy with a large one
   * looks dead. So one that was given up, and had brought nothing but its greeting, gives the next one twice the time.
   */
  #patience = 1;
  #mostPatience;
  /** How often something was heard on this link. */
  #heardTimes = 0;
  /** @type {(() => void) | null} Ends the wait for the next watch; there is none without a link. */
  #cancelWatch = null;
  #watchMs;
  #heardAt = 0;
  /** When the last watch was, by both clocks. */
  #watchedAt = { steady: 0, wall: 0 };
  /** Why the link may be dead, until that is known. */
  #doubt = "";
  /** Checks in a row that could not tell, and when the next one may be. */
  #unknowns = 0;
  #checkAgainAt = 0;
  /** @type {((verdict: "alive" | "stopped") => void) | null} Ends the check that is under way. */
  #answer = null;

  /**
   * @param {import("./environment.js").Environment} env
   * @param {{ check?: import("../im.d.ts").ImClientOptions["check"], checkWithin: number, silence: number, isPatient?: boolean }} options
   * @param {{ alive: () => void, dead: (why: string) => void }} listener
   */
  constructor(env, { check, checkWithin, silence, isPatient = false }, listener) {
    this.#env = env;
    this.#mostPatience = isPatient ? LARGEST_PATIENCE : 1;
    this.#check = check;
    this.#checkWithin = checkWithin;
    this.#silence = silence;
    this.#watchMs = silence ? Math.max(SHORTEST_WATCH_MS, Math.min(WATCH_MS, silence / 3)) : WATCH_MS;
    this.#listener = listener;
  }

  /** The link is open. */
  start() {
    this.stop();
    this.#heardAt = this.#env.now();
    this.#heardTimes = 0;
    this.#watchLater();
  }

  /** There is no link any more. */
  stop() {
    this.#cancelWatch?.();
    this.#cancelWatch = null;
    this.#forget();
    this.#answer?.("stopped");
  }

  /** Something has arrived. */
  heard() {
    const isSoon = this.quietFor < (this.#silence * this.#patience) / 2;
    this.#heardAt = this.#env.now();
    this.#heardTimes += 1;
    if (isSoon && this.#heardTimes > 1) this.#patience = Math.max(1, this.#patience / 2);
    this.#forget();
    this.#answer?.("alive");
    this.#listener.alive();
  }

  /** Milliseconds since something was heard. */
  get quietFor() {
    return this.#env.now() - this.#heardAt;
  }

  /**
   * Has the link checked; takes it for dead where there is no check.
   * @param {string} why
   */
  async suspect(why) {
    // One check at a time.
    if (!this.#cancelWatch || this.#answer) return;
    this.#doubt = why;
    const check = this.#check;
    if (!check) {
      // Without a network nothing can be replaced. Silence was promised to be death, whatever the browser says.
      if (this.#env.isOnline() || why === SILENCE) this.#listener.dead(why);
      return;
    }
    const verdict = await this.#verdict(check);
    if (verdict === "alive") this.#listener.alive();
    else if (verdict === "dead") this.#giveUp(why);
    else if (verdict === "unknown") this.#postpone();
  }

  /** @param {string} why */
  #giveUp(why) {
    if (this.#heardTimes <= 1) this.#patience = Math.min(this.#mostPatience, this.#patience * 2);
    this.#listener.dead(why);
  }

  #forget() {
    this.#doubt = "";
    this.#unknowns = 0;
    this.#checkAgainAt = 0;
  }

  /** The web API is in trouble. That says nothing about this link, and more questions would not help. */
  #postpone() {
    const pause = step(FIRST_PAUSE_MS, this.#unknowns, LONGEST_PAUSE_MS);
    this.#unknowns += 1;
    this.#checkAgainAt = this.#env.now() + pause / 2 + this.#env.random() * (pause / 2);
  }

  #watchLater() {
    this.#watchedAt = { steady: this.#env.now(), wall: this.#env.wall() };
    this.#cancelWatch = this.#env.later(this.#watchMs, () => this.#watch());
  }

  #watch() {
    const [steady, wall] = [this.#env.now(), this.#env.wall()];
    const late = [steady - this.#watchedAt.steady, wall - this.#watchedAt.wall].map((passed) => passed - this.#watchMs);
    this.#watchLater();
    // A clock may be set, and the steady one stands still in sleep on some machines. A check will tell; without one both
    // clocks must agree.
    const slept = (this.#check ? Math.max(...late) : Math.min(...late)) >= SLEPT_MS;
    if (slept) this.suspect("the machine slept");
    else if (steady < this.#checkAgainAt) return;
    else if (this.#silence && this.quietFor >= this.#silence * this.#patience) this.suspect(SILENCE);
    else if (this.#doubt) this.suspect(this.#doubt);
  }

  /**
   * A check that fails or hangs cannot tell. Only one that was answered, and that no message followed, means death.
   * @param {NonNullable<import("../im.d.ts").ImClientOptions["check"]>} check
   * @returns {Promise<"alive" | "dead" | "unknown" | "stopped">}
   */
  #verdict(check) {
    return new Promise((resolve) => {
      const scope = new Scope(this.#env);
      const within = this.#checkWithin * this.#patience;
      /** @param {"alive" | "dead" | "unknown" | "stopped"} verdict */
      const end = (verdict) => {
        if (this.#answer !== end) return;
        this.#answer = null;
        cancel();
        if (verdict === "alive") this.#forget();
        resolve(verdict);
        scope.end();
      };
      let cancel = this.#env.later(within, () => end("unknown"));
      this.#answer = end;
      Promise.resolve()
        .then(() => check({ signal: scope.signal }))
        .then((answer) => {
          if (this.#answer !== end) return;
          if (typeof answer === "boolean") end(answer ? "alive" : "dead");
          else if (isRefusal(answer)) end("unknown");
          else {
            // The check had something sent to us, and its arrival is the answer.
            cancel();
            cancel = this.#env.later(within, () => end("dead"));
          }
        })
        .catch(() => end("unknown"));
    });
  }
}
