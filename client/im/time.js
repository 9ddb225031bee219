// Clocks, pauses and limits. Nobody here knows what they are for.

/** Bounds of everything that is waited for: below, it would be a busy loop; far above, timers overflow. */
const SHORTEST_MS = 50;
export const LONGEST_MS = 3_600_000;

/** Milliseconds of a clock that nobody sets. */
export function now() {
  return globalThis.performance?.now() ?? Date.now();
}

/** @param {number} ms */
export function clamp(ms) {
  return Math.min(LONGEST_MS, Math.max(SHORTEST_MS, ms));
}

/**
 * Any length up to `ms`, so that those who begin together do not come back together.
 * @param {number} ms
 */
export function drawn(ms) {
  return Math.random() * ms;
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
 * @returns {number | undefined} milliseconds; nothing if it is none
 */
export function retryAfter(value) {
  if (typeof value === "number") return value >= 0 ? Math.min(value, LONGEST_MS) : undefined;
  if (typeof value !== "string" || value.trim() === "") return undefined;
  const ms = /^\s*\d+\s*$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), LONGEST_MS);
}

/**
 * Runs a call of the application, which may hang: beyond `ms` it is given up, and its signal aborted.
 * @template T
 * @param {number} ms
 * @param {AbortController} scope aborted from outside too, which ends the wait
 * @param {(context: { signal: AbortSignal }) => T | Promise<T>} call
 * @returns {Promise<T>}
 */
export function within(ms, scope, call) {
  const { signal } = scope;
  return new Promise((resolve, reject) => {
    const abort = () => reject(new Error("given up"));
    const timer = setTimeout(() => {
      reject(new Error(`no answer within ${ms} ms`));
      scope.abort();
    }, ms);
    signal.addEventListener("abort", abort);
    Promise.resolve()
      .then(() => call({ signal }))
      .then(resolve, reject)
      .then(() => {
        clearTimeout(timer);
        signal.removeEventListener("abort", abort);
      });
    if (signal.aborted) abort();
  });
}
