// The environment of browsers: what the engine has, and what is known of the page and the network. Where there is no page, as in
// workers, it is said to be in view and online.

import { engine } from "./engine.js";
import { isHidden, isOnline, listenToPage } from "./page.js";

/**
 * @param {import("../im.d.ts").ImSocketClass | undefined} given the class to connect with, if not the engine's own
 * @returns {import("./environment.js").Environment}
 */
export function browser(given) {
  return { ...engine(given), hasBase: globalThis.location !== undefined, isOnline, isHidden, listen: listenToPage };
}
