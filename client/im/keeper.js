// Keeps the position of a client where the application says: its `load` and `save`, which may take their time, fail or hang, and
// then cost nothing but that a page that comes later begins anew.

import { ImError, inWords } from "./error.js";
import { Scope, within } from "./scope.js";

/** What a call of the application may take. */
const LOAD_WITHIN_MS = 3_000;
const SAVE_WITHIN_MS = 10_000;

export class Keeper {
  #env;
  #position;
  #fail;
  #isLoaded = false;
  /** What is to be saved next; only the newest counts. @type {{ text: string, saved: () => void } | null} */
  #wanted = null;
  /** @type {Promise<void> | null} The end of what is being saved. */
  #saving = null;

  /**
   * @param {import("./environment.js").Environment} env
   * @param {import("../im.d.ts").ImPosition | undefined} position
   * @param {(error: ImError) => void} fail
   */
  constructor(env, position, fail) {
    this.#env = env;
    this.#position = position;
    this.#fail = fail;
  }

  /** Whether there may be something to load. */
  get isDue() {
    return this.#position !== undefined && !this.#isLoaded;
  }

  /** What was stored is to be loaded again, some day. */
  renew() {
    this.#isLoaded = false;
  }

  /** @returns {Promise<string>} what was saved last; empty: nothing, or it cannot be had */
  async load() {
    this.#isLoaded = true;
    try {
      const stored = await within(this.#env, LOAD_WITHIN_MS, new Scope(this.#env), async () => {
        while (this.#saving) await this.#saving;
        return this.#position?.load();
      });
      return typeof stored === "string" ? stored : "";
    } catch (error) {
      this.#fail(new ImError("handler", `the position could not be loaded; beginning anew: ${inWords(error)}`, error));
      return "";
    }
  }

  /**
   * @param {string} text
   * @param {() => void} [saved] called once it is there, unless a newer one took its place; also if it could not be saved: whoever
   *   begins from an older position is told more than once, or to load its state, but misses nothing
   */
  save(text, saved = () => {}) {
    this.#wanted = { text, saved };
    if (!this.#saving) this.#saving = this.#next();
  }

  /**
   * Saves what is wanted: at once, for those who save at once. Pages may be gone in a moment.
   * @returns {Promise<void> | null}
   */
  #next() {
    for (let wanted = this.#take(); wanted; wanted = this.#take()) {
      const { text, saved } = wanted;
      /** @type {any} */
      let saving;
      try {
        saving = this.#position?.save(text);
      } catch (error) {
        this.#failed(error);
      }
      if (typeof saving?.then === "function") {
        const done = within(this.#env, SAVE_WITHIN_MS, new Scope(this.#env), () => saving);
        return done
          .catch((error) => this.#failed(error))
          .then(() => {
            saved();
            this.#saving = this.#next();
          });
      }
      saved();
    }
    return null;
  }

  #take() {
    const wanted = this.#wanted;
    this.#wanted = null;
    return wanted;
  }

  /** @param {unknown} error */
  #failed(error) {
    this.#fail(new ImError("handler", `the position could not be saved: ${inWords(error)}`, error));
  }
}
