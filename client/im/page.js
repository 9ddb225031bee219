// What a browser tells of its page and network. Outside of browsers there are no such events, and nothing happens.

/**
 * @typedef {object} PageListener
 * @property {() => void} networkIsGone
 * @property {() => void} networkIsBack
 * @property {() => void} isVisible
 * @property {() => void} isHidden nobody looks at it; its timers run rarely from now on
 * @property {() => void} isPutAway into the back-forward cache, or frozen: no code runs until it is taken out
 * @property {() => void} isBack
 */

/** Whether there may be a network, as far as the browser knows. */
export function isOnline() {
  return globalThis.navigator?.onLine !== false;
}

/** Whether nobody looks at the page. */
export function isHidden() {
  return globalThis.document?.visibilityState === "hidden";
}

export class Page {
  #listener;
  /** @type {[EventTarget, string, (event: any) => void][]} */
  #hooks = [];

  /** @param {PageListener} listener */
  constructor(listener) {
    this.#listener = listener;
  }

  listen() {
    this.unlisten();
    const page = globalThis.document;
    this.#on(globalThis, "online", () => this.#listener.networkIsBack());
    this.#on(globalThis, "offline", () => this.#listener.networkIsGone());
    this.#on(globalThis, "pagehide", ({ persisted }) => (persisted ? this.#listener.isPutAway() : this.#listener.isHidden()));
    this.#on(globalThis, "pageshow", ({ persisted }) => persisted && this.#listener.isBack());
    this.#on(page, "freeze", () => this.#listener.isPutAway());
    this.#on(page, "resume", () => this.#listener.isBack());
    this.#on(page, "visibilitychange", () => (isHidden() ? this.#listener.isHidden() : this.#listener.isVisible()));
  }

  unlisten() {
    for (const [target, type, hook] of this.#hooks) target.removeEventListener(type, hook);
    this.#hooks = [];
  }

  /**
   * @param {EventTarget | undefined} target
   * @param {string} type
   * @param {(event: any) => void} hook
   */
  #on(target, type, hook) {
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(type, hook);
    this.#hooks.push([target, type, hook]);
  }
}
