// What applications hold, in browsers and in Node: an `EventTarget` over whatever does the work, the core or what tabs share.

/** What a client tells. */
const TYPES = ["state", "open", "rejoined", "message", "resumed", "resync", "receipt", "roster", "close", "kicked", "error"];

/** @typedef {import("./core.js").Core} Core */
/** @typedef {Pick<Core, "state" | "retryAt" | "isOpen" | "isSyncing" | "rooms" | "stats" | "ready" | "connect" | "close" | "retryNow" | "join"
 *   | "leave" | "on">} Worker */

/** One user's push connection. */
export class Client extends EventTarget {
  #worker;

  /** @param {Worker} worker */
  constructor(worker) {
    super();
    this.#worker = worker;
    for (const type of TYPES) worker.on(type, (detail) => this.dispatchEvent(new CustomEvent(type, { detail })));
  }

  get state() {
    return this.#worker.state;
  }

  get retryAt() {
    return this.#worker.retryAt;
  }

  get isOpen() {
    return this.#worker.isOpen;
  }

  get isSyncing() {
    return this.#worker.isSyncing;
  }

  get rooms() {
    return this.#worker.rooms;
  }

  get stats() {
    return this.#worker.stats;
  }

  get ready() {
    return this.#worker.ready;
  }

  connect() {
    this.#worker.connect();
  }

  close() {
    this.#worker.close();
  }

  retryNow() {
    this.#worker.retryNow();
  }

  /** @param {string} room */
  join(room) {
    return this.#worker.join(room);
  }

  /** @param {string} room */
  leave(room) {
    return this.#worker.leave(room);
  }

  /**
   * Listens until what it returns is called.
   * @param {string} type
   * @param {(detail: any) => unknown} listener
   */
  on(type, listener) {
    const hook = (/** @type {any} */ event) => listener(event.detail);
    this.addEventListener(type, hook);
    return () => this.removeEventListener(type, hook);
  }
}
