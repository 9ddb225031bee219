// Pauses and limits, as numbers. Nobody here knows what they are for, or reads a clock.

/** Bounds of everything that is waited for: below, it would be a busy loop; far above, timers overflow. */
const SHORTEST_MS = 50;
export const LONGEST_MS = 3_600_000;

/** @param {number} ms */
export function clamp(ms) {
  return Math.min(LONGEST_MS, Math.max(SHORTEST_MS, ms));
}

/**
 * A step of a back-off: doubled with each failure, up to the longest.
 * @param {number} first
 * @param {number} failures
 * @param {number} longest
 */
export function step(first, failures, longest) {
  return Math.min(longest, first * 2 ** failures);
}

/**
 * Reads a wish to be left alone: milliseconds, or the text of a `Retry-After` header (seconds, or a date).
 * @param {unknown} value
 * @param {number} wall what the wall clock says
 * @returns {number | undefined} milliseconds; nothing if it is none
 */
export function retryAfter(value, wall) {
  if (typeof value === "number") return value >= 0 ? Math.min(value, LONGEST_MS) : undefined;
  if (typeof value !== "string" || value.trim() === "") return undefined;
  const ms = /^\s*\d+\s*$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - wall;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), LONGEST_MS);
}
