// What every JavaScript engine has of an environment: clocks, `fetch`, a WebSocket class. The adapters add what they know of a page.

import { Socket, socketClass } from "./socket.js";

const NO_CLASS = "there is no WebSocket class here (Node has one from version 22 on): give one as the option WebSocket, "
  + "for example that of the package ws";

/**
 * @param {import("../im.d.ts").ImSocketClass | undefined} given the class to connect with, if not the engine's own
 */
export function engine(given) {
  return {
    now: () => globalThis.performance?.now() ?? Date.now(),
    wall: () => Date.now(),
    later,
    random: () => Math.random(),
    controller: () => new AbortController(),
    obstacle: () => (socketClass(given) ? undefined : NO_CLASS),
    /**
     * @param {string} url
     * @param {string[]} protocols
     * @param {import("./environment.js").LinkListener} listener
     */
    connect: (url, protocols, listener) => {
      const Class = /** @type {import("../im.d.ts").ImSocketClass} */ (socketClass(given));
      return new Socket(Class, url, protocols, listener);
    },
    post,
  };
}

/**
 * @param {number} ms
 * @param {() => void} call
 */
function later(ms, call) {
  const timer = setTimeout(call, ms);
  return () => clearTimeout(timer);
}

/**
 * @param {string} address
 * @param {AbortSignal} signal
 */
async function post(address, signal) {
  const headers = { Accept: "application/json" };
  const answer = await fetch(address, { method: "POST", cache: "no-store", headers, signal });
  const { status, ok } = answer;
  return { status, ok, retryAfter: answer.headers.get("Retry-After"), body: () => answer.json() };
}
