// The imcore client for mini programs: WeChat's `wx`, uni-app's `uni`, and others with the same calls. Types are in miniprogram.d.ts.
//
// What is different there: no WebSocket class, but `connectSocket`, five at a time; no `fetch`, no `EventTarget`; a program in the
// background is stopped after some seconds and its sockets with it, often without a word. So it says that it is away before that.

import { Core } from "./im/core.js";
import { engine } from "./im/engine.js";
import { ImError } from "./im/error.js";
import { decodeJson } from "./im/message.js";
import { Network } from "./im/network.js";
import { taskSocket } from "./im/task.js";

export { decodeJson, ImError };

/** @typedef {import("./miniprogram.d.ts").MiniProgram} MiniProgram */

/** One user's push connection. */
export class ImClient extends Core {
  /**
   * @param {MiniProgram} platform `wx` or `uni`
   * @param {import("./im.d.ts").ImClientOptions} options
   */
  constructor(platform, options) {
    super(options, environment(platform));
  }
}

/**
 * A place in the storage of the program, by user: a program that was ended goes on from there.
 * @param {MiniProgram} platform
 * @param {string} user whose position it is
 * @returns {import("./im.d.ts").ImPosition}
 */
export function storagePosition(platform, user) {
  if (typeof user !== "string" || user === "") throw new TypeError("storagePosition: it needs the name of the user");
  const key = `imcore:${user}`;
  return {
    load: () => platform.getStorageSync(key),
    save: (position) => (position ? platform.setStorageSync(key, position) : platform.removeStorageSync(key)),
  };
}

/**
 * @param {MiniProgram} platform
 * @returns {import("./im/environment.js").Environment}
 */
function environment(platform) {
  const network = new Network();
  let isHidden = false;
  return {
    ...engine(taskSocket(platform)),
    controller,
    post: (address, signal) => post(platform, address, signal),
    hasBase: false,
    isOnline: () => network.isThere,
    isHidden: () => isHidden,
    listen: (listener) => {
      const heard = (/** @type {{ isConnected?: boolean, networkType: string }} */ { isConnected, networkType }) =>
        network.stands(isConnected ?? networkType !== "none", networkType, listener);
      const shown = () => {
        // It is told at the start as well.
        const wasHidden = isHidden;
        isHidden = false;
        if (wasHidden) listener.isBack();
      };
      const hidden = () => {
        isHidden = true;
        listener.isPutAway();
      };
      // Mini games have the same two by shorter names.
      const app = platform.onAppShow ? "App" : "";
      platform.getNetworkType?.({ success: heard, fail() {} });
      platform.onNetworkStatusChange?.(heard);
      platform[`on${app}Show`]?.(shown);
      platform[`on${app}Hide`]?.(hidden);
      return () => {
        platform.offNetworkStatusChange?.(heard);
        platform[`off${app}Show`]?.(shown);
        platform[`off${app}Hide`]?.(hidden);
      };
    },
  };
}

/** There is no `AbortController`: what a call is given has `onabort`, and ends what the platform is asked for. */
function controller() {
  const signal = { aborted: false, onabort: /** @type {(() => void) | null} */ (null) };
  const abort = () => {
    if (signal.aborted) return;
    signal.aborted = true;
    signal.onabort?.();
  };
  return { signal, abort };
}

/**
 * @param {MiniProgram} platform
 * @param {string} address
 * @param {ReturnType<typeof controller>["signal"]} signal
 * @returns {Promise<import("./im/environment.js").Answer>}
 */
function post(platform, address, signal) {
  return new Promise((resolve, reject) => {
    const task = platform.request({
      url: address,
      method: "POST",
      header: { Accept: "application/json" },
      success: (/** @type {any} */ { statusCode, header, data }) => {
        const [, retryAfter = null] = Object.entries(header ?? {}).find(([name]) => name.toLowerCase() === "retry-after") ?? [];
        const ok = statusCode >= 200 && statusCode < 300;
        resolve({ status: statusCode, ok, retryAfter: retryAfter === null ? null : String(retryAfter), body: async () => data });
      },
      fail: ({ errMsg = "no network" } = {}) => reject(new Error(errMsg)),
    });
    signal.onabort = () => task?.abort?.();
  });
}
