// Who waits for a client to be ready.

export class Readiness {
  /** @type {{ resolve: () => void, reject: (error: Error) => void }[]} */
  #waiting = [];

  /** @returns {Promise<void>} */
  wait() {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** It is. */
  tell() {
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
