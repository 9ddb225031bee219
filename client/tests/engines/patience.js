// Waiting for what must come. The deadline is generous: it is there for what never comes.

import { setTimeout as pause } from "node:timers/promises";

const PATIENCE_MS = 60_000;
const POLL_MS = 20;

/** Calls `condition` until it gives something, and gives that. */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain: ${typeof what === "function" ? what() : what}`);
    await pause(POLL_MS);
  }
}
