// The imcore client for React Native. Types are in react-native.d.ts.
//
// It imports nothing of React Native: the app gives it what it has. What is different there: an app in the background is stopped
// after some seconds, on iOS for certain, and its sockets die without a word. So it says that it is away before that.

import { Core } from "./im/core.js";
import { engine } from "./im/engine.js";
import { ImError } from "./im/error.js";
import { decodeJson } from "./im/message.js";
import { Network } from "./im/network.js";

export { decodeJson, ImError };

/** @typedef {import("./react-native.d.ts").ReactNative} ReactNative */

/** One user's push connection. */
export class ImClient extends Core {
  /**
   * @param {ReactNative} platform what the app imports: `{ AppState, NetInfo }`
   * @param {import("./im.d.ts").ImClientOptions} options
   */
  constructor(platform, options) {
    super(options, environment(platform ?? {}, options));
  }
}

/**
 * A place in the storage of the app, by user: an app that was ended goes on from there.
 * @param {import("./react-native.d.ts").AsyncStorage} storage
 * @param {string} user whose position it is
 * @returns {import("./im.d.ts").ImPosition}
 */
export function storagePosition(storage, user) {
  if (typeof user !== "string" || user === "") throw new TypeError("storagePosition: it needs the name of the user");
  const key = `imcore:${user}`;
  return {
    load: () => storage.getItem(key),
    save: (position) => (position ? storage.setItem(key, position) : storage.removeItem(key)),
  };
}

/**
 * @param {ReactNative} platform
 * @param {import("./im.d.ts").ImClientOptions} options
 * @returns {import("./im/environment.js").Environment}
 */
function environment({ AppState, NetInfo }, options) {
  const network = new Network();
  return {
    ...engine(options?.WebSocket),
    hasBase: false,
    isOnline: () => network.isThere,
    isHidden: () => AppState?.currentState === "background",
    listen: (listener) => {
      let isAway = false;
      const turned = (/** @type {string} */ state) => {
        const wasAway = isAway;
        // On iOS there is `inactive` on the way, and under a call or the switcher of apps.
        if (state !== "inactive") isAway = state === "background";
        if (isAway && !wasAway) listener.isPutAway();
        else if (wasAway && !isAway) listener.isBack();
        else if (state === "inactive") listener.isHidden();
        else if (state === "active") listener.isVisible();
      };
      const app = AppState?.addEventListener("change", turned);
      // `isConnected` is null until it is known.
      const stop = NetInfo?.addEventListener(({ isConnected, type }) => network.stands(isConnected !== false, type, listener));
      return () => {
        app?.remove();
        stop?.();
      };
    },
  };
}
