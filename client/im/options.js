// The options of a client: defaults, and refusal of what cannot work. Called once, by the constructor.

import { shown } from "./error.js";
import { clamp } from "./time.js";

/** @typedef {import("../im.d.ts").ImClientOptions} ImClientOptions */

const DEFAULTS = {
  firstPause: 2_500,
  longestPause: 30_000,
  stableAfter: 5_000,
  connectWithin: 10_000,
  checkWithin: 10_000,
  rejoinWithin: 10_000,
  silence: 0,
};
/** The same for what is no time. */
const RETRIES = 0;

/** What may be a function and nothing else, what may be anything, and so all that there is. */
const CALLS = /** @type {const} */ (["getUrl", "rejoin", "leave", "check", "decode", "WebSocket", "onMessage", "onResync"]);
const NAMES = [...CALLS, ...Object.keys(DEFAULTS), "address", "rooms", "retries", "resume", "position", "share", "handle"];

/**
 * @param {ImClientOptions} options
 * @param {boolean} hasBase whether a relative address means something here
 * @returns {ImClientOptions & typeof DEFAULTS & { rooms: Set<string>, retries: number, resume: boolean, handle: "all" | "leader" }}
 */
export function complete(options, hasBase) {
  if (options?.getUrl === undefined && options?.address === undefined) {
    throw new TypeError("ImClient: one of getUrl (a function) and address (of your web API) must be given");
  }
  for (const name of Object.keys(options)) {
    if (!NAMES.includes(name)) throw new TypeError(`ImClient: there is no option ${name}${meant(name)}`);
  }
  const { address } = options;
  if (address !== undefined && typeof address !== "string" && Object.prototype.toString.call(address) !== "[object URL]") {
    throw new TypeError(`ImClient: address must be a text or a URL, not ${shown(address)}`);
  }
  if (address !== undefined && !hasBase && !/^https?:\/\//i.test(String(address))) {
    throw new TypeError(`ImClient: address must begin with https:// or http:// here, where no page has an address of its own, not ${shown(address)}`);
  }
  for (const name of CALLS) {
    const value = options[name];
    if (value !== undefined && typeof value !== "function") {
      throw new TypeError(`ImClient: ${name} must be a function, not ${shown(value)}`);
    }
  }
  /** @type {any} */
  const all = { ...DEFAULTS, ...options };
  for (const name of /** @type {(keyof typeof DEFAULTS)[]} */ (Object.keys(DEFAULTS))) {
    all[name] = duration(name, options[name] ?? DEFAULTS[name]);
  }
  all.rooms = roomSet(options.rooms);
  all.resume = options.resume ?? true;
  all.retries = options.retries ?? RETRIES;
  if (!Number.isInteger(all.retries) || all.retries < 0) {
    throw new TypeError(`ImClient: retries must be a whole number, not ${shown(options.retries)}`);
  }
  const { share } = options;
  if (share !== undefined && (typeof share !== "string" || share === "")) {
    throw new TypeError(`ImClient: share must be the name of the user whose tabs share a connection, not ${shown(share)}`);
  }
  if (share !== undefined && !all.resume) throw new TypeError("ImClient: share needs resume: what one tab has begun another could not go on with");
  all.handle = options.handle ?? "all";
  if (!["all", "leader"].includes(all.handle)) throw new TypeError(`ImClient: handle must be "all" or "leader", not ${shown(options.handle)}`);
  const { position } = options;
  if (position && (typeof position.load !== "function" || typeof position.save !== "function")) {
    throw new TypeError(`ImClient: position must have load and save, not ${shown(position)}`);
  }
  return all;
}

/**
 * The option that was meant, if one is close; else all of them.
 * @param {string} name
 */
function meant(name) {
  const key = (/** @type {string} */ text) => [...text.toLowerCase()].sort().join("");
  const close = NAMES.find((known) => key(known) === key(name) || known.startsWith(name) || name.startsWith(known));
  return close ? `; is ${close} meant?` : `; there are ${[...NAMES].sort().join(", ")}`;
}

/**
 * @param {keyof typeof DEFAULTS} name
 * @param {unknown} ms
 */
function duration(name, ms) {
  if (typeof ms !== "number" || !(ms >= 0)) {
    throw new TypeError(`ImClient: ${name} must be a number of milliseconds, not ${shown(ms)}`);
  }
  const isNever = name === "silence" && (ms === 0 || ms === Infinity);
  return isNever ? 0 : clamp(ms);
}

/**
 * A set stays the one that was given, so that its owner can go on editing it.
 * @param {unknown} rooms
 * @returns {Set<string>}
 */
function roomSet(rooms) {
  if (rooms === undefined || rooms === null) return new Set();
  if (rooms instanceof Set) return rooms;
  if (typeof rooms === "object" && Symbol.iterator in rooms) return new Set(/** @type {Iterable<string>} */ (rooms));
  throw new TypeError(`ImClient: rooms must be a Set or a list of names, not ${shown(rooms)}`);
}
