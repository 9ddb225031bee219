// The imcore client for browsers: one push connection that stays up. No dependency, no DOM beyond events.
//
// An `EventTarget` over the core; usage is in README.md, types are in im.d.ts, the parts in the folder im.

import { browser } from "./im/browser.js";
import { Core } from "./im/core.js";
import { ImError } from "./im/error.js";
import { decodeJson } from "./im/message.js";
import { sessionPosition } from "./im/storage.js";

export { decodeJson, ImError, sessionPosition };

/** What a client tells. */
const TYPES = ["state", "open", "rejoined", "message", "resumed", "resync", "receipt", "close", "kicked", "error"];

/** One user's push connection. */
export class ImClient extends EventTarget {
  #core;

  /** @param {import("./im.d.ts").ImClientOptions} options */
  constructor(options) {
    super();
    this.#core = new Core(options, browser(options?.WebSocket));
    for (const type of TYPES) this.#core.on(type, (detail) => this.dispatchEvent(new CustomEvent(type, { detail })));
  }

  get state() {
    return this.#core.state;
  }

  get retryAt() {
    return this.#core.retryAt;
  }

  get isOpen() {
    return this.#core.isOpen;
  }

  get isSyncing() {
    return this.#core.isSyncing;
  }

  get rooms() {
    return this.#core.rooms;
  }

  get stats() {
    return this.#core.stats;
  }

  connect() {
    this.#core.connect();
  }

  close() {
    this.#core.close();
  }

  retryNow() {
    this.#core.retryNow();
  }

  /** @param {string} room */
  join(room) {
    return this.#core.join(room);
  }

  /** @param {string} room */
  leave(room) {
    return this.#core.leave(room);
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
