// One WebSocket, of whatever engine, with exactly one end. Knows nothing of reconnects.
//
// Engines differ in how an attempt ends. Browsers tell `error`, then `close`. The package ws throws an `error` that nobody
// listens to. Node's own class tells a refused handshake by `error` alone, and so do browsers whose page may not connect there.

import { ImError, inWords } from "./error.js";

/** How long an open socket may take from its error to its close, which has the code. */
const CLOSE_FOLLOWS_MS = 1_000;
/** The same for an attempt: both are one event in browsers, and a page's policy is told a moment later. */
const REFUSAL_FOLLOWS_MS = 50;

/** @typedef {import("./environment.js").LinkListener} LinkListener */

/**
 * The class to connect with, if there is one.
 * @param {import("../im.d.ts").ImSocketClass | undefined} given
 * @returns {import("../im.d.ts").ImSocketClass | undefined}
 */
export function socketClass(given) {
  const found = given ?? globalThis.WebSocket;
  return typeof found === "function" ? found : undefined;
}

/** A `Link` of an environment. */
export class Socket {
  /** @type {import("../im.d.ts").ImSocket} */
  #socket;
  #url;
  /** @type {LinkListener | null} Until the end has been told. */
  #listener;
  #wasOpen = false;
  /** What it was let go with. @type {[code?: number, reason?: string]} */
  #goodbye = [];
  #forbiddenBy = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** What tells violations of the page's policy; there is none outside of browsers. */
  #policy = globalThis.document ?? globalThis;
  #onViolation = (/** @type {any} */ event) => this.#violated(event);

  /**
   * Begins to connect.
   * @param {import("../im.d.ts").ImSocketClass} Class
   * @param {string} url
   * @param {string[]} protocols to be asked for; none: the engine is not told of any
   * @param {LinkListener} listener
   * @throws {ImError} the engine does not take the address
   */
  constructor(Class, url, protocols, listener) {
    this.#url = url;
    this.#listener = listener;
    this.#policy.addEventListener?.("securitypolicyviolation", this.#onViolation);
    try {
      this.#socket = protocols.length ? new Class(url, protocols) : new Class(url);
    } catch (cause) {
      this.#finish();
      throw new ImError("url", `this address cannot be connected to: ${inWords(cause)}`, cause);
    }
    // They stay for good: an `error` that nobody listens to ends the process with some engines, also after the end.
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = ({ data }) => this.#listener?.received(data);
    this.#socket.onerror = () => this.#failed();
    this.#socket.onclose = (event) => this.#end(event);
  }

  /** The sub-protocol that was agreed on; empty: none. */
  get protocol() {
    return this.#socket.protocol ?? "";
  }

  /**
   * Says a text, if the connection is open.
   * @param {string} text
   */
  send(text) {
    try {
      if (this.#wasOpen && this.#listener) this.#socket.send?.(text);
    } catch {
      // It is closing, and its end is told.
    }
  }

  /**
   * Lets go: nothing is told any more.
   * @param {number} code
   * @param {string} reason
   */
  close(code, reason) {
    if (!this.#finish()) return;
    this.#goodbye = [code, reason];
    this.#shut();
  }

  #shut() {
    try {
      this.#socket.close(...this.#goodbye);
    } catch {
      // An engine that dislikes the code must still not keep the connection.
      this.#socket.close();
    }
  }

  #opened() {
    // Apps' engines cannot close what is not open yet, and open it all the same.
    if (!this.#listener) return this.#shut();
    this.#wasOpen = true;
    clearTimeout(this.#timer);
    this.#listener.opened();
  }

  /** An error is no end by itself: the close that may follow says more. */
  #failed() {
    if (!this.#listener) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#giveUp(), this.#wasOpen ? CLOSE_FOLLOWS_MS : REFUSAL_FOLLOWS_MS);
  }

  #giveUp() {
    this.#end({ code: 1006, reason: "", wasClean: false });
    try {
      this.#socket.close();
    } catch {
      // It was closed already.
    }
  }

  /** @param {{ code: number, reason: string, wasClean: boolean }} event */
  #end({ code, reason, wasClean }) {
    const forbidden = this.#forbiddenBy ? inPolicy(this.#url, this.#forbiddenBy) : undefined;
    this.#finish()?.ended({ code, reason, wasClean, wasOpen: this.#wasOpen, forbidden });
  }

  /** The listener, to the first who asks. */
  #finish() {
    const listener = this.#listener;
    this.#listener = null;
    clearTimeout(this.#timer);
    this.#policy.removeEventListener?.("securitypolicyviolation", this.#onViolation);
    return listener;
  }

  /** @param {SecurityPolicyViolationEvent} event */
  #violated({ effectiveDirective, blockedURI, disposition }) {
    if (disposition === "report" || effectiveDirective !== "connect-src" || !isSameHost(blockedURI, this.#url)) return;
    this.#forbiddenBy = effectiveDirective;
  }
}

/**
 * @param {string} url
 * @param {string} directive
 */
function inPolicy(url, directive) {
  return `the Content-Security-Policy (CSP) of this page forbids ${new URL(url).origin}; its ${directive} must list it`;
}

/**
 * Pages are not shown the whole of what was blocked, depending on where it leads.
 * @param {string} shown
 * @param {string} url
 */
function isSameHost(shown, url) {
  try {
    return new URL(shown).host === new URL(url).host;
  } catch {
    return false;
  }
}
