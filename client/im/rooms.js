// The rooms of one client, kept joined: one queue of calls to the web API, one call at a time.
//
// The server forgets a client's rooms with its last connection, so all wanted rooms are joined after each connect. Joins and
// leaves never run side by side: otherwise a join that is under way could land behind the leave and undo it.

import { ImError, inWords, isRefusal } from "./error.js";
import { Scope, within } from "./scope.js";
import { clamp, step } from "./time.js";

/** @typedef {"join" | "leave"} Kind */

export class Rooms {
  /** What the application wants to be in. It may edit this set itself. */
  wanted;
  #env;
  #options;
  #emit;
  #isOpen = false;
  #isStopped = false;
  /** All wanted rooms are due: the server does not know them. */
  #isNew = false;
  /** @type {Record<Kind, Set<string>>} */
  #due = { join: new Set(), leave: new Set() };
  /** @type {{ kind: Kind, scope: Scope } | null} */
  #call = null;
  #isRunning = false;
  #failures = 0;
  #cancelRetry = () => {};
  /** @type {{ kind: Kind, room: string, resolve: (isDone: boolean) => void }[]} */
  #waiting = [];

  /**
   * @param {import("./environment.js").Environment} env
   * @param {ReturnType<typeof import("./options.js").complete>} options
   * @param {(type: string, detail: unknown) => void} emit
   */
  constructor(env, options, emit) {
    this.#env = env;
    this.#options = options;
    this.wanted = options.rooms;
    this.#emit = emit;
  }

  /**
   * A connection is open.
   * @param {boolean} isKept whether the server still knows the rooms
   */
  opened(isKept = false) {
    this.#isOpen = true;
    this.#isStopped = false;
    // What a former connection has left undone is still due.
    this.#isNew = (this.#isNew || !isKept) && this.wanted.size > 0;
    this.#failures = 0;
    this.#run();
  }

  /** The connection is gone, and with it a join that is under way. */
  ended() {
    this.#isOpen = false;
    if (this.#call?.kind === "join") this.#call.scope.end();
  }

  /** No connection is wanted any more. Leaves that are due are still tried once: other tabs may keep the user in. */
  stop() {
    this.ended();
    this.#isStopped = true;
    this.#settle("join", [...this.#due.join, ...this.wanted], false);
    this.#due.join.clear();
    if (this.#due.leave.size) this.#run();
  }

  /**
   * @param {Kind} kind
   * @param {string} room
   * @returns {Promise<boolean>} whether it was done; false if the opposite was asked for, or the client was closed, before
   */
  ask(kind, room) {
    const call = kind === "join" ? "rejoin" : "leave";
    if (!this.#options[call]) throw new TypeError(`ImClient: ${kind}() needs the option ${call}`);
    const opposite = kind === "join" ? "leave" : "join";
    if (kind === "join") this.wanted.add(room);
    else this.wanted.delete(room);
    this.#due[opposite].delete(room);
    this.#settle(opposite, [room], false);
    this.#due[kind].add(room);
    return new Promise((resolve) => {
      this.#waiting.push({ kind, room, resolve });
      this.#run();
    });
  }

  /**
   * @param {Kind} kind
   * @param {string[]} rooms
   * @param {boolean} isDone
   */
  #settle(kind, rooms, isDone) {
    const isMeant = (/** @type {{ kind: Kind, room: string }} */ one) => one.kind === kind && rooms.includes(one.room);
    const settled = this.#waiting.filter(isMeant);
    this.#waiting = this.#waiting.filter((one) => !isMeant(one));
    for (const { resolve } of settled) resolve(isDone);
  }

  /** @returns {{ kind: Kind, rooms: string[] } | undefined} */
  #next() {
    const { join, leave } = this.#due;
    if (leave.size) return { kind: "leave", rooms: [...leave] };
    if (!this.#isOpen || !this.#options.rejoin) return undefined;
    const rooms = this.#isNew ? [...this.wanted] : [...join].filter((room) => this.wanted.has(room));
    return rooms.length ? { kind: "join", rooms } : undefined;
  }

  async #run() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#cancelRetry();
    for (let task = this.#next(); task; task = this.#next()) {
      if (!(await this.#carryOut(task.kind, task.rooms))) break;
    }
    this.#isRunning = false;
  }

  /**
   * @param {Kind} kind
   * @param {string[]} rooms
   * @returns {Promise<boolean>} whether to go on at once
   */
  async #carryOut(kind, rooms) {
    const scope = new Scope(this.#env);
    this.#call = { kind, scope };
    const wasNew = kind === "join" && this.#isNew;
    try {
      const call = kind === "join" ? this.#options.rejoin : this.#options.leave;
      const answer = await within(this.#env, this.#options.rejoinWithin, scope, (context) => call?.(rooms, context));
      if (isRefusal(answer)) throw new Error(`status ${/** @type {any} */ (answer).status}`);
    } catch (error) {
      return this.#failed(kind, rooms, error);
    } finally {
      this.#call = null;
    }
    // It is void if the connection ended in the same moment.
    if (kind === "join" && !this.#isOpen) return true;
    this.#failures = 0;
    this.#done(kind, rooms, wasNew);
    return true;
  }

  /**
   * @param {Kind} kind
   * @param {string[]} rooms
   * @param {boolean} wasNew
   */
  #done(kind, rooms, wasNew) {
    if (wasNew) this.#isNew = false;
    for (const room of rooms) {
      // Whoever wanted the opposite meanwhile is due by now; whoever only edited the set is not, so that is undone here.
      if (kind === "join" && !this.wanted.has(room) && this.#options.leave) this.#due.leave.add(room);
      this.#due[kind].delete(room);
    }
    this.#settle(kind, rooms, true);
    if (wasNew) this.#emit("rejoined", { rooms });
  }

  /**
   * @param {Kind} kind
   * @param {string[]} rooms
   * @param {unknown} error
   */
  #failed(kind, rooms, error) {
    // Its connection ended: that is no failure.
    if (kind === "join" && !this.#isOpen) return true;
    if (this.#isStopped) {
      this.#due.leave.clear();
      this.#settle("leave", rooms, false);
      return false;
    }
    const { firstPause, longestPause } = this.#options;
    const pause = clamp(this.#env.random() * step(firstPause, this.#failures, longestPause));
    this.#failures += 1;
    this.#cancelRetry = this.#env.later(pause, () => this.#run());
    const what = kind === "join" ? "joined" : "left";
    this.#emit("error", new ImError(kind === "join" ? "rejoin" : "leave", `rooms could not be ${what}; trying again: ${inWords(error)}`, error));
    return false;
  }
}
