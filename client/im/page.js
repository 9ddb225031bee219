// What a browser tells of its page and network. Outside of browsers there are no such events, and nothing happens.

/** @typedef {import("./environment.js").WakeListener} WakeListener */

/** Whether there may be a network, as far as the browser knows. */
export function isOnline() {
  return globalThis.navigator?.onLine !== false;
}

/** Whether nobody looks at the page. */
export function isHidden() {
  return globalThis.document?.visibilityState === "hidden";
}

/**
 * @param {WakeListener} listener
 * @returns {() => void} ends it
 */
export function listenToPage(listener) {
  /** @type {[EventTarget, string, (event: any) => void][]} */
  const hooks = [];
  /**
   * @param {EventTarget | undefined} target
   * @param {string} type
   * @param {(event: any) => void} hook
   */
  const on = (target, type, hook) => {
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(type, hook);
    hooks.push([target, type, hook]);
  };
  const page = globalThis.document;
  on(globalThis, "online", () => listener.networkIsBack());
  on(globalThis, "offline", () => listener.networkIsGone());
  on(globalThis, "pagehide", ({ persisted }) => (persisted ? listener.isPutAway() : listener.isHidden()));
  on(globalThis, "pageshow", ({ persisted }) => persisted && listener.isBack());
  on(page, "freeze", () => listener.isPutAway());
  on(page, "resume", () => listener.isBack());
  on(page, "visibilitychange", () => (isHidden() ? listener.isHidden() : listener.isVisible()));
  return () => {
    for (const [target, type, hook] of hooks) target.removeEventListener(type, hook);
  };
}
