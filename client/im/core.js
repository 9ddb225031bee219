// The client itself, for whatever engine: one push connection that stays up, as states, attempts and ends.
//
// Knows no global: its environment gives it clocks, sockets and news of the page. Every attempt asks the web API for a fresh address,
// because its token works once and for ten seconds. Its parts: the line to the node and what comes over it (line, stream, inbox), the
// rooms, and how long things may take (limit, pauses).

import { askForAddress } from "./address.js";
import { FATAL, hintOf, KICKED, SUPERSEDED } from "./codes.js";
import { Emitter } from "./emitter.js";
import { ImError } from "./error.js";
import { Limit } from "./limit.js";
import { Line } from "./line.js";
import { SILENCE } from "./liveness.js";
import { complete } from "./options.js";
import { Pauses } from "./pauses.js";
import { Readiness } from "./readiness.js";
import { Rooms } from "./rooms.js";
import { Scope } from "./scope.js";
import { Stream } from "./stream.js";

/** @typedef {import("../im.d.ts").ImState} ImState */
/** @typedef {import("./codes.js").Hint} Hint */
/** @typedef {import("./environment.js").Environment} Environment */

/** What the server is told when we let go: for good, or until a moment later. */
const GOODBYE = /** @type {const} */ ([1000, "goodbye"]);
const BACK_SOON = /** @type {const} */ ([3001, "back soon"]);
/** A page that becomes visible checks a link that has been silent this long. */
const STALE_MS = 30_000;

const NO_ADDRESS = "there is no address: the web API wants no connection any more";

/** @type {ImState[]} */
const ENDED = ["closed", "kicked", "failed"];

/** One user's push connection. */
export class Core {
  /** @type {ImState} */
  state = "closed";
  /** While waiting or offline: when the next attempt starts, as the wall clock counts. */
  retryAt = 0;
  /** Whether the application is loading its state anew, and messages wait for that. */
  isSyncing = false;

  #env;
  #options;
  #emitter = new Emitter();
  #stopListening = () => {};
  #line;
  #limit;
  #pauses;
  #rooms;
  #stream;
  #readiness = new Readiness(() => this.isOpen && !this.isSyncing && this.#line.goodSince !== null);
  #cancelPause = () => {};
  /** Ended when what it belongs to is let go of: an attempt, a connection, a pause. */
  #scope;
  #hasBeenOpen = false;
  /** When the network was last lost, if it has not come back. */
  #goneAt = Infinity;
  /** The last address, and whether it was the one before as well. */
  #lastUrl = "";
  #isRepeated = false;
  #reconnects = 0;

  /**
   * @param {import("../im.d.ts").ImClientOptions} options
   * @param {Environment} env
   */
  constructor(options, env) {
    this.#env = env;
    this.#options = complete(options, env.hasBase);
    this.#scope = new Scope(env);
    this.#limit = new Limit(env, this.#options.connectWithin);
    this.#pauses = new Pauses(env, this.#options);
    const emit = (/** @type {string} */ type, /** @type {unknown} */ detail) => this.#emit(type, detail);
    this.#stream = new Stream(env, this.#options, {
      say: (word) => this.#line.say(word),
      emit,
      syncing: (isSyncing) => {
        this.isSyncing = isSyncing;
        this.#readiness.look();
      },
    });
    this.#line = new Line(env, this.#options, this.#stream, {
      unsure: () => void this.#connect(),
      opened: () => this.#opened(),
      greeted: (hello, isFirst) => this.#greeted(hello, isFirst),
      ended: (end) => this.#ended(end),
      alive: () => this.#alive(),
      dead: (why) => this.#dead(why),
      emit,
    });
    this.#rooms = new Rooms(env, this.#options, emit);
  }

  /** Whether messages are expected to arrive now. */
  get isOpen() {
    return this.state === "open";
  }

  /** Rooms to join again after each reconnect. Yours to edit. */
  get rooms() {
    return this.#rooms.wanted;
  }

  /** What there was so far. */
  get stats() {
    return { reconnects: this.#reconnects, ...this.#line.counts, passedOver: this.#stream.passedOver };
  }

  /** Who is in which channel, as far as the node has told. */
  get rosters() {
    return this.#stream.rosters;
  }

  /** Fulfilled as soon as messages are handed on: connected, and the state loaded. Fails if it ends before. */
  get ready() {
    return this.#readiness.wait();
  }

  /**
   * @param {string} type
   * @param {(detail: any) => unknown} listener
   * @returns {() => void} ends it
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  /** Connects, and stays connected until `close()`, a kick or a fatal close code. Again: nothing. */
  connect() {
    if (!this.#isEnded) return;
    this.#pauses.forget();
    this.#limit.reset();
    this.#stopListening = this.#env.listen({
      networkIsGone: () => this.#networkIsGone(),
      networkIsBack: () => this.#networkIsBack(),
      isVisible: () => this.#pageIsVisible(),
      isHidden: () => this.#stream.flush(),
      isPutAway: () => this.#putAway(),
      isBack: () => this.#wake("the page was put away"),
    });
    this.#connect();
  }

  /** Disconnects for good; `connect()` starts again. Remembers the rooms. */
  close() {
    this.#end("closed");
  }

  /** Ends it here, for somebody else who goes on from its position. */
  handOver() {
    if (this.#isEnded) return;
    this.#stream.flush();
    this.#stream.leave();
    this.#end("closed", undefined, undefined, BACK_SOON);
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

  get #isEnded() {
    return ENDED.includes(this.state);
  }

  /** Whether there is neither a connection nor an attempt, but will be. */
  get #isBetween() {
    return this.state === "waiting" || (this.state === "offline" && !this.#line.isThere);
  }

  async #connect() {
    this.#letGo(BACK_SOON);
    const scope = this.#scope;
    this.#enter("connecting");
    if (scope.isOver) return;
    const obstacle = this.#env.obstacle?.();
    if (obstacle) return this.#end("failed", new ImError("url", obstacle));
    try {
      const loading = this.#stream.load();
      if (loading) await loading;
      if (scope.isOver) return;
      this.#limit.begin();
      this.#startLimit("no address");
      const url = await askForAddress(this.#env, this.#options, { signal: scope.signal, attempt: this.#pauses.failures });
      if (scope.isOver) return;
      if (url === null) this.#end("failed", new ImError("url", NO_ADDRESS));
      else this.#open(url);
    } catch (error) {
      if (!scope.isOver) this.#fail(/** @type {ImError} */ (error));
    }
  }

  /** @param {string} missing what the present part of an attempt is to bring */
  #startLimit(missing) {
    this.#limit.start((ms) => this.#fail(new ImError("timeout", `${missing} within ${ms} ms`)));
  }

  /** @param {string} url */
  #open(url) {
    this.#isRepeated = url === this.#lastUrl;
    this.#lastUrl = url;
    this.#startLimit("the address was there, but no connection");
    this.#line.open(url);
  }

  #opened() {
    this.#limit.met();
    const isReconnect = this.#hasBeenOpen;
    this.#hasBeenOpen = true;
    if (isReconnect) this.#reconnects += 1;
    const { isResumable } = this.#line;
    if (isResumable) this.#startLimit("the connection was open, but no greeting came");
    const scope = this.#scope;
    this.#enter("open");
    if (!scope.isOver) this.#emit("open", { isReconnect });
    if (scope.isOver || isResumable) return;
    this.#stream.opened(isReconnect);
    if (!scope.isOver) this.#joined(false);
  }

  /**
   * @param {import("./stream.js").Hello} hello
   * @param {boolean} isFirst
   */
  #greeted(hello, isFirst) {
    if (isFirst) this.#limit.stop();
    const scope = this.#scope;
    this.#stream.greeted(hello);
    if (scope.isOver) return;
    const isKept = hello.channels === true;
    if (isFirst || !isKept) this.#joined(isKept);
  }

  /** @param {boolean} isKept whether the node still knows the rooms of this client */
  #joined(isKept) {
    this.#rooms.opened(isKept);
    this.#readiness.look();
  }

  /**
   * The server or the network ended a connection, or refused it.
   * @param {import("./environment.js").End} end
   */
  #ended({ code, reason, wasClean, wasOpen, forbidden }) {
    if (forbidden) return this.#fail(new ImError("url", forbidden));
    if (code === SUPERSEDED) this.#stream.begin();
    const fault = FATAL.get(code);
    const willReconnect = code !== KICKED && fault === undefined;
    const scope = this.#scope;
    this.#emit("close", { code, reason, wasClean, willReconnect });
    // A listener may have closed or connected anew.
    if (scope.isOver) return;
    if (code === KICKED) this.#end("kicked", undefined, { reason });
    else if (fault !== undefined) this.#end("failed", new ImError("protocol", `close code ${code}: ${fault}`));
    else {
      const repeated = new ImError("url", "the address that was refused is the one before, and each works once: is the answer cached?");
      this.#wait(hintOf(code, reason), this.#isRepeated && !wasOpen ? repeated : undefined);
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
    if (this.#hasLasted) this.#pauses.lost();
    this.#letGo(BACK_SOON);
    this.#pauseFor(this.#pauses.next(hint, this.#line.keep), error);
  }

  /**
   * @param {number} ms
   * @param {ImError} [error]
   */
  #pauseFor(ms, error) {
    const scope = this.#scope;
    this.#cancelPause();
    this.retryAt = this.#env.wall() + Math.round(ms);
    // Also while offline: browsers are sometimes wrong about it, for example on a network of their own.
    this.#cancelPause = this.#env.later(ms, () => this.#connect());
    this.#enter(this.#env.isOnline() ? "waiting" : "offline");
    if (error && !scope.isOver) this.#emit("error", error);
  }

  /** A connection that lasted was a good one: the pauses start small again. */
  get #hasLasted() {
    return this.#line.hasLasted(this.#options.stableAfter);
  }

  /**
   * Something speaks for another attempt now, or against the connection there is.
   * @param {string} why
   */
  #wake(why) {
    if (!this.#isBetween) return void this.#line.suspect(why);
    const left = this.#pauses.asked;
    if (left <= 0) this.#connect();
    else if (!this.retryAt) this.#pauseFor(left);
  }

  // --- What the page and the link tell --------------------------------------------------------------

  /** If the browser says offline, it is wrong. */
  #alive() {
    if (this.state !== "offline" || this.#line.openedAt === null) return;
    this.#enter("open");
    this.#readiness.look();
  }

  /** @param {string} why */
  #dead(why) {
    const error = new ImError("dead", `the link is taken for dead: ${why}`);
    const isGood = this.#hasLasted;
    this.#line.retire();
    // All clients may fall silent at once, and then they must not come back at once. Other reasons are one machine's own,
    // and no failure of the server's: there is nothing to wait for.
    if (why === SILENCE || !isGood || !this.#env.isOnline()) return this.#fail(error);
    this.#pauses.reset();
    this.#connect();
    const scope = this.#scope;
    if (!scope.isOver && !this.#isEnded) this.#emit("error", error);
  }

  /** The connection may outlive a short loss, so it is kept until it proves dead. */
  #networkIsGone() {
    this.#goneAt = this.#env.now();
    if (this.state === "open") this.#enter("offline");
    else if (this.state === "waiting" && this.retryAt) this.#wait();
  }

  #networkIsBack() {
    if (this.state === "connecting") {
      // What was sent before the network came back is lost, and its answer never comes.
      this.#connect();
    } else if (this.#line.openedAt === null) {
      this.#pauses.reset();
      if (this.#isBetween) this.#wake("");
    } else if (this.#line.quietFor >= this.#env.now() - this.#goneAt) {
      // Nothing was heard since.
      this.#line.suspect("the network was away");
    }
    this.#goneAt = Infinity;
  }

  #pageIsVisible() {
    const isStale = (this.#options.check || this.#line.isResumable) && this.#line.quietFor >= STALE_MS;
    if (this.#isBetween || isStale) this.#wake("the page was hidden");
  }

  /**
   * The browser would go on answering pings for a page that no code runs in, and the server would hold the user for online. So
   * the page says that it is away, and comes back when it is taken out again.
   */
  #putAway() {
    if (this.#isEnded) return;
    this.#stream.flush();
    this.#line.dropFormer();
    this.#letGo(BACK_SOON);
    this.#enter("waiting");
  }

  // --- State ----------------------------------------------------------------------------------------

  /**
   * The end, until `connect()` is called again.
   * @param {"closed" | "kicked" | "failed"} state
   * @param {ImError} [error]
   * @param {{ reason: string }} [kick]
   * @param {readonly [number, string]} words to the server
   */
  #end(state, error, kick, words = GOODBYE) {
    this.#stream.flush();
    this.#line.dropFormer(words);
    this.#letGo(words);
    this.#line.forget();
    this.#stream.stop();
    this.#stopListening();
    this.#rooms.stop();
    const scope = this.#scope;
    this.#enter(state);
    this.#readiness.fail(error ?? new ImError("protocol", `the client is ${state}`));
    if (scope.isOver) return;
    if (error) this.#emitter.emit("error", error);
    if (kick) this.#emitter.emit("kicked", kick);
  }

  /**
   * Lets go of the present attempt, connection or pause.
   * @param {readonly [number, string]} words to the server
   */
  #letGo(words) {
    this.#scope.end();
    this.#scope = new Scope(this.#env);
    this.#cancelPause();
    this.#limit.stop();
    this.#rooms.ended();
    this.retryAt = 0;
    this.#line.letGo(words);
  }

  /** @param {ImState} state */
  #enter(state) {
    const previous = this.state;
    this.state = state;
    if (state !== previous || this.retryAt) this.#emitter.emit("state", { state, previous, retryAt: this.retryAt });
  }

  /**
   * Tells what has happened, unless it is all over.
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    if (!this.#isEnded) this.#emitter.emit(type, detail);
  }
}
