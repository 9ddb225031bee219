// The environment of browsers: what the engine has, and what is known of the page and the network. Where there is no page, as in
// workers, it is said to be in view and online.

import { engine } from "./engine.js";
import { isHidden, isOnline, listenToPage } from "./page.js";

/**
 * @param {import("../im.d.ts").ImSocketClass | undefined} given the class to connect with, if not the engine's own
 * @returns {import("./environment.js").Environment}
 */
export function browser(given) {
  return { ...engine(given), hasBase: globalThis.location !== undefined, isOnline, isHidden, listen: listenToPage, between: between() };
}

/** @returns {import("./environment.js").Between | undefined} locks are for pages that came by https or from this machine */
function between() {
  const locks = globalThis.navigator?.locks;
  if (!locks || typeof BroadcastChannel !== "function") return undefined;
  return {
    lock: (name, { held, lost }, isForced) => {
      const wait = new AbortController();
      let isHeld = false;
      const hold = () => {
        isHeld = true;
        return held();
      };
      locks.request(name, isForced ? { steal: true } : { signal: wait.signal }, hold).catch(() => isHeld && lost());
      return () => wait.abort();
    },
    channel: (name, heard) => {
      const channel = new BroadcastChannel(name);
      channel.onmessage = ({ data }) => heard(data);
      return { post: (word) => channel.postMessage(word), close: () => channel.close() };
    },
  };
}
