// One connection for all tabs of a user. One tab leads: it has the core, and tells the others what comes; they ask it for what they
// want. Who leads holds a lock, which falls with the tab; the next one goes on from the position that was told last. A system may
// have put the leader to sleep without a word, as iOS does with tabs out of view: a tab that gets no answer takes the lock by force.
//
// The words between tabs are those of one version of this file: tabs of another version use another name.

import { Emitter } from "./emitter.js";
import { ImError } from "./error.js";
import { Follower } from "./follower.js";
import { Leader } from "./leader.js";
import { complete } from "./options.js";
import { Readiness } from "./readiness.js";
import { Recent } from "./recent.js";

/** @typedef {import("../im.d.ts").ImState} ImState */
/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {ReturnType<typeof complete>} Options */

/**
 * What a tab knows of the connection, whoever has it.
 * @typedef {object} Shared
 * @property {string} position what the next leader goes on from
 * @property {boolean} isStale whether this tab has missed something, so that it must load its state, not go on from the position
 * @property {Set<string>} rooms
 * @property {Recent} told the positions of messages that this tab has been told of
 */

/** Of the words between tabs. */
const VERSION = 2;
/**
 * A leader answers at once, if it is awake. A tab that knows the position waits so long for it, also when another one asks; one that
 * does not know it waits twice as long.
 */
const ANSWERS_WITHIN_MS = 2_000;
/** How long the lock of a connection that has ended is held on: until all tabs have heard of the end, and do not take over. */
const HEARD_WITHIN_MS = 1_000;
/** @type {ImState[]} */
const ENDED = ["closed", "kicked", "failed"];

export class Tabs {
  /** @type {ImState} */
  state = "closed";
  retryAt = 0;
  #env;
  #between;
  #options;
  #name;
  #id;
  #emitter = new Emitter();
  /** @type {Shared} */
  #shared;
  /** @type {Leader | Follower | null} */
  #role = null;
  /** @type {{ post(word: any): void, close(): void } | null} */
  #channel = null;
  #leaveQueue = () => {};
  #stopListening = () => {};
  /** Gives the lock up. */
  #release = () => {};
  #cancelDoubt = () => {};
  /** Since when the leader leads that was heard of last: one that has slept through its end is not listened to. */
  #term = 0;
  /** Other tabs, as far as they said so. @type {Set<string>} */
  #others = new Set();
  #hasBeenOpen = false;
  #isAway = false;
  #readiness = new Readiness(() => this.isOpen && !!this.#role?.isReady);

  /**
   * @param {import("../im.d.ts").ImClientOptions} options with `share`
   * @param {Environment} env
   */
  constructor(options, env) {
    this.#env = env;
    this.#between = /** @type {import("./environment.js").Between} */ (env.between);
    const all = complete(options, env.hasBase);
    const inTurn = turns();
    this.#options = { ...all, onMessage: inTurn(all.onMessage), onResync: inTurn(all.onResync) };
    this.#name = `imcore:${VERSION}:${this.#options.share}`;
    this.#id = `${env.wall()}.${env.random()}`;
    this.#shared = { position: "", isStale: false, rooms: this.#options.rooms, told: new Recent() };
  }

  get isOpen() {
    return this.state === "open";
  }

  get isSyncing() {
    return this.#role?.isSyncing ?? false;
  }

  get rooms() {
    return this.#shared.rooms;
  }

  get stats() {
    return this.#role?.stats ?? { reconnects: 0, resumed: 0, replayed: 0, passedOver: 0, heardAt: 0 };
  }

  get ready() {
    return this.#readiness.wait();
  }

  /**
   * @param {string} type
   * @param {(detail: any) => unknown} listener
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  connect() {
    if (!this.#isEnded) return;
    this.#begin();
  }

  /** Ends it in this tab; the others go on. */
  close() {
    this.#stopListening();
    this.#part(this.#others.size > 0);
    this.#enter("closed");
  }

  retryNow() {
    this.#role?.retryNow();
  }

  /** @param {string} room */
  join(room) {
    return this.#ask("join", room);
  }

  /** @param {string} room */
  leave(room) {
    return this.#ask("leave", room);
  }

  /**
   * @param {"join" | "leave"} kind
   * @param {string} room
   * @returns {Promise<boolean>}
   */
  #ask(kind, room) {
    const call = kind === "join" ? "rejoin" : "leave";
    if (!this.#options[call]) throw new TypeError(`ImClient: ${kind}() needs the option ${call}`);
    if (this.#role) return this.#role.ask(kind, room);
    if (kind === "join") this.rooms.add(room);
    else this.rooms.delete(room);
    return Promise.resolve(false);
  }

  get #isEnded() {
    return ENDED.includes(this.state);
  }

  // --- Roles ----------------------------------------------------------------------------------------

  #begin() {
    this.#stopListening();
    const nothing = () => {};
    this.#stopListening = this.#env.listen({
      networkIsGone: nothing,
      networkIsBack: nothing,
      isVisible: () => this.#isVisible(),
      isHidden: nothing,
      isPutAway: () => this.#putAway(),
      isBack: () => this.#isAway && this.#begin(),
    });
    this.#isAway = false;
    this.#term = 0;
    this.#others.clear();
    const channel = this.#between.channel(this.#name, (word) => channel === this.#channel && this.#take(word));
    this.#channel = channel;
    const follower = new Follower(this.#env, this.#options, this.#shared, this.#talk());
    this.#role = follower;
    this.#enter("connecting");
    if (this.#role !== follower) return;
    this.#post({ is: "hello", rooms: [...this.rooms] });
    this.#queue(follower, false);
    this.#expectAnswer(follower);
  }

  /**
   * @param {Follower} follower
   * @param {boolean} isForced whether the lock is taken from whoever has it
   */
  #queue(follower, isForced) {
    this.#leaveQueue();
    const held = () => this.#lead(follower);
    const lost = () => this.#deposed();
    this.#leaveQueue = this.#between.lock(this.#name, { held, lost }, isForced);
  }

  /** @param {Follower} follower */
  #expectAnswer(follower) {
    this.#cancelDoubt();
    const within = follower.isGreeted ? ANSWERS_WITHIN_MS : 2 * ANSWERS_WITHIN_MS;
    this.#cancelDoubt = this.#env.later(within, () => this.#role === follower && this.#queue(follower, true));
  }

  #isVisible() {
    this.#role?.isVisible();
    if (this.#role instanceof Follower) this.#expectAnswer(this.#role);
  }

  /** This tab was asleep, and another one leads. */
  #deposed() {
    if (!(this.#role instanceof Leader)) return;
    this.#role.depose();
    this.#part(true);
    this.#begin();
  }

  /**
   * The lock is this tab's.
   * @param {Follower} follower
   * @returns {Promise<void>} fulfilled when it is to fall
   */
  #lead(follower) {
    if (this.#role !== follower) return Promise.resolve();
    this.#cancelDoubt();
    const term = Math.max(this.#term + 1, this.#env.wall());
    this.#term = term;
    /** @type {Promise<void>} */
    const held = new Promise((resolve) => {
      this.#release = resolve;
    });
    const leader = new Leader(this.#env, this.#options, this.#shared, follower, this.#talk(term));
    this.#role = leader;
    this.#post({ is: "led", term });
    leader.begin();
    return held;
  }

  /**
   * What a role may do: tell this tab's listeners, and the other tabs.
   * @param {number} [term] of one that leads
   */
  #talk(term) {
    return {
      id: this.#id,
      emit: (/** @type {string} */ type, /** @type {any} */ detail) => this.#emit(type, detail),
      post: (/** @type {any} */ word) => this.#post({ ...word, term }),
      entered: (/** @type {ImState} */ state, /** @type {number} */ retryAt) => this.#enter(state, retryAt),
      /** The connection has ended for all tabs. */
      ended: () => {
        this.#stopListening();
        this.#part(false);
      },
      changed: () => this.#readiness.look(),
    };
  }

  /**
   * This tab has no part in it any more.
   * @param {boolean} goesOn whether another tab takes over, if this one leads
   */
  #part(goesOn) {
    const role = this.#role;
    this.#role = null;
    this.#shared.isStale = true;
    this.#cancelDoubt();
    this.#leaveQueue();
    if (role) this.#post({ is: "bye" });
    const release = this.#release;
    this.#release = () => {};
    role?.stop(goesOn);
    this.#channel?.close();
    this.#channel = null;
    if (goesOn) release();
    else this.#env.later(HEARD_WITHIN_MS, release);
  }

  /** No code runs in this tab until it is taken out again: another one leads meanwhile, if there is one. */
  #putAway() {
    if (!this.#role) return;
    const isUpToDate = this.#role instanceof Leader && this.#role.hasCaughtUp;
    this.#part(true);
    if (isUpToDate) this.#shared.isStale = false;
    this.#isAway = true;
    this.#enter("waiting");
  }

  // --- Words ----------------------------------------------------------------------------------------

  /** @param {any} word */
  #post(word) {
    try {
      this.#channel?.post({ ...word, from: this.#id });
    } catch (error) {
      // What `decode` made may be something that cannot be sent.
      this.#emit("error", new ImError("decode", "a message cannot be given to other tabs: let decode return plain data", error));
    }
  }

  /** @param {any} word */
  #take(word) {
    if (word.is === "bye") this.#others.delete(word.from);
    else this.#others.add(word.from);
    if (word.term !== undefined) {
      if (this.#role instanceof Leader || word.term < this.#term) return;
      this.#term = word.term;
      this.#cancelDoubt();
    } else if (word.is === "hello" && this.#role instanceof Follower && this.#role.isGreeted) this.#expectAnswer(this.#role);
    this.#role?.take(word);
  }

  // --- This tab -------------------------------------------------------------------------------------

  /**
   * @param {ImState} state
   * @param {number} [retryAt]
   */
  #enter(state, retryAt = 0) {
    const previous = this.state;
    if (state === previous && retryAt === this.retryAt) return;
    if (previous === "open") this.#hasBeenOpen = true;
    this.state = state;
    this.retryAt = retryAt;
    this.#emitter.emit("state", { state, previous, retryAt });
    if (this.#isEnded) this.#readiness.fail(new ImError("protocol", `the client is ${this.state}`));
    else this.#readiness.look();
  }

  /**
   * @param {string} type
   * @param {any} detail
   */
  #emit(type, detail) {
    this.#emitter.emit(type, type === "open" ? { isReconnect: this.#hasBeenOpen } : detail);
  }
}

/**
 * Calls of the application run one after the other in a tab, also beyond the role that made them.
 * @returns {<Call extends (...values: any[]) => unknown>(call: Call | undefined) => Call | undefined}
 */
function turns() {
  /** @type {Promise<unknown>} */
  let last = Promise.resolve();
  return (call) => {
    if (!call) return undefined;
    /** @type {any} */
    const inTurn = (/** @type {any[]} */ ...values) => {
      const turn = last.then(() => call(...values));
      last = turn.catch(() => {});
      return turn;
    };
    return inTurn;
  };
}
