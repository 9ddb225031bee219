// Asks a node where this client is: a question that is answered at once, so that silence means a dead link.

import { Scope, pause } from "./scope.js";

const PROBE = JSON.stringify({ q: 1 });
/** A node answers one a second; what comes sooner might be dropped. */
const EVERY_MS = 1_000;

/**
 * @param {import("./environment.js").Environment} env
 * @param {(word: string) => void} say
 * @returns {() => Promise<void>} a check whose answer is whatever is heard after it
 */
export function prober(env, say) {
  let next = -Infinity;
  return async () => {
    const wait = next - env.now();
    next = Math.max(next, env.now()) + EVERY_MS;
    if (wait > 0) await pause(env, wait, new Scope(env));
    say(PROBE);
  };
}
