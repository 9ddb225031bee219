// Tells listeners. Nothing of an engine's: what runs without `EventTarget` needs it too.

export class Emitter {
  /** @type {Map<string, Set<(detail: any) => unknown>>} */
  #listeners = new Map();

  /**
   * @param {string} type
   * @param {(detail: any) => unknown} listener
   * @returns {() => void} ends it
   */
  on(type, listener) {
    // Each call is one of its own, also with the same function.
    const one = (/** @type {any} */ detail) => listener(detail);
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(one));
    return () => listeners.delete(one);
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  emit(type, detail) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        // It is nobody else's: neither the other listeners' nor the client's.
        Promise.reject(error);
      }
    }
  }
}
