// What a client of `imcore.1` has of the stream of its messages: which connection it goes on from, and where; what the node is told
// of it. Docs: docs/protocol.md, "imcore.1".
//
// One for all connections of a client. Told of every frame and of every connection; knows no socket, no pause and no page. Its
// promise: each message is handed on once and in order; its position is stored after the application has handled it, and the node
// told after that.

import { ImError, inWords } from "./error.js";
import { Inbox } from "./inbox.js";
import { Keeper } from "./keeper.js";
import { decodeJson } from "./message.js";
import { Rosters } from "./rosters.js";

/** Acknowledgements are cumulative, so one a second is enough. */
const ACK_EVERY_MS = 1_000;

/** @typedef {import("./inbox.js").Entry} Entry */

/**
 * @typedef {object} Hello
 * @property {string} p
 * @property {string} c
 * @property {boolean} resumed
 * @property {number} [missed]
 * @property {import("../im.d.ts").ImResync["why"]} [why]
 * @property {boolean} channels
 * @property {number} keep
 * @property {number} spread
 */

/**
 * @typedef {object} StreamListener
 * @property {(word: string) => void} say sends a text to the node, if there is a connection that it greeted
 * @property {(type: string, detail: unknown) => void} emit
 * @property {(isSyncing: boolean) => void} syncing
 */

export class Stream {
  #env;
  #options;
  #listener;
  #inbox;
  #keeper;
  #rosters = new Rosters();
  /** Which connection this client goes on from. */
  #c = "";
  /** Up to where it has handled everything, or has it loaded: what the next connection goes on from. */
  #since = "";
  /** Of the frame that came last, handled or not. */
  #received = "";
  /** What came behind the position that the next connection goes on from: it will come again there. */
  #overlap = new Set();
  /** Up to where everything is handled and stored, and the last position that the node was told of. */
  #stored = "";
  #acknowledged = "";
  #acknowledgedAt = -Infinity;
  /** Whether somebody else goes on from where it was. */
  #hasLeft = false;
  /** @type {(() => void) | null} Ends the wait before the next acknowledgement. */
  #cancelAck = null;

  /**
   * @param {import("./environment.js").Environment} env
   * @param {ReturnType<typeof import("./options.js").complete>} options
   * @param {StreamListener} listener
   */
  constructor(env, options, listener) {
    this.#env = env;
    this.#options = options;
    this.#listener = listener;
    const { emit, syncing } = listener;
    this.#keeper = new Keeper(env, options.position, (error) => emit("error", error));
    this.#inbox = new Inbox(env, options, {
      done: ({ p }) => this.#done(p),
      overflowed: () => this.#resync("too_much", this.#received, 0),
      emit,
      syncing,
      stored: ({ p }) => this.#text(p),
    });
  }

  /** Messages that were passed over, because their handler failed. */
  get passedOver() {
    return this.#inbox.passedOver;
  }

  /** Who is in which channel, as far as the node has told. */
  get rosters() {
    return this.#rosters.all;
  }

  /**
   * Takes over what was stored by a page before this one. Called before each attempt.
   * @returns {Promise<void> | undefined} nothing if there is nothing to wait for
   */
  load() {
    return this.#keeper.isDue && !this.#c ? this.#takeOver() : undefined;
  }

  async #takeOver() {
    const [c, p] = (await this.#keeper.load()).split(" ");
    if (c && p && !this.#c) [this.#c, this.#since, this.#received, this.#stored, this.#acknowledged] = [c, p, p, p, p];
  }

  /** Ends it, for now: nothing is handed on any more, and nothing that is stored is of use to whoever comes next. */
  stop() {
    this.begin();
    this.#keeper.renew();
  }

  /** It begins anew, as on a first connection. What was stored is not loaded again: somebody else goes on from there. */
  begin() {
    if (this.#hasLeft) return;
    this.#forget();
    this.#keeper.save("");
  }

  /** Ends it for good: what is stored is left to whoever goes on from there. */
  leave() {
    this.#forget();
    this.#hasLeft = true;
  }

  #forget() {
    this.#inbox.clear();
    this.#cancelAck?.();
    this.#cancelAck = null;
    this.#c = this.#since = this.#received = this.#stored = this.#acknowledged = "";
    this.#overlap.clear();
  }

  /**
   * The address for a connection that goes on from here.
   * @param {string} url
   */
  addressed(url) {
    this.#overlap = new Set(this.#inbox.positions);
    this.#acknowledged = this.#since;
    if (!this.#c || !this.#since) return url;
    const [rest, hash] = url.split("#");
    const joint = rest.includes("?") ? "&" : "?";
    const query = `since=${encodeURIComponent(this.#since)}&c=${encodeURIComponent(this.#c)}`;
    return `${rest}${joint}${query}${hash === undefined ? "" : `#${hash}`}`;
  }

  /** The page may be gone in a moment: what was handled is said at once. */
  flush() {
    this.#cancelAck?.();
    this.#cancelAck = null;
    if (!this.#stored || this.#stored === this.#acknowledged) return;
    this.#acknowledged = this.#stored;
    this.#acknowledgedAt = this.#env.now();
    this.#listener.say(JSON.stringify({ a: this.#stored }));
  }

  // --- Connections that cannot be resumed -----------------------------------------------------------

  /**
   * One is open: whatever came before it may be missing.
   * @param {boolean} isReconnect
   */
  opened(isReconnect) {
    if (this.#c) this.begin();
    if (this.#options.onResync) this.#resync(isReconnect ? "epoch" : undefined, "", 0);
  }

  /**
   * A message or receipt of such a connection.
   * @param {"message" | "receipt"} type
   * @param {unknown} value
   * @param {number} size
   */
  told(type, value, size) {
    this.#inbox.add({ p: "", type, value, size });
  }

  // --- Frames ---------------------------------------------------------------------------------------

  /**
   * The first frame of a connection, or another one like it.
   * @param {Hello} hello
   */
  greeted(hello) {
    const isRenamed = this.#c !== hello.c;
    this.#c = hello.c;
    if (hello.resumed) {
      // A load that is under way goes on: nothing was lost since it began, and nothing is stored before it has ended.
      if (isRenamed && this.#stored) this.#save(this.#since);
      this.#acknowledge();
      return this.#listener.emit("resumed", { missed: hello.missed ?? 0 });
    }
    this.#resync(hello.why, hello.p, hello.spread ?? 0);
  }

  /**
   * Any other frame; from the connection before this one too, as long as that lives.
   * @param {{ p: string, m?: unknown, t?: string, r?: any, o?: any }} frame
   * @param {string} text
   * @param {boolean} isFormer
   */
  took(frame, text, isFormer) {
    const { p } = frame;
    if (!isPosition(frame)) {
      if (isFormer) this.#overlap.add(p);
      // It came before this connection was asked to go on from before it.
      else if (this.#overlap.delete(p)) return;
    }
    // The connection after it has been told all of it.
    const roster = isFormer ? undefined : this.#rosters.take(frame.o);
    if (roster) this.#listener.emit("roster", roster);
    this.#received = p;
    this.#inbox.add({ p, size: text.length, ...this.#read(frame, text) });
  }

  /**
   * @param {{ m?: unknown, t?: string, r?: any }} frame
   * @param {string} text
   * @returns {{ type: Entry["type"], value?: unknown }}
   */
  #read(frame, text) {
    const decode = this.#options.decode;
    try {
      if ("t" in frame) return { type: "message", value: (decode ?? decodeJson)(String(frame.t)) };
      if ("m" in frame) return { type: "message", value: decode ? decode(payload(text)) : frame.m };
      if ("r" in frame) {
        const { content, ...rest } = frame.r;
        const value = typeof content === "string" ? (decode ?? decodeJson)(content) : content;
        return { type: "receipt", value: { ...rest, content: value } };
      }
    } catch (error) {
      this.#listener.emit("error", new ImError("decode", `a message could not be decoded: ${inWords(error)}`, error));
    }
    return { type: "position" };
  }

  // --- Positions ------------------------------------------------------------------------------------

  /**
   * All up to this is handled.
   * @param {string} p
   */
  #done(p) {
    if (!this.#c || !p) return;
    this.#since = p;
    this.#save(p);
  }

  /** @param {string} p */
  #save(p) {
    const c = this.#c;
    this.#keeper.save(this.#text(p), () => {
      if (c !== this.#c) return;
      this.#stored = p;
      this.#acknowledge();
    });
  }

  #acknowledge() {
    if (this.#cancelAck) return;
    const wait = this.#acknowledgedAt + ACK_EVERY_MS - this.#env.now();
    if (wait <= 0) this.flush();
    else this.#cancelAck = this.#env.later(wait, () => this.flush());
  }

  /**
   * What `load` is to give back for a client that has handled everything up to `p`.
   * @param {string} p
   */
  #text(p) {
    return this.#c && p ? `${this.#c} ${p}` : "";
  }

  /**
   * Has the application load its state; what comes meanwhile waits. The position is taken over at once: whoever offered the old one
   * again would be told the same again. It is stored when the state is loaded, since a page that is gone before must load it again.
   * @param {import("../im.d.ts").ImResync["why"]} why
   * @param {string} p
   * @param {number} spread
   */
  #resync(why, p, spread) {
    this.#overlap.clear();
    this.#stored = "";
    if (p) this.#since = this.#received = p;
    this.#inbox.load({ why, position: this.#text(p), spread, done: () => this.#done(p) });
  }
}

/** @param {object} frame */
function isPosition(frame) {
  return !("m" in frame || "t" in frame || "r" in frame);
}

/**
 * The payload of a message as it came, for those who decode it themselves: what stands between its name and the last brace.
 * @param {string} text
 */
function payload(text) {
  const start = text.indexOf(',"m":');
  return text.slice(start + 5, text.lastIndexOf("}"));
}
