// The tab that has the connection: it hands on what comes, to this tab and to the others, and does what they ask for.

import { Core } from "./core.js";

/** What is told to all tabs as it is. */
const EVENTS = ["open", "rejoined", "resumed", "receipt", "roster", "close", "kicked"];

/**
 * @typedef {object} Talk
 * @property {string} id this tab's
 * @property {(type: string, detail: any) => void} emit to listeners of this tab
 * @property {(word: any) => void} post to all other tabs
 * @property {(state: import("../im.d.ts").ImState, retryAt: number) => void} entered
 * @property {() => void} ended
 * @property {() => void} changed it may be ready
 */

export class Leader {
  #options;
  #shared;
  #talk;
  #core;
  /** What came before this tab led is handled first. */
  #before;
  /** Whether the message that is handed on was not handed on before, as one whose handler failed is. */
  #isNews = false;
  /** @type {Partial<import("./environment.js").WakeListener> | null} */
  #wake = null;
  #isOver = false;
  #isDeposed = false;
  /** Whether this tab has still to load its state. */
  #isStale;
  isReady = false;

  /**
   * @param {import("./environment.js").Environment} env
   * @param {import("./tabs.js").Options} options
   * @param {import("./tabs.js").Shared} shared
   * @param {import("./follower.js").Follower} before what this tab was
   * @param {Talk} talk
   */
  constructor(env, options, shared, before, talk) {
    this.#options = options;
    this.#shared = shared;
    this.#isStale = shared.isStale;
    this.#talk = talk;
    this.#before = before;
    const { share, handle, ...own } = options;
    const { onResync } = options;
    this.#core = new Core({
      ...own,
      rooms: shared.rooms,
      position: this.#position(),
      onMessage: (message, context) => this.#message(message, context),
      onResync: onResync && (async (resync) => {
        await before.idle;
        return onResync(resync);
      }),
    }, { ...env, between: undefined, listen: (listener) => this.#listen(env, listener) });
  }

  get isSyncing() {
    return this.#core.isSyncing;
  }

  get stats() {
    return this.#core.stats;
  }

  begin() {
    const { on } = this.#core;
    const listen = on.bind(this.#core);
    for (const type of EVENTS) listen(type, (detail) => this.#tell(type, detail));
    listen("message", () => { this.#isNews = true; });
    listen("error", (error) => {
      this.#talk.emit("error", error);
      this.#talk.post({ is: "error", kind: error.kind, message: error.message });
    });
    listen("resync", (detail) => {
      this.#talk.emit("resync", detail);
      this.#talk.post({ is: "load", why: detail.why });
    });
    listen("state", ({ state, retryAt }) => this.#entered(state, retryAt));
    this.#core.connect();
    for (const { kind, room, resolve } of this.#before.takeAsks()) this.ask(kind, room).then(resolve);
    this.#awaitReady();
  }

  /** Whether this tab has all that came before the position. */
  get hasCaughtUp() {
    return !this.#isStale && this.#before.isIdle;
  }

  /** @param {boolean} goesOn whether another tab takes over */
  stop(goesOn) {
    this.#isOver = true;
    this.#before.stop();
    if (goesOn) this.#core.handOver();
    else this.#core.close();
  }

  /** Another tab leads, and goes on from a position of its own. */
  depose() {
    this.#isDeposed = true;
  }

  retryNow() {
    this.#core.retryNow();
  }

  /** The core listens for that by itself. */
  isVisible() {}

  /**
   * @param {"join" | "leave"} kind
   * @param {string} room
   */
  ask(kind, room) {
    const asked = this.#core[kind](room);
    this.#talk.post({ is: "rooms", rooms: [...this.#shared.rooms] });
    return asked;
  }

  /** @param {any} word */
  take(word) {
    switch (word.is) {
      case "hello": {
        const added = word.rooms.filter((/** @type {string} */ room) => !this.#shared.rooms.has(room));
        if (this.#options.rejoin) for (const room of added) this.ask("join", room);
        this.#greet();
        break;
      }
      case "visible":
        this.#greet();
        this.#wake?.isVisible?.();
        break;
      case "retry":
        this.retryNow();
        break;
      case "ask":
        this.#answer(word);
        break;
    }
  }

  /** @param {{ from: string, number: number, kind: "join" | "leave", room: string }} word */
  async #answer({ from, number, kind, room }) {
    const call = kind === "join" ? "rejoin" : "leave";
    const isDone = this.#options[call] !== undefined && (await this.ask(kind, room));
    this.#talk.post({ is: "asked", to: from, number, isDone });
  }

  #greet() {
    const { state, retryAt, rosters } = this.#core;
    const { position, rooms } = this.#shared;
    this.#talk.post({ is: "greeting", state, retryAt, position, rooms: [...rooms], rosters });
  }

  /**
   * @param {string} type
   * @param {any} detail
   */
  #tell(type, detail) {
    this.#talk.emit(type, detail);
    this.#talk.post({ is: "event", type, detail });
  }

  /**
   * @param {import("../im.d.ts").ImState} state
   * @param {number} retryAt
   */
  #entered(state, retryAt) {
    if (this.#isOver) return;
    this.#talk.entered(state, retryAt);
    this.#talk.post({ is: "state", state, retryAt });
    if (["closed", "kicked", "failed"].includes(state)) {
      // What else is told of the end is told before.
      Promise.resolve().then(() => {
        if (this.#isOver) return;
        this.#talk.post({ is: "ended" });
        this.#talk.ended();
      });
    }
  }

  async #awaitReady() {
    try {
      await this.#core.ready;
      this.isReady = true;
      this.#talk.changed();
    } catch {
      // It has ended, and that is told.
    }
  }

  /**
   * @param {any} message
   * @param {import("../im.d.ts").ImMessageContext} context
   */
  async #message(message, context) {
    const isNews = this.#isNews;
    this.#isNews = false;
    await this.#before.idle;
    const p = context.position.split(" ")[1] ?? "";
    if (isNews && this.#shared.told.add(p)) {
      this.#talk.emit("message", message);
      this.#talk.post({ is: "message", p, message });
    } else if (isNews && this.#options.handle === "all") return undefined;
    return this.#options.onMessage?.(message, context);
  }

  /** The position of all tabs; kept beyond them if there is a place for it. */
  #position() {
    const { position } = this.#options;
    return {
      load: () => {
        if (this.#shared.isStale) return "";
        return position ? position.load() : this.#shared.position;
      },
      save: (/** @type {string} */ text) => {
        if (this.#isDeposed) return undefined;
        this.#isStale = false;
        this.#shared.position = text;
        this.#talk.post({ is: "position", position: text });
        return position?.save(text);
      },
    };
  }

  /**
   * The core hears of this page, and of others that come into view; whether this one is put away is the tabs' business.
   * @param {import("./environment.js").Environment} env
   * @param {import("./environment.js").WakeListener} listener
   */
  #listen(env, listener) {
    this.#wake = listener;
    return env.listen({ ...listener, isPutAway: () => {}, isBack: () => {} });
  }
}
