// What a client of `imcore.1` has of the stream of its messages: where it is, what waits for the application, what the node is
// told of it.
//
// One for all connections of a client. Told of every frame and of every connection; knows no socket, no pause and no page. Its
// promise: each message is handed on once and in order, and its position is stored and acknowledged after the application has
// handled it.

import { ImError, inWords } from "./error.js";
import { decodeJson } from "./message.js";
import { clamp, drawn, now, step } from "./time.js";

/** Acknowledgements are cumulative, so one a second is enough. */
const ACK_EVERY_MS = 1_000;
/** What may wait for the application: beyond it, it loads its state anew instead. */
const MOST_WAITING = 1_000;
const MOST_CHARACTERS = 1 << 20;

/**
 * @typedef {object} Entry
 * @property {string} p
 * @property {"message" | "receipt" | "position"} type
 * @property {unknown} [value]
 * @property {number} size
 */

/**
 * @typedef {object} Hello
 * @property {string} p
 * @property {string} c
 * @property {boolean} resumed
 * @property {number} [missed]
 * @property {import("../im.d.ts").ImResync["why"]} [why]
 * @property {boolean} channels
 * @property {number} spread
 */

/**
 * @typedef {object} StreamListener
 * @property {(word: string) => void} say sends a text to the node, if there is a connection
 * @property {(type: string, detail: unknown) => void} emit
 * @property {(isSyncing: boolean) => void} syncing
 */

export class Stream {
  #options;
  #listener;
  /** Which connection this client goes on from, and where: the last frame that came, handled or not. */
  #c = "";
  #received = "";
  /** What came behind the position that the next connection is asked to go on from: it will come again there. */
  #overlap = new Set();
  /** The last position that the application has handled, and the last that the node was told of. */
  #handled = "";
  #acknowledged = "";
  #acknowledgedAt = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ackTimer;
  /** @type {Entry[]} */
  #waiting = [];
  #characters = 0;
  #isHandling = false;
  /** What is being loaded anew, if that is so; another one takes its place. */
  #sync = 0;
  #syncs = 0;
  /** @type {((isOver: boolean) => void) | null} Ends the pause before a load. */
  #wake = null;
  #isStopped = false;
  /** How often it began anew. */
  #begun = 0;

  /**
   * @param {ReturnType<typeof import("./options.js").complete>} options
   * @param {StreamListener} listener
   */
  constructor(options, listener) {
    this.#options = options;
    this.#listener = listener;
  }

  /**
   * Takes over what was stored by a page before this one. Called before each attempt.
   * @returns {Promise<void> | undefined} nothing if there is nothing to wait for
   */
  load() {
    this.#isStopped = false;
    const { position } = this.#options;
    return position && !this.#c ? this.#takeOver(position) : undefined;
  }

  /** @param {import("../im.d.ts").ImPosition} position */
  async #takeOver(position) {
    const stored = await position.load();
    const [c, p] = typeof stored === "string" ? stored.split(" ") : [];
    if (c && p && !this.#c) [this.#c, this.#received, this.#handled, this.#acknowledged] = [c, p, p, p];
  }

  /** Ends it, for now: nothing is handed on any more, and nothing that is stored is of use to whoever comes next. */
  stop() {
    this.#isStopped = true;
    this.#forget();
    this.#options.position?.save("");
  }

  /** Somebody else goes on from where this client was: it begins anew. */
  begin() {
    this.#forget();
  }

  #forget() {
    this.#begun += 1;
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    this.#waiting = [];
    this.#characters = 0;
    this.#c = this.#received = this.#handled = this.#acknowledged = "";
    this.#overlap.clear();
    this.#endSync();
  }

  /**
   * The address for a connection that goes on from here.
   * @param {string} url
   */
  addressed(url) {
    this.#overlap.clear();
    if (!this.#c || !this.#received) return url;
    const [rest, hash] = url.split("#");
    const joint = rest.includes("?") ? "&" : "?";
    const query = `since=${encodeURIComponent(this.#received)}&c=${encodeURIComponent(this.#c)}`;
    return `${rest}${joint}${query}${hash === undefined ? "" : `#${hash}`}`;
  }

  /** The page may be gone in a moment: what was handled is said at once. */
  flush() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (!this.#handled || this.#handled === this.#acknowledged) return;
    this.#acknowledged = this.#handled;
    this.#acknowledgedAt = now();
    this.#listener.say(JSON.stringify({ a: this.#handled }));
  }

  // --- Connections that cannot be resumed -----------------------------------------------------------

  /**
   * One is open: whatever came before it may be missing.
   * @param {boolean} isReconnect
   */
  opened(isReconnect) {
    this.#isStopped = false;
    this.#c = "";
    if (this.#options.onResync) this.#resync(isReconnect ? "epoch" : undefined, 0);
  }

  /**
   * A message or receipt of such a connection.
   * @param {"message" | "receipt"} type
   * @param {unknown} value
   * @param {number} size
   */
  told(type, value, size) {
    this.#add({ p: "", type, value, size });
  }

  // --- Frames ---------------------------------------------------------------------------------------

  /**
   * The first frame of a connection, or another one like it.
   * @param {Hello} hello
   */
  greeted(hello) {
    this.#c = hello.c;
    if (hello.resumed) {
      // A load that is under way goes on: nothing was lost since it began.
      return this.#listener.emit("resumed", { missed: hello.missed ?? 0 });
    }
    this.#overlap.clear();
    // At once: whoever offered the old position again would be told the same again.
    this.#received = hello.p;
    this.#resync(hello.why, hello.spread ?? 0);
  }

  /**
   * Any other frame; from the connection before this one too, as long as that lives.
   * @param {{ p: string, m?: unknown, t?: string, r?: any }} frame
   * @param {string} text
   * @param {boolean} isFormer
   */
  took(frame, text, isFormer) {
    const { p } = frame;
    // It came on the former connection, after this one was asked to go on from before it.
    if (!isFormer && this.#overlap.delete(p) && !isPosition(frame)) return;
    if (isFormer) this.#overlap.add(p);
    this.#received = p;
    this.#add({ p, size: text.length, ...this.#read(frame, text) });
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

  /** @param {Entry} entry */
  #add(entry) {
    const { onMessage } = this.#options;
    if (entry.type === "position" && !this.#waiting.length && !this.#isHandling && !this.#sync) {
      return this.#done(entry.p);
    }
    if (!onMessage && !this.#sync && !this.#isHandling) {
      // Listeners are onlookers: what they were told is handled.
      this.#tell(entry);
      return this.#done(entry.p);
    }
    this.#waiting.push(entry);
    this.#characters += entry.size;
    if (this.#waiting.length > MOST_WAITING || this.#characters > MOST_CHARACTERS) return this.#resync("too_much", 0);
    this.#handle();
  }

  /** @param {Entry} entry */
  #tell({ type, value }) {
    if (type !== "position") this.#listener.emit(type, value);
  }

  // --- The application ------------------------------------------------------------------------------

  /** Has the application handle what waits, one after the other. */
  async #handle() {
    if (this.#isHandling || this.#sync) return;
    this.#isHandling = true;
    for (let entry = this.#next(); entry; entry = this.#next()) {
      const before = this.#begun;
      this.#tell(entry);
      if (entry.type === "message" && this.#options.onMessage) await this.#handOn(entry);
      // Begun anew or ended meanwhile: its position is of no use any more.
      if (before === this.#begun) this.#done(entry.p);
    }
    this.#isHandling = false;
  }

  #next() {
    if (this.#sync || this.#isStopped) return undefined;
    const entry = this.#waiting.shift();
    this.#characters -= entry?.size ?? 0;
    return entry;
  }

  /**
   * Calls the handler, and again if it fails, up to its retries: a stream must not stand still for one message.
   * @param {Entry} entry
   */
  async #handOn({ value, p }) {
    const { onMessage, retries } = this.#options;
    for (let attempt = 0; ; attempt += 1) {
      try {
        await onMessage?.(value, { position: this.#stored(p) });
        return;
      } catch (error) {
        const passed = attempt >= retries ? "; it is passed over" : "";
        this.#listener.emit("error", new ImError("handler", `onMessage failed${passed}: ${inWords(error)}`, error));
        if (passed) return;
      }
    }
  }

  /**
   * All up to this is handled.
   * @param {string} p
   */
  #done(p) {
    if (!this.#c || !p) return;
    this.#handled = p;
    this.#save();
    if (this.#ackTimer !== undefined) return;
    const wait = this.#acknowledgedAt + ACK_EVERY_MS - now();
    if (wait <= 0) this.flush();
    else this.#ackTimer = setTimeout(() => this.flush(), wait);
  }

  #save() {
    try {
      this.#options.position?.save(this.#stored(this.#handled));
    } catch (error) {
      this.#listener.emit("error", new ImError("handler", `the position could not be saved: ${inWords(error)}`, error));
    }
  }

  /**
   * What `load` is to give back for a client that has handled everything up to `p`.
   * @param {string} p
   */
  #stored(p) {
    return `${this.#c} ${p}`;
  }

  // --- Beginning anew -------------------------------------------------------------------------------

  /**
   * Has the application load its state; what comes meanwhile is held.
   * @param {import("../im.d.ts").ImResync["why"]} why
   * @param {number} spread
   */
  async #resync(why, spread) {
    this.#endSync();
    this.#begun += 1;
    this.#waiting = [];
    this.#characters = 0;
    const number = (this.#syncs += 1);
    this.#sync = number;
    const from = this.#received;
    this.#listener.syncing(true);
    this.#listener.emit("resync", { why });
    const { onResync, firstPause, longestPause } = this.#options;
    let pause = why === undefined ? 0 : drawn(spread);
    for (let failures = 0; this.#sync === number; failures += 1) {
      if (pause > 0 && !(await this.#sleep(pause))) return;
      try {
        await onResync?.({ why, position: this.#stored(from) });
        break;
      } catch (error) {
        if (this.#sync !== number) return;
        this.#listener.emit("error", new ImError("resync", `onResync failed; it is called again: ${inWords(error)}`, error));
        pause = clamp(drawn(step(firstPause, failures, longestPause)));
      }
    }
    if (this.#sync !== number) return;
    this.#sync = 0;
    this.#listener.syncing(false);
    this.#done(from);
    this.#handle();
  }

  /**
   * @param {number} ms
   * @returns {Promise<boolean>} false if it was ended
   */
  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(true), ms);
      this.#wake = (isOver) => {
        clearTimeout(timer);
        this.#wake = null;
        resolve(isOver);
      };
    });
  }

  #endSync() {
    if (this.#sync) this.#listener.syncing(false);
    this.#sync = 0;
    this.#wake?.(false);
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
