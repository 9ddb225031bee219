// The line to a node: the connection that there is and, while another takes its place, the one before it. Reads what comes, hands it to
// the stream, and judges whether it lives. What to do about its end is its owner's business: it knows no state, no pause and no page.

import { KICKED } from "./codes.js";
import { Dialect, RESUMABLE } from "./dialect.js";
import { ImError, inWords } from "./error.js";
import { Liveness } from "./liveness.js";
import { decodeJson, read } from "./message.js";
import { prober } from "./probe.js";

/** @typedef {import("./environment.js").Link} Link */
/** @typedef {import("./environment.js").End} End */

/** A node that resumes says something every 25 s, and answers a probe at once. */
const STREAM_SILENCE_MS = 40_000;
const PROBE_WITHIN_MS = 3_000;
/** For so long after a loss, a node that is not heard is taken for one that is down, not for an old one. */
const LONGEST_HOLD_MS = 60_000;
/** What the server is told of a connection that another one takes the place of. */
const BACK_SOON = /** @type {const} */ ([3001, "back soon"]);

/**
 * @typedef {object} LineListener
 * @property {() => void} unsure the node is up, and should be asked again what it speaks
 * @property {() => void} opened
 * @property {(hello: import("./stream.js").Hello, isFirst: boolean) => void} greeted the node has said where this client is
 * @property {(end: End) => void} ended by the server or the network; or an attempt was refused
 * @property {() => void} alive something was heard
 * @property {(why: string) => void} dead
 * @property {(type: string, detail: unknown) => void} emit
 */

export class Line {
  /** Since when it is open, and since when nothing is missing for it to count as a good one; null: not so. */
  openedAt = /** @type {number | null} */ (null);
  goodSince = /** @type {number | null} */ (null);
  /** Whether its node can resume, and has said where this client is. */
  isResumable = false;
  isGreeted = false;
  /** Connections that went on from the one before, what these brought, and when something was heard last. */
  counts = { resumed: 0, replayed: 0, heardAt: 0 };
  #env;
  #options;
  #stream;
  #listener;
  #dialect;
  /** Of connections whose node says nothing of itself, and of those whose node does. */
  #guessing;
  #probing;
  #liveness;
  /** @type {Link | null} */
  #link = null;
  /** @type {Link | null} The connection before, which is heard until another has taken over. */
  #former = null;
  /** For how long a node waits for us, as it said last, and until when it therefore does: milliseconds. */
  #keep = 0;
  #keptUntil = -Infinity;

  /**
   * @param {import("./environment.js").Environment} env
   * @param {ReturnType<typeof import("./options.js").complete>} options
   * @param {import("./stream.js").Stream} stream
   * @param {LineListener} listener
   */
  constructor(env, options, stream, listener) {
    this.#env = env;
    this.#options = options;
    this.#stream = stream;
    this.#listener = listener;
    this.#dialect = new Dialect(options.resume);
    this.#guessing = new Liveness(env, options, listener);
    const check = prober(env, (word) => this.#link?.send(word));
    this.#probing = new Liveness(env, { check, checkWithin: PROBE_WITHIN_MS, silence: STREAM_SILENCE_MS, isPatient: true }, listener);
    this.#liveness = this.#guessing;
  }

  /** Whether there is a connection, or an attempt at one. */
  get isThere() {
    return this.#link !== null;
  }

  /** For how long a node waits for this client that does so now: milliseconds; 0: none does. */
  get keep() {
    return this.#env.now() < this.#keptUntil ? this.#keep : 0;
  }

  /** Milliseconds since something was heard. */
  get quietFor() {
    return this.#liveness.quietFor;
  }

  /** Whether the connection has lasted for so long. @param {number} ms */
  hasLasted(ms) {
    return this.goodSince !== null && this.#env.now() - this.goodSince >= ms;
  }

  /**
   * Begins to connect; throws an `ImError` if the address cannot be.
   * @param {string} url
   */
  open(url) {
    const isHeld = this.#env.now() < Math.min(this.#keptUntil, this.#keptUntil - this.#keep + LONGEST_HOLD_MS);
    const protocols = this.#dialect.asks(isHeld) ? [RESUMABLE] : [];
    const address = protocols.length ? this.#stream.addressed(url) : url;
    const link = this.#env.connect(address, protocols, {
      opened: () => this.#opened(),
      received: (data) => (link === this.#former ? this.#hear(data, true) : this.#receive(data)),
      ended: (end) => this.#ended(link, end),
    });
    this.#link = link;
  }

  /**
   * Says something to a node that has greeted this client.
   * @param {string} word
   */
  say(word) {
    if (this.isGreeted) this.#link?.send(word);
  }

  /** @param {string} why it may be dead */
  suspect(why) {
    this.#liveness.suspect(why);
  }

  /**
   * Lets go of the connection or the attempt, but not of the one before.
   * @param {readonly [number, string]} words to the server
   */
  letGo(words) {
    if (this.isGreeted) this.#keptUntil = this.#env.now() + this.#keep;
    this.#liveness.stop();
    this.openedAt = null;
    this.goodSince = null;
    this.isResumable = false;
    this.isGreeted = false;
    const link = this.#link;
    this.#link = null;
    link?.close(...words);
  }

  /** The connection is in doubt. What it still says is heard until another has taken over, if its node can resume. */
  retire() {
    if (!this.isGreeted) return;
    this.#former?.close(...BACK_SOON);
    this.#former = this.#link;
    this.#link = null;
  }

  /** @param {readonly [number, string]} words to the server */
  dropFormer(words = BACK_SOON) {
    const former = this.#former;
    this.#former = null;
    former?.close(...words);
  }

  /** No node waits any more. */
  forget() {
    this.#keptUntil = -Infinity;
  }

  #opened() {
    const dialect = this.#dialect.opened(this.#link?.protocol ?? "");
    if (dialect === "unsure") return this.#listener.unsure();
    this.isResumable = dialect === "resumable";
    this.#liveness = this.isResumable ? this.#probing : this.#guessing;
    this.openedAt = this.#env.now();
    this.#liveness.start();
    if (!this.isResumable) {
      this.goodSince = this.openedAt;
      this.dropFormer();
    }
    return this.#listener.opened();
  }

  /**
   * @param {Link} link
   * @param {End} end
   */
  #ended(link, end) {
    if (link === this.#former) {
      this.#former = null;
      // Whoever is kicked is so on every connection; the next one may not have been there yet.
      if (end.code !== KICKED) return;
    } else if (!end.wasOpen && !end.forbidden) this.#dialect.refused();
    this.#listener.ended(end);
  }

  /** @param {unknown} data */
  #receive(data) {
    const link = this.#link;
    this.#liveness.heard();
    // Whoever was told that it lives may have let go of it.
    if (link !== this.#link) return;
    if (this.isResumable) return this.#hear(data, false);
    this.counts.heardAt = this.#env.wall();
    let message;
    try {
      if (typeof data !== "string") throw new Error("it is binary, and the server of this client sends text");
      message = read(data, this.#options.decode ?? decodeJson);
    } catch (error) {
      if (link === this.#link) this.#listener.emit("error", new ImError("decode", `a message could not be decoded: ${inWords(error)}`, error));
      return;
    }
    if (link === this.#link) this.#stream.told(message.type, message.value, String(data).length);
  }

  /**
   * A frame of a connection that can be resumed.
   * @param {unknown} data
   * @param {boolean} isFormer
   */
  #hear(data, isFormer) {
    this.counts.heardAt = this.#env.wall();
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch (error) {
      return this.#listener.emit("error", new ImError("decode", `a frame could not be read: ${inWords(error)}`, error));
    }
    if (frame?.hello) {
      if (!isFormer) this.#greeted(frame.hello);
    } else if (typeof frame?.p === "string" && (isFormer || this.isGreeted)) this.#stream.took(frame, String(data), isFormer);
  }

  /** @param {import("./stream.js").Hello} hello */
  #greeted(hello) {
    const isFirst = !this.isGreeted;
    this.isGreeted = true;
    this.#keep = (hello.keep ?? 0) * 1_000;
    if (isFirst) {
      this.goodSince = this.#env.now();
      this.dropFormer();
    }
    if (hello.resumed) {
      this.counts.resumed += 1;
      this.counts.replayed += hello.missed ?? 0;
    }
    this.#listener.greeted(hello, isFirst);
  }
}
