// Who waits for a client to be ready.

export class Readiness {
  /** @type {{ resolve: () => void, reject: (error: Error) => void }[]} */
  #waiting = [];
  #isReady;

  /** @param {() => boolean} isReady */
  constructor(isReady) {
    this.#isReady = isReady;
  }

  wait() {
    /** @type {Promise<void>} */
    const ready = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    this.look();
    return ready;
  }

  /** It may be now. */
  look() {
    if (!this.#isReady()) return;
    for (const { resolve } of this.#waiting.splice(0)) resolve();
  }

  /**
   * It will not be.
   * @param {Error} error
   */
  fail(error) {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}
