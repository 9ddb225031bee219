// The positions of the messages of late, so that one that comes again is known.

const MOST = 2_000;

export class Recent {
  /** In the order in which they came. @type {Set<string>} */
  #positions = new Set();

  /**
   * @param {string} p empty: a message without a position is never known
   * @returns {boolean} whether it is new; it is known from now on
   */
  add(p) {
    if (!p) return true;
    if (this.#positions.has(p)) return false;
    this.#positions.add(p);
    if (this.#positions.size > MOST) this.#positions.delete(/** @type {string} */ (this.#positions.values().next().value));
    return true;
  }
}
