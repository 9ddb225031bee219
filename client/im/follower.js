// A tab whose connection another tab has: it is told what comes, and asks for what it wants.

import { ImError } from "./error.js";
import { Inbox } from "./inbox.js";

export class Follower {
  /** Whether it knows of a leader, and has its state. */
  isGreeted = false;
  #env;
  #options;
  #shared;
  #talk;
  #inbox;
  /** What was asked for, and not answered yet. @type {Map<number, { kind: "join" | "leave", room: string, resolve: (isDone: boolean) => void }>} */
  #asks = new Map();
  #asked = 0;
  #heardAt = 0;
  isSyncing = false;

  /**
   * @param {import("./environment.js").Environment} env
   * @param {import("./tabs.js").Options} options
   * @param {import("./tabs.js").Shared} shared
   * @param {import("./leader.js").Talk} talk
   */
  constructor(env, options, shared, talk) {
    this.#env = env;
    this.#options = options;
    this.#shared = shared;
    this.#talk = talk;
    const isHandling = options.handle === "all";
    const { onMessage, onResync } = options;
    this.#inbox = new Inbox(env, { ...options, onMessage: isHandling ? onMessage : undefined, onResync: isHandling ? onResync : undefined }, {
      done: () => {},
      overflowed: () => this.#load("too_much"),
      emit: talk.emit,
      syncing: (isSyncing) => {
        this.isSyncing = isSyncing;
        talk.changed();
      },
      // Positions are the leader's business.
      stored: () => "",
    });
  }

  get isReady() {
    return this.isGreeted && !this.isSyncing;
  }

  get stats() {
    return { reconnects: 0, resumed: 0, replayed: 0, passedOver: this.#inbox.passedOver, heardAt: this.#heardAt };
  }

  /** Whether what it was told is handled. */
  get isIdle() {
    return this.#inbox.isIdle;
  }

  /** Fulfilled when what it was told is handled. */
  get idle() {
    return this.#inbox.idle;
  }

  stop() {
    this.#inbox.clear();
    for (const { resolve } of this.takeAsks()) resolve(false);
  }

  retryNow() {
    this.#talk.post({ is: "retry" });
  }

  isVisible() {
    this.#talk.post({ is: "visible" });
  }

  /** What is still to be asked for, by whoever comes after it. */
  takeAsks() {
    const asks = [...this.#asks.values()];
    this.#asks.clear();
    return asks;
  }

  /**
   * @param {"join" | "leave"} kind
   * @param {string} room
   * @returns {Promise<boolean>}
   */
  ask(kind, room) {
    const number = (this.#asked += 1);
    return new Promise((resolve) => {
      this.#asks.set(number, { kind, room, resolve });
      this.#talk.post({ is: "ask", number, kind, room });
    });
  }

  /** @param {any} word */
  take(word) {
    switch (word.is) {
      case "led":
        this.#talk.post({ is: "here" });
        // Who asked the one before has no answer.
        for (const [number, { kind, room }] of this.#asks) this.#talk.post({ is: "ask", number, kind, room });
        if (!this.isGreeted) this.#talk.post({ is: "hello", rooms: [...this.#shared.rooms] });
        break;
      case "greeting":
        this.#shared.position = word.position;
        this.#takeRooms(word.rooms);
        this.#talk.entered(word.state, word.retryAt);
        if (!this.isGreeted) this.#greeted(word.rosters ?? []);
        break;
      case "state":
        this.#talk.entered(word.state, word.retryAt);
        break;
      case "event":
        this.#talk.emit(word.type, word.detail);
        break;
      case "error":
        this.#talk.emit("error", new ImError(word.kind, word.message));
        break;
      case "message":
        this.#heardAt = this.#env.wall();
        // Before that, it is in the state that is loaded.
        if (this.isGreeted && this.#shared.told.add(word.p)) this.#inbox.add({ p: word.p, type: "message", value: word.message, size: 0 });
        break;
      case "load":
        if (this.isGreeted) this.#load(word.why);
        break;
      case "position":
        if (this.isGreeted) this.#shared.position = word.position;
        break;
      case "rooms":
        this.#takeRooms(word.rooms);
        break;
      case "asked":
        if (word.to === this.#talk.id) this.#answered(word.number, word.isDone);
        break;
      case "ended":
        this.#talk.ended();
        break;
    }
  }

  /**
   * The state is loaded as by a first connection.
   * @param {import("../im.d.ts").ImRoster[]} rosters
   */
  #greeted(rosters) {
    this.isGreeted = true;
    this.#shared.isStale = false;
    this.#load(undefined);
    for (const roster of rosters) this.#talk.emit("roster", roster);
    this.#talk.changed();
  }

  /** @param {import("../im.d.ts").ImResync["why"]} why */
  #load(why) {
    this.#inbox.load({ why, position: this.#shared.position, spread: 0, done: () => {} });
  }

  /** @param {string[]} rooms */
  #takeRooms(rooms) {
    this.#shared.rooms.clear();
    for (const room of rooms) this.#shared.rooms.add(room);
  }

  /**
   * @param {number} number
   * @param {boolean} isDone
   */
  #answered(number, isDone) {
    this.#asks.get(number)?.resolve(isDone);
    this.#asks.delete(number);
  }
}
