// Who is in the channels of which the node tells that. Docs: docs/protocol.md, "Rosters".
//
// Kept from what is told on one connection after the other: each begins with all who are there, so nothing is to be remembered or
// forgotten in between.

/** @typedef {import("../im.d.ts").ImRoster} ImRoster */

export class Rosters {
  /** @type {Map<string, ImRoster>} As they are, by channel. */
  #known = new Map();

  /** All that are known, for somebody who knows none. @returns {ImRoster[]} */
  get all() {
    return [...this.#known.values()].map((roster) => ({ ...roster, joined: roster.members ?? [], left: [] }));
  }

  /**
   * @param {any} told what the node says
   * @returns {ImRoster | undefined} nothing if it is no roster
   */
  take(told) {
    const { channel, online, joined, left } = told ?? {};
    if (typeof channel !== "string" || typeof online !== "number") return undefined;
    const before = this.#known.get(channel)?.members;
    const members = Array.isArray(joined) ? this.#members(before ?? [], joined, left ?? [], online) : undefined;
    const [was, is] = [new Set(before), new Set(members)];
    const roster = {
      channel,
      online,
      ...(members && { members }),
      joined: (members ?? []).filter((client) => !was.has(client)),
      left: members ? (before ?? []).filter((client) => !is.has(client)) : [],
    };
    this.#known.set(channel, roster);
    return roster;
  }

  /**
   * @param {string[]} before
   * @param {string[]} joined
   * @param {string[]} left
   * @param {number} online
   */
  #members(before, joined, left, online) {
    // As many as there are: all of them.
    if (joined.length === online) return joined;
    const members = new Set([...before, ...joined]);
    for (const client of left) members.delete(client);
    return [...members];
  }
}
