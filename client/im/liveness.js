// Whether an open link lives. Browsers tell a page nothing of pings, so this goes by what is heard, by clocks, and by the check
// of the application. It decides; what to do about a dead link is its owner's business.

import { isRefusal } from "./error.js";
import { isOnline } from "./page.js";
import { drawn, now, step } from "./time.js";

/** How often an open link is looked at; more often where a shorter silence counts. */
const WATCH_MS = 5_000;
const SHORTEST_WATCH_MS = 500;
/** A watch this late means that the machine slept. Hidden pages are called once a minute, which is not sleep. */
const SLEPT_MS = 90_000;
/** Pauses between checks that could not tell. */
const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 300_000;

/** The doubt that many links have at the same moment, if what they listen to has stopped. */
export const SILENCE = "silence";

export class Liveness {
  #check;
  #checkWithin;
  #silence;
  #listener;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #watcher;
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
   * @param {{ check?: import("../im.d.ts").ImClientOptions["check"], checkWithin: number, silence: number }} options
   * @param {{ alive: () => void, dead: (why: string) => void }} listener
   */
  constructor({ check, checkWithin, silence }, listener) {
    this.#check = check;
    this.#checkWithin = checkWithin;
    this.#silence = silence;
    this.#watchMs = silence ? Math.max(SHORTEST_WATCH_MS, Math.min(WATCH_MS, silence / 3)) : WATCH_MS;
    this.#listener = listener;
  }

  /** The link is open. */
  start() {
    this.stop();
    this.#heardAt = now();
    this.#watchedAt = { steady: now(), wall: Date.now() };
    this.#watcher = setInterval(() => this.#watch(), this.#watchMs);
  }

  /** There is no link any more. */
  stop() {
    clearInterval(this.#watcher);
    this.#watcher = undefined;
    this.#forget();
    this.#answer?.("stopped");
  }

  /** Something has arrived. */
  heard() {
    this.#heardAt = now();
    this.#forget();
    this.#answer?.("alive");
    this.#listener.alive();
  }

  /** Milliseconds since something was heard. */
  get quietFor() {
    return now() - this.#heardAt;
  }

  /**
   * Has the link checked; takes it for dead where there is no check.
   * @param {string} why
   */
  async suspect(why) {
    // One check at a time.
    if (this.#watcher === undefined || this.#answer) return;
    this.#doubt = why;
    const check = this.#check;
    if (!check) {
      // Without a network nothing can be replaced. Silence was promised to be death, whatever the browser says.
      if (isOnline() || why === SILENCE) this.#listener.dead(why);
      return;
    }
    const verdict = await this.#verdict(check);
    if (verdict === "alive") this.#listener.alive();
    else if (verdict === "dead") this.#listener.dead(why);
    else if (verdict === "unknown") this.#postpone();
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
    this.#checkAgainAt = now() + pause / 2 + drawn(pause / 2);
  }

  #watch() {
    const [steady, wall] = [now(), Date.now()];
    const late = [steady - this.#watchedAt.steady, wall - this.#watchedAt.wall].map((passed) => passed - this.#watchMs);
    this.#watchedAt = { steady, wall };
    // A clock may be set, and the steady one stands still in sleep on some machines. A check will tell; without one both
    // clocks must agree.
    const slept = (this.#check ? Math.max(...late) : Math.min(...late)) >= SLEPT_MS;
    if (slept) this.suspect("the machine slept");
    else if (steady < this.#checkAgainAt) return;
    else if (this.#silence && this.quietFor >= this.#silence) this.suspect(SILENCE);
    else if (this.#doubt) this.suspect(this.#doubt);
  }

  /**
   * A check that fails or hangs cannot tell. Only one that was answered, and that no message followed, means death.
   * @param {NonNullable<import("../im.d.ts").ImClientOptions["check"]>} check
   * @returns {Promise<"alive" | "dead" | "unknown" | "stopped">}
   */
  #verdict(check) {
    return new Promise((resolve) => {
      const scope = new AbortController();
      /** @param {"alive" | "dead" | "unknown" | "stopped"} verdict */
      const end = (verdict) => {
        if (this.#answer !== end) return;
        this.#answer = null;
        clearTimeout(timer);
        if (verdict === "alive") this.#forget();
        resolve(verdict);
        scope.abort();
      };
      let timer = setTimeout(() => end("unknown"), this.#checkWithin);
      this.#answer = end;
      Promise.resolve()
        .then(() => check({ signal: scope.signal }))
        .then((answer) => {
          if (this.#answer !== end) return;
          if (typeof answer === "boolean") end(answer ? "alive" : "dead");
          else if (isRefusal(answer)) end("unknown");
          else {
            // The check had something sent to us, and its arrival is the answer.
            clearTimeout(timer);
            timer = setTimeout(() => end("dead"), this.#checkWithin);
          }
        })
        .catch(() => end("unknown"));
    });
  }
}
