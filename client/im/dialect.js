// What a node is asked to speak: `imcore.1`, with which nothing is missed, or nothing of the kind.
//
// An old node does not answer the question, and browsers give up then without a word: just like a node that is down. So every
// other attempt goes without, except as long as a node that was heard before may be waiting for this client.

export const RESUMABLE = "imcore.1";

export class Dialect {
  #isWanted;
  /** Attempts in a row that were refused. */
  #refusals = 0;
  /** Whether the last node that was heard spoke like that, and whether there is a first doubt that it still does. */
  #hasSpoken = false;
  #isInDoubt = false;

  /** @param {boolean} isWanted */
  constructor(isWanted) {
    this.#isWanted = isWanted;
  }

  /**
   * Whether the next attempt asks for it.
   * @param {boolean} isHeld a node may be waiting for this client
   */
  asks(isHeld) {
    return this.#isWanted && (isHeld || this.#refusals % 2 === 0);
  }

  /** An attempt came to nothing, and perhaps because of what was asked for. */
  refused() {
    this.#refusals += 1;
  }

  /**
   * An attempt came to a connection.
   * @param {string} protocol that was agreed on
   * @returns {"resumable" | "plain" | "unsure"} unsure: the node is up, and may have been down when it was asked; ask again
   */
  opened(protocol) {
    const wasGuess = this.#refusals % 2 === 1;
    this.#refusals = 0;
    if (protocol === RESUMABLE) {
      this.#hasSpoken = true;
      this.#isInDoubt = false;
      return "resumable";
    }
    if (wasGuess && this.#hasSpoken && !this.#isInDoubt) {
      this.#isInDoubt = true;
      return "unsure";
    }
    this.#hasSpoken = this.#isInDoubt = false;
    return "plain";
  }
}
