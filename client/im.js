// The imcore client for browsers: one push connection that stays up. No dependency, no DOM beyond events.
//
// The socket only ever receives. Every attempt asks your web API for a fresh address, because its token
// works once and for ten seconds. Types are in im.d.ts, usage in README.md, the parts in the folder im.

import { askForAddress } from "./im/address.js";
import { FATAL, hintOf, KICKED, SUPERSEDED } from "./im/codes.js";
import { ImError, inWords } from "./im/error.js";
import { Liveness, SILENCE } from "./im/liveness.js";
import { decodeJson, read } from "./im/message.js";
import { complete } from "./im/options.js";
import { isHidden, isOnline, Page } from "./im/page.js";
import { Rooms } from "./im/rooms.js";
import { Socket, socketClass } from "./im/socket.js";
import { sessionPosition } from "./im/storage.js";
import { Stream } from "./im/stream.js";
import { clamp, drawn, now, step } from "./im/time.js";

export { decodeJson, ImError, sessionPosition };

/** @typedef {import("./im.d.ts").ImState} ImState */
/** @typedef {import("./im.d.ts").ImErrorKind} ImErrorKind */
/** @typedef {import("./im/codes.js").Hint} Hint */

/** What the server is told when we let go: for good, or until a moment later. */
const GOODBYE = /** @type {const} */ ([1000, "goodbye"]);
const BACK_SOON = /** @type {const} */ ([3001, "back soon"]);
/** Nobody waits for a hidden page, so it leaves the way to those that are looked at. */
const HIDDEN_FACTOR = 4;
/** The limits of an attempt grow by this with each that was too slow, this many times: 10, 15, 22.5 and 30 s. */
const GROWTH = 1.5;
const LARGEST_FACTOR = 3;
/** A page that becomes visible checks a link that has been silent this long. */
const STALE_MS = 30_000;

/** What a node is asked to speak: with it nothing is missed. */
const RESUMABLE = "imcore.1";
/** Such a node says something every 25 s; and a probe is answered at once. */
const STREAM_SILENCE_MS = 40_000;
const PROBE = JSON.stringify({ q: 1 });
const PROBE_WITHIN_MS = 3_000;
/** How often a node may turn out to be an old one before no other is expected. */
const OLD_NODES = 2;

/** Why it makes no sense to go on. */
const NO_ADDRESS = "there is no address: the web API wants no connection any more";
const NO_CLASS = "there is no WebSocket class here (Node has one from version 22 on): give one as the option WebSocket, "
  + "for example that of the package ws";

/** @type {ImState[]} */
const ENDED = ["closed", "kicked", "failed"];

/** One user's push connection. */
export class ImClient extends EventTarget {
  /** @type {ImState} */
  state = "closed";
  /** While waiting or offline: when the next attempt starts, as `Date.now()` counts. */
  retryAt = 0;
  /** Whether the application is loading its state anew, and messages wait for that. */
  isSyncing = false;

  #options;
  #page;
  /** Of connections whose node says nothing of itself, and of those whose node does. */
  #guessing;
  #probing;
  #liveness;
  #rooms;
  #stream;
  /** @type {Socket | null} */
  #socket = null;
  /** @type {Socket | null} The connection before, which is heard until another has taken over. */
  #former = null;
  /** Whether the connection is one that can be resumed, and has been greeted. */
  #isResumable = false;
  #isGreeted = false;
  /** Attempts in a row that were refused before any node spoke like that, and nodes that did not. */
  #hasSpoken = false;
  #refusals = 0;
  #oldNodes = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} Of the pause, or of the attempt. */
  #timer;
  /** Ended when what it belongs to is let go of: an attempt, a connection, a pause. */
  #scope = new AbortController();
  /** Failures in a row, and attempts in a row that were too slow. */
  #attempt = 0;
  #tooSlow = 0;
  /** Of an attempt: when its present part began, and what the slowest one took. */
  #startedAt = 0;
  #slowestPart = 0;
  /** @type {number | null} */
  #openedAt = null;
  #hasBeenOpen = false;
  /** Until when we were asked to stay away. */
  #notBefore = 0;
  /** When the network was last lost, if it has not come back. */
  #goneAt = Infinity;
  #lastUrl = "";

  /** @param {import("./im.d.ts").ImClientOptions} options */
  constructor(options) {
    super();
    this.#options = complete(options);
    const verdict = { alive: () => this.#alive(), dead: (/** @type {string} */ why) => this.#dead(why) };
    this.#guessing = new Liveness(this.#options, verdict);
    const check = () => this.#socket?.send(PROBE);
    this.#probing = new Liveness({ check, checkWithin: PROBE_WITHIN_MS, silence: STREAM_SILENCE_MS }, verdict);
    this.#liveness = this.#guessing;
    this.#stream = new Stream(this.#options, {
      say: (word) => this.#isGreeted && this.#socket?.send(word),
      emit: (type, detail) => this.#emit(type, detail),
      syncing: (isSyncing) => {
        this.isSyncing = isSyncing;
      },
    });
    this.#rooms = new Rooms(this.#options, (type, detail) => this.#emit(type, detail));
    this.#page = new Page({
      networkIsGone: () => this.#networkIsGone(),
      networkIsBack: () => this.#networkIsBack(),
      isVisible: () => this.#pageIsVisible(),
      isHidden: () => this.#stream.flush(),
      isPutAway: () => this.#putAway(),
      isBack: () => this.#wake("the page was put away"),
    });
  }

  /** Whether messages are expected to arrive now. */
  get isOpen() {
    return this.state === "open";
  }

  /** Rooms to join again after each reconnect. Yours to edit. */
  get rooms() {
    return this.#rooms.wanted;
  }

  /** Connects, and stays connected until `close()`, a kick or a fatal close code. Again: nothing. */
  connect() {
    if (!ENDED.includes(this.state)) return;
    this.#attempt = 0;
    this.#tooSlow = 0;
    this.#notBefore = 0;
    this.#page.listen();
    this.#connect();
  }

  /** Disconnects for good; `connect()` starts again. Remembers the rooms. */
  close() {
    this.#end("closed");
  }

  /** Ends the wait for the next attempt, if there is one. */
  retryNow() {
    if (this.#isBetween) this.#connect();
  }

  /** @param {string} room */
  join(room) {
    return this.#rooms.ask("join", room);
  }

  /** @param {string} room */
  leave(room) {
    return this.#rooms.ask("leave", room);
  }

  // --- One attempt --------------------------------------------------------------------------------

  /** Whether there is neither a connection nor an attempt, but will be. */
  get #isBetween() {
    return this.state === "waiting" || (this.state === "offline" && !this.#socket);
  }

  async #connect() {
    this.#letGo(BACK_SOON);
    const { signal } = this.#scope;
    this.#enter("connecting");
    if (signal.aborted) return;
    const Class = socketClass(this.#options.WebSocket);
    if (!Class) return this.#end("failed", new ImError("url", NO_CLASS));
    this.#slowestPart = 0;
    this.#limit("no address");
    try {
      const loading = this.#stream.load();
      if (loading) await loading;
      if (signal.aborted) return;
      const url = await askForAddress(this.#options, { signal, attempt: this.#attempt });
      if (signal.aborted) return;
      if (url === null) this.#end("failed", new ImError("url", NO_ADDRESS));
      else this.#open(Class, url);
    } catch (error) {
      if (!signal.aborted) this.#fail(/** @type {ImError} */ (error));
    }
  }

  /**
   * Gives the present part of an attempt its time.
   * @param {string} missing
   */
  #limit(missing) {
    clearTimeout(this.#timer);
    this.#startedAt = now();
    const ms = this.#limitAfter(this.#tooSlow);
    this.#timer = setTimeout(() => {
      if (this.#limitAfter(this.#tooSlow + 1) > ms) this.#tooSlow += 1;
      this.#fail(new ImError("timeout", `${missing} within ${ms} ms`));
    }, ms);
  }

  /** @param {number} tooSlow */
  #limitAfter(tooSlow) {
    return clamp(this.#options.connectWithin * Math.min(LARGEST_FACTOR, GROWTH ** tooSlow));
  }

  /**
   * @param {import("./im.d.ts").ImSocketClass} Class
   * @param {string} url
   */
  #open(Class, url) {
    const isRepeated = url === this.#lastUrl;
    this.#lastUrl = url;
    this.#slowestPart = now() - this.#startedAt;
    this.#limit("the address was there, but no connection");
    const protocols = this.#expectsResumable ? [RESUMABLE] : [];
    const address = protocols.length ? this.#stream.addressed(url) : url;
    const socket = new Socket(Class, address, protocols, {
      opened: () => this.#opened(),
      received: (data) => (socket === this.#former ? this.#hear(data, true) : this.#receive(data)),
      ended: (end) => {
        if (socket === this.#former) this.#former = null;
        else this.#ended(end, isRepeated);
      },
    });
    this.#socket = socket;
  }

  /**
   * Whether the node is asked for what makes a connection resumable. An old node does not answer that, and browsers give up then
   * without a word; so every other attempt goes without, as long as no node has ever answered.
   */
  get #expectsResumable() {
    return this.#options.resume && this.#refusals % 2 === 0 && this.#oldNodes < OLD_NODES;
  }

  #opened() {
    this.#isResumable = this.#socket?.protocol === RESUMABLE;
    if (this.#isResumable) [this.#refusals, this.#oldNodes] = [0, 0];
    else if (this.#refusals % 2 === 1) [this.#refusals, this.#oldNodes] = [0, this.#oldNodes + 1];
    this.#liveness = this.#isResumable ? this.#probing : this.#guessing;

    clearTimeout(this.#timer);
    this.#openedAt = now();
    // The limit that was needed stays, in case the next handshake is as slow.
    const needed = Math.max(this.#slowestPart, this.#openedAt - this.#startedAt) * GROWTH;
    while (this.#tooSlow > 0 && needed < this.#limitAfter(this.#tooSlow - 1)) this.#tooSlow -= 1;
    const isReconnect = this.#hasBeenOpen;
    this.#hasBeenOpen = true;
    this.#hasSpoken ||= this.#isResumable;
    this.#liveness.start();
    const { signal } = this.#scope;
    this.#enter("open");
    if (!signal.aborted) this.#emit("open", { isReconnect });
    if (signal.aborted || this.#isResumable) return;
    this.#stream.opened(isReconnect);
    this.#rooms.opened();
  }

  /**
   * The node has said where this client is.
   * @param {any} hello
   */
  #greeted(hello) {
    const isFirst = !this.#isGreeted;
    this.#isGreeted = true;
    this.#dropFormer();
    const { signal } = this.#scope;
    this.#stream.greeted(hello);
    if (isFirst && !signal.aborted) this.#rooms.opened(hello.channels === true);
  }

  #dropFormer() {
    const former = this.#former;
    this.#former = null;
    former?.close(...BACK_SOON);
  }

  /**
   * The server or the network ended a connection, or refused it.
   * @param {import("./im/socket.js").End} end
   * @param {boolean} isRepeated
   */
  #ended({ code, reason, wasClean, wasOpen, forbiddenBy }, isRepeated) {
    if (forbiddenBy) {
      const origin = new URL(this.#lastUrl).origin;
      const message = `the Content-Security-Policy (CSP) of this page forbids ${origin}; its ${forbiddenBy} must list it`;
      return this.#fail(new ImError("url", message));
    }
    if (!wasOpen && !this.#hasSpoken) this.#refusals += 1;
    if (code === SUPERSEDED) this.#stream.begin();
    const fault = FATAL.get(code);
    const willReconnect = code !== KICKED && fault === undefined;
    const { signal } = this.#scope;
    this.#emit("close", { code, reason, wasClean, willReconnect });
    // A listener may have closed or connected anew.
    if (signal.aborted) return;
    if (code === KICKED) this.#end("kicked", undefined, { reason });
    else if (fault !== undefined) this.#end("failed", new ImError("protocol", `close code ${code}: ${fault}`));
    else {
      const repeated = new ImError("url", "the address that was refused is the one before, and each works once: is the answer cached?");
      this.#wait(hintOf(code, reason), isRepeated && !wasOpen ? repeated : undefined);
    }
  }

  /**
   * An attempt or a connection is given up from our side.
   * @param {ImError} error
   */
  #fail(error) {
    this.#wait(error.retryAfter === undefined ? undefined : { after: error.retryAfter }, error);
  }

  // --- Between two attempts -------------------------------------------------------------------------

  /**
   * @param {Hint} [hint]
   * @param {ImError} [error]
   */
  #wait(hint, error) {
    if (this.#hasLasted) this.#attempt = 0;
    this.#letGo(BACK_SOON);
    const { firstPause, longestPause } = this.#options;
    const isOffline = !isOnline();
    const first = isHidden() ? firstPause * HIDDEN_FACTOR : firstPause;
    const longest = isOffline ? longestPause : step(first, this.#attempt, longestPause);
    this.#attempt += 1;
    let pause = isOffline ? longest / 2 + drawn(longest / 2) : drawn(longest);
    if (hint) {
      pause = Math.max(isOffline ? pause : 0, hint.after + drawn(hint.spread ?? longest));
      this.#notBefore = now() + clamp(pause);
    }
    this.#pauseFor(clamp(Math.max(pause, this.#notBefore - now())), error);
  }

  /**
   * @param {number} ms
   * @param {ImError} [error]
   */
  #pauseFor(ms, error) {
    const { signal } = this.#scope;
    clearTimeout(this.#timer);
    this.retryAt = Date.now() + Math.round(ms);
    // Also while offline: browsers are sometimes wrong about it, for example on a network of their own.
    this.#timer = setTimeout(() => this.#connect(), ms);
    this.#enter(isOnline() ? "waiting" : "offline");
    if (error && !signal.aborted) this.#emit("error", error);
  }

  /** A connection that lasted was a good one: the pauses start small again. */
  get #hasLasted() {
    return this.#openedAt !== null && now() - this.#openedAt >= this.#options.stableAfter;
  }

  /**
   * Something speaks for another attempt now, or against the connection there is.
   * @param {string} why
   */
  #wake(why) {
    if (!this.#isBetween) return void this.#liveness.suspect(why);
    const left = this.#notBefore - now();
    if (left <= 0) this.#connect();
    else if (!this.retryAt) this.#pauseFor(left);
  }

  // --- Messages -------------------------------------------------------------------------------------

  /** @param {unknown} data */
  #receive(data) {
    const { signal } = this.#scope;
    this.#liveness.heard();
    if (signal.aborted) return;
    if (this.#isResumable) return this.#hear(data, false);
    let message;
    try {
      if (typeof data !== "string") throw new Error("it is binary, and the server of this client sends text");
      message = read(data, this.#options.decode ?? decodeJson);
    } catch (error) {
      if (!signal.aborted) this.#emit("error", new ImError("decode", `a message could not be decoded: ${inWords(error)}`, error));
      return;
    }
    if (!signal.aborted) this.#stream.told(message.type, message.value, String(data).length);
  }

  /**
   * A frame of a connection that can be resumed.
   * @param {unknown} data
   * @param {boolean} isFormer
   */
  #hear(data, isFormer) {
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch (error) {
      return this.#emit("error", new ImError("decode", `a frame could not be read: ${inWords(error)}`, error));
    }
    if (frame?.hello && !isFormer) this.#greeted(frame.hello);
    else if (typeof frame?.p === "string") this.#stream.took(frame, String(data), isFormer);
  }

  // --- What the page and the link tell --------------------------------------------------------------

  /** If the browser says offline, it is wrong. */
  #alive() {
    if (this.state === "offline" && this.#openedAt !== null) this.#enter("open");
  }

  /** @param {string} why */
  #dead(why) {
    const error = new ImError("dead", `the link is taken for dead: ${why}`);
    if (this.#isGreeted) this.#retire();
    // All clients may fall silent at once, and then they must not come back at once. Other reasons are one machine's own,
    // and no failure of the server's: there is nothing to wait for.
    if (why === SILENCE || !this.#hasLasted || !isOnline()) return this.#fail(error);
    this.#attempt = 0;
    this.#connect();
    const { signal } = this.#scope;
    if (!signal.aborted && !ENDED.includes(this.state)) this.#emit("error", error);
  }

  /** The connection may outlive a short loss, so it is kept until it proves dead. */
  #networkIsGone() {
    this.#goneAt = now();
    if (this.state === "open") this.#enter("offline");
    else if (this.state === "waiting" && this.retryAt) this.#wait();
  }

  #networkIsBack() {
    if (this.state === "connecting") {
      // What was sent before the network came back is lost, and its answer never comes.
      this.#connect();
    } else if (this.#openedAt === null) {
      this.#attempt = 0;
      if (this.#isBetween) this.#wake("");
    } else if (this.#liveness.quietFor >= now() - this.#goneAt) {
      // Nothing was heard since.
      this.#liveness.suspect("the network was away");
    }
    this.#goneAt = Infinity;
  }

  #pageIsVisible() {
    const isStale = this.#options.check && this.#liveness.quietFor >= STALE_MS;
    if (this.#isBetween || isStale) this.#wake("the page was hidden");
  }

  /**
   * The browser would go on answering pings for a page that no code runs in, and the server would hold the user for online. So
   * the page says that it is away, and comes back when it is taken out again.
   */
  #putAway() {
    if (ENDED.includes(this.state)) return;
    this.#stream.flush();
    this.#dropFormer();
    this.#letGo(BACK_SOON);
    this.#enter("waiting");
  }

  // --- State ----------------------------------------------------------------------------------------

  /**
   * The end, until `connect()` is called again.
   * @param {"closed" | "kicked" | "failed"} state
   * @param {ImError} [error]
   * @param {{ reason: string }} [kick]
   */
  #end(state, error, kick) {
    this.#stream.flush();
    this.#former?.close(...GOODBYE);
    this.#former = null;
    this.#letGo(GOODBYE);
    this.#stream.stop();
    this.#page.unlisten();
    this.#rooms.stop();
    const { signal } = this.#scope;
    this.#enter(state);
    if (signal.aborted) return;
    if (error) this.#emit("error", error);
    if (kick) this.#emit("kicked", kick);
  }

  /**
   * Lets go of the present attempt, connection or pause.
   * @param {readonly [number, string]} words to the server
   */
  #letGo(words) {
    this.#scope.abort();
    this.#scope = new AbortController();
    clearTimeout(this.#timer);
    this.#liveness.stop();
    this.#rooms.ended();
    this.#openedAt = null;
    this.#isResumable = false;
    this.#isGreeted = false;
    this.retryAt = 0;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(...words);
  }

  /** The connection is in doubt. What it still says is heard until another has taken over. */
  #retire() {
    this.#former?.close(...BACK_SOON);
    this.#former = this.#socket;
    this.#socket = null;
  }

  /** @param {ImState} state */
  #enter(state) {
    const previous = this.state;
    this.state = state;
    if (state !== previous || this.retryAt) this.#emit("state", { state, previous, retryAt: this.retryAt });
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
