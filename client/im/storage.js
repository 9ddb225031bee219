// Where a page keeps its position over a reload: a place in `sessionStorage` that no other tab uses at the same time.
//
// A tab that is duplicated gets a copy of its `sessionStorage`, and must not go on from where the first one is. Each holds a lock on
// what it goes on from, as long as it lives; who does not get it begins anew.

/**
 * @param {string} user whose position it is: another user of the same tab does not go on from it
 * @returns {import("../im.d.ts").ImPosition}
 */
export function sessionPosition(user) {
  if (typeof user !== "string" || user === "") throw new TypeError("sessionPosition: it needs the name of the user");
  if (!hasStorage()) {
    throw new TypeError("sessionPosition: there is no sessionStorage here (it is for pages); give position an own { load, save }");
  }
  const key = `imcore:${user}`;
  return {
    async load() {
      const stored = globalThis.sessionStorage.getItem(key) ?? "";
      return stored && (await hold(stored.split(" ")[0])) ? stored : "";
    },
    save(position) {
      if (position) globalThis.sessionStorage.setItem(key, position);
      else globalThis.sessionStorage.removeItem(key);
      const [identity] = position.split(" ");
      if (identity) hold(identity);
    },
  };
}

/** A page that may not use it is told so by load and save, and works without. */
function hasStorage() {
  try {
    return Boolean(globalThis.sessionStorage);
  } catch {
    return true;
  }
}

/** @type {Set<string>} What this page holds. */
const held = new Set();

/**
 * Holds an identity until the page ends.
 * @param {string} identity
 * @returns {Promise<boolean>} whether it is this page's; where there are no locks, it is
 */
function hold(identity) {
  const locks = globalThis.navigator?.locks;
  if (!locks || held.has(identity)) return Promise.resolve(true);
  held.add(identity);
  return new Promise((resolve) => {
    locks
      .request(`imcore ${identity}`, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        if (lock) return new Promise(() => {});
        held.delete(identity);
        return undefined;
      })
      .catch(() => resolve(true));
  });
}
