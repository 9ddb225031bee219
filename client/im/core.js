// The client itself, for whatever engine: one push connection that stays up, as states, attempts and ends.
//
// Knows no global: its environment gives it clocks, sockets and news of the page. Every attempt asks the web API for a fresh address,
// because its token works once and for ten seconds. The parts: what is said (dialect, stream, inbox, rooms), how long things take
// (limit, pauses, liveness).

import { askForAddress } from "./address.js";
import { FATAL, hintOf, KICKED, SUPERSEDED } from "./codes.js";
import { Dialect, RESUMABLE } from "./dialect.js";
import { Emitter } from "./emitter.js";
import { ImError, inWords } from "./error.js";
import { Limit } from "./limit.js";
import { Liveness, SILENCE } from "./liveness.js";
import { decodeJson, read } from "./message.js";
import { complete } from "./options.js";
import { Pauses } from "./pauses.js";
import { prober } from "./probe.js";
import { Rooms } from "./rooms.js";
import { Scope } from "./scope.js";
import { Stream } from "./stream.js";

/** @typedef {import("../im.d.ts").ImState} ImState */
/** @typedef {import("./codes.js").Hint} Hint */
/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {import("./environment.js").Link} Link */

/** What the server is told when we let go: for good, or until a moment later. */
const GOODBYE = /** @type {const} */ ([1000, "goodbye"]);
const BACK_SOON = /** @type {const} */ ([3001, "back soon"]);
/** A page that becomes visible checks a link that has been silent this long. */
const STALE_MS = 30_000;
/** A node that resumes says something every 25 s, and answers a probe at once. */
const STREAM_SILENCE_MS = 40_000;
const PROBE_WITHIN_MS = 3_000;
/** For so long after a loss, a node that is not heard is taken for one that is down, not for an old one. */
const LONGEST_HOLD_MS = 60_000;

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
  /** Of connections whose node says nothing of itself, and of those whose node does. */
  #guessing;
  #probing;
  #liveness;
  #dialect;
  #limit;
  #pauses;
  #rooms;
  #stream;
  /** @type {Link | null} */
  #link = null;
  /** @type {Link | null} The connection before, which is heard until another has taken over. */
  #former = null;
  /** Whether the connection is one that can be resumed, and has been greeted. */
  #isResumable = false;
  #isGreeted = false;
  /** For how long a node waits for us, as it said last, and until when it therefore does: milliseconds. */
  #keep = 0;
  #keptUntil = -Infinity;
  #cancelPause = () => {};
  /** Ended when what it belongs to is let go of: an attempt, a connection, a pause. */
  #scope;
  /** @type {number | null} */
  #openedAt = null;
  /** @type {number | null} Since when nothing is missing any more for it to count as a good connection. */
  #goodSince = null;
  #hasBeenOpen = false;
  /** When the network was last lost, if it has not come back. */
  #goneAt = Infinity;
  #lastUrl = "";
  #counts = { reconnects: 0, resumed: 0, replayed: 0, heardAt: 0 };

  /**
   * @param {import("../im.d.ts").ImClientOptions} options
   * @param {Environment} env
   */
  constructor(options, env) {
    this.#env = env;
    this.#options = complete(options, env.hasBase);
    this.#scope = new Scope(env);
    this.#dialect = new Dialect(this.#options.resume);
    this.#limit = new Limit(env, this.#options.connectWithin);
    this.#pauses = new Pauses(env, this.#options);
    const verdict = { alive: () => this.#alive(), dead: (/** @type {string} */ why) => this.#dead(why) };
    this.#guessing = new Liveness(env, this.#options, verdict);
    const check = prober(env, (word) => this.#link?.send(word));
    this.#probing = new Liveness(env, { check, checkWithin: PROBE_WITHIN_MS, silence: STREAM_SILENCE_MS, isPatient: true }, verdict);
    this.#liveness = this.#guessing;
    const emit = (/** @type {string} */ type, /** @type {unknown} */ detail) => this.#emit(type, detail);
    this.#stream = new Stream(env, this.#options, {
      say: (word) => this.#isGreeted && this.#link?.send(word),
      emit,
      syncing: (isSyncing) => {
        this.isSyncing = isSyncing;
      },
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
    return { ...this.#counts, passedOver: this.#stream.passedOver };
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
    return this.state === "waiting" || (this.state === "offline" && !this.#link);
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
    const isRepeated = url === this.#lastUrl;
    this.#lastUrl = url;
    this.#startLimit("the address was there, but no connection");
    const isHeld = this.#env.now() < Math.min(this.#keptUntil, this.#keptUntil - this.#keep + LONGEST_HOLD_MS);
    const protocols = this.#dialect.asks(isHeld) ? [RESUMABLE] : [];
    const address = protocols.length ? this.#stream.addressed(url) : url;
    const link = this.#env.connect(address, protocols, {
      opened: () => this.#opened(),
      received: (data) => (link === this.#former ? this.#hear(data, true) : this.#receive(data)),
      ended: (end) => {
        if (link !== this.#former) return this.#ended(end, isRepeated);
        this.#former = null;
        // Whoever is kicked is so on every connection; the next one may not have been there yet.
        if (end.code === KICKED) this.#ended(end, false);
      },
    });
    this.#link = link;
  }

  #opened() {
    const dialect = this.#dialect.opened(this.#link?.protocol ?? "");
    if (dialect === "unsure") return void this.#connect();
    this.#isResumable = dialect === "resumable";
    this.#liveness = this.#isResumable ? this.#probing : this.#guessing;
    this.#limit.met();
    this.#openedAt = this.#env.now();
    const isReconnect = this.#hasBeenOpen;
    this.#hasBeenOpen = true;
    if (isReconnect) this.#counts.reconnects += 1;
    this.#liveness.start();
    if (this.#isResumable) this.#startLimit("the connection was open, but no greeting came");
    else this.#goodSince = this.#openedAt;
    const scope = this.#scope;
    this.#enter("open");
    if (!scope.isOver) this.#emit("open", { isReconnect });
    if (scope.isOver || this.#isResumable) return;
    this.#dropFormer();
    this.#stream.opened(isReconnect);
    if (!scope.isOver) this.#rooms.opened();
  }

  /**
   * The node has said where this client is.
   * @param {import("./stream.js").Hello} hello
   */
  #greeted(hello) {
    const isFirst = !this.#isGreeted;
    this.#isGreeted = true;
    this.#keep = (hello.keep ?? 0) * 1_000;
    if (isFirst) {
      this.#limit.stop();
      this.#goodSince = this.#env.now();
      this.#dropFormer();
    }
    if (hello.resumed) {
      this.#counts.resumed += 1;
      this.#counts.replayed += hello.missed ?? 0;
    }
    const scope = this.#scope;
    this.#stream.greeted(hello);
    const isKept = hello.channels === true;
    if ((isFirst || !isKept) && !scope.isOver) this.#rooms.opened(isKept);
  }

  #dropFormer() {
    const former = this.#former;
    this.#former = null;
    former?.close(...BACK_SOON);
  }

  /**
   * The server or the network ended a connection, or refused it.
   * @param {import("./environment.js").End} end
   * @param {boolean} isRepeated
   */
  #ended({ code, reason, wasClean, wasOpen, forbidden }, isRepeated) {
    if (forbidden) return this.#fail(new ImError("url", forbidden));
    if (!wasOpen) this.#dialect.refused();
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
    if (this.#hasLasted) this.#pauses.reset();
    this.#letGo(BACK_SOON);
    const keep = this.#env.now() < this.#keptUntil ? this.#keep : 0;
    this.#pauseFor(this.#pauses.next(hint, keep), error);
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
    return this.#goodSince !== null && this.#env.now() - this.#goodSince >= this.#options.stableAfter;
  }

  /**
   * Something speaks for another attempt now, or against the connection there is.
   * @param {string} why
   */
  #wake(why) {
    if (!this.#isBetween) return void this.#liveness.suspect(why);
    const left = this.#pauses.asked;
    if (left <= 0) this.#connect();
    else if (!this.retryAt) this.#pauseFor(left);
  }

  // --- Messages -------------------------------------------------------------------------------------

  /** @param {unknown} data */
  #receive(data) {
    const scope = this.#scope;
    this.#liveness.heard();
    if (scope.isOver) return;
    if (this.#isResumable) return this.#hear(data, false);
    this.#counts.heardAt = this.#env.wall();
    let message;
    try {
      if (typeof data !== "string") throw new Error("it is binary, and the server of this client sends text");
      message = read(data, this.#options.decode ?? decodeJson);
    } catch (error) {
      if (!scope.isOver) this.#emit("error", new ImError("decode", `a message could not be decoded: ${inWords(error)}`, error));
      return;
    }
    if (!scope.isOver) this.#stream.told(message.type, message.value, String(data).length);
  }

  /**
   * A frame of a connection that can be resumed.
   * @param {unknown} data
   * @param {boolean} isFormer
   */
  #hear(data, isFormer) {
    this.#counts.heardAt = this.#env.wall();
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch (error) {
      return this.#emit("error", new ImError("decode", `a frame could not be read: ${inWords(error)}`, error));
    }
    if (frame?.hello) {
      if (!isFormer) this.#greeted(frame.hello);
    } else if (typeof frame?.p === "string" && (isFormer || this.#isGreeted)) this.#stream.took(frame, String(data), isFormer);
  }

  // --- What the page and the link tell --------------------------------------------------------------

  /** If the browser says offline, it is wrong. */
  #alive() {
    if (this.state === "offline" && this.#openedAt !== null) this.#enter("open");
  }

  /** @param {string} why */
  #dead(why) {
    const error = new ImError("dead", `the link is taken for dead: ${why}`);
    const isGood = this.#hasLasted;
    if (this.#isGreeted) this.#retire();
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
    } else if (this.#openedAt === null) {
      this.#pauses.reset();
      if (this.#isBetween) this.#wake("");
    } else if (this.#liveness.quietFor >= this.#env.now() - this.#goneAt) {
      // Nothing was heard since.
      this.#liveness.suspect("the network was away");
    }
    this.#goneAt = Infinity;
  }

  #pageIsVisible() {
    const isStale = (this.#options.check || this.#isResumable) && this.#liveness.quietFor >= STALE_MS;
    if (this.#isBetween || isStale) this.#wake("the page was hidden");
  }

  /**
   * The browser would go on answering pings for a page that no code runs in, and the server would hold the user for online. So
   * the page says that it is away, and comes back when it is taken out again.
   */
  #putAway() {
    if (this.#isEnded) return;
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
    this.#keptUntil = -Infinity;
    this.#stream.stop();
    this.#stopListening();
    this.#rooms.stop();
    const scope = this.#scope;
    this.#enter(state);
    if (scope.isOver) return;
    if (error) this.#emitter.emit("error", error);
    if (kick) this.#emitter.emit("kicked", kick);
  }

  /**
   * Lets go of the present attempt, connection or pause.
   * @param {readonly [number, string]} words to the server
   */
  #letGo(words) {
    if (this.#isGreeted) this.#keptUntil = this.#env.now() + this.#keep;
    this.#scope.end();
    this.#scope = new Scope(this.#env);
    this.#cancelPause();
    this.#limit.stop();
    this.#liveness.stop();
    this.#rooms.ended();
    this.#openedAt = null;
    this.#goodSince = null;
    this.#isResumable = false;
    this.#isGreeted = false;
    this.retryAt = 0;
    const link = this.#link;
    this.#link = null;
    link?.close(...words);
  }

  /** The connection is in doubt. What it still says is heard until another has taken over. */
  #retire() {
    this.#former?.close(...BACK_SOON);
    this.#former = this.#link;
    this.#link = null;
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
