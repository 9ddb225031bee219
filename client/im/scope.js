// What an attempt, a connection or a call of the application belongs to. It ends once, and all that is left of it is void then.

/** @typedef {import("./environment.js").Environment} Environment */

export class Scope {
  isOver = false;
  #controller;
  /** @type {Set<() => void>} */
  #hooks = new Set();

  /** @param {Environment} env */
  constructor(env) {
    this.#controller = env.controller?.();
  }

  /** For `fetch`; undefined where the engine has no such thing. */
  get signal() {
    return this.#controller?.signal;
  }

  end() {
    if (this.isOver) return;
    this.isOver = true;
    this.#controller?.abort();
    for (const hook of this.#hooks) hook();
    this.#hooks.clear();
  }

  /**
   * @param {() => void} hook called when it ends
   * @returns {() => void} forgets the hook
   */
  onEnd(hook) {
    this.#hooks.add(hook);
    return () => this.#hooks.delete(hook);
  }
}

/**
 * Runs a call of the application, which may hang: beyond `ms` it is given up, and its scope ended.
 * @template T
 * @param {Environment} env
 * @param {number} ms
 * @param {Scope} scope ended from outside too, which ends the wait
 * @param {(context: { signal: any }) => T | Promise<T>} call
 * @returns {Promise<T>}
 */
export function within(env, ms, scope, call) {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(new Error("given up"));
    const forget = scope.onEnd(giveUp);
    const cancel = env.later(ms, () => {
      reject(new Error(`no answer within ${ms} ms`));
      scope.end();
    });
    Promise.resolve()
      .then(() => call({ signal: scope.signal }))
      .then(resolve, reject)
      .then(() => {
        cancel();
        forget();
      });
    if (scope.isOver) giveUp();
  });
}

/**
 * A pause.
 * @param {Environment} env
 * @param {number} ms
 * @param {Scope} scope whose end ends it
 * @returns {Promise<void>}
 */
export function pause(env, ms, scope) {
  return new Promise((resolve) => {
    const cancel = env.later(ms, resolve);
    scope.onEnd(() => {
      cancel();
      resolve();
    });
  });
}
