// What the close codes of the server ask for. Knows no connection.

import { LONGEST_MS } from "./time.js";

/** @typedef {{ after: number, spread?: number }} Hint A pause that others asked for; nothing shortens it. */

/** The server's "do not reconnect". */
export const KICKED = 4001;
/** The server's "somebody else goes on with this connection". */
export const SUPERSEDED = 4002;
/** Close codes after which coming back would only loop: something this page does is wrong, and would be wrong again. */
export const FATAL = new Map([
  [1002, "the server could not read a frame of this client"],
  [1007, "this client sent text that is not UTF-8"],
  [1008, "this client sent too much; the socket is for receiving"],
  [1009, "this client sent a message that is too big"],
  [4003, "this client has too many connections; the oldest gave way"],
]);
/**
 * What a code asks for if its reason says nothing: a node that stops needs a moment, one that could not get rid of its messages
 * needs more.
 * @type {Map<number, Hint>}
 */
const HINTS = new Map([
  [1001, { after: 1_000 }],
  [1012, { after: 1_000 }],
  [1013, { after: 4_000, spread: 4_000 }],
  // Another node owns this client now, and the next address leads there.
  [4302, { after: 0, spread: 0 }],
  // Another tab has taken the identity of this one, which goes on under a new one.
  [SUPERSEDED, { after: 0, spread: 1_000 }],
]);

/**
 * The pause that a close asks for, if it asks for one.
 * @param {number} code
 * @param {string} reason
 * @returns {Hint | undefined}
 */
export function hintOf(code, reason) {
  return hintIn(reason) ?? HINTS.get(code);
}

/**
 * Reads what a server says in the reason of a close: `{"after":ms,"spread":ms}`.
 * @param {unknown} reason
 * @returns {{ after: number, spread: number } | undefined} nothing if it says nothing of the kind
 */
function hintIn(reason) {
  if (typeof reason !== "string" || !reason.startsWith("{")) return undefined;
  try {
    const { after = 0, spread = 0 } = JSON.parse(reason);
    if (![after, spread].every((ms) => typeof ms === "number" && ms >= 0)) return undefined;
    return { after: Math.min(after, LONGEST_MS), spread: Math.min(spread, LONGEST_MS) };
  } catch {
    return undefined;
  }
}
