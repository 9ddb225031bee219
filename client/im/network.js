// What an app is told of its network, as the client wants it: gone, back, or another one, which may have broken every connection.

/** @typedef {import("./environment.js").WakeListener} WakeListener */

export class Network {
  isThere = true;
  /** @type {string | undefined} */
  #type = "";

  /**
   * The platform says how it stands.
   * @param {boolean} isThere
   * @param {string | undefined} type of network
   * @param {WakeListener} listener
   */
  stands(isThere, type, listener) {
    const [wasThere, before] = [this.isThere, this.#type];
    this.isThere = isThere;
    const isKnown = isThere && Boolean(type) && type !== "unknown";
    if (isKnown) this.#type = type;
    const isAnother = isKnown && before !== "" && type !== before;
    if (wasThere && (!isThere || isAnother)) listener.networkIsGone();
    if (isThere && (!wasThere || isAnother)) listener.networkIsBack();
  }
}
