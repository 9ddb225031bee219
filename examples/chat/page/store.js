// What the page knows: me, rooms, people, conversations. Survives a reload of the tab, but not the tab:
// two tabs are two people, which is what one wants of a demo. Knows neither DOM nor network.

const SAVED = "imcore.chat";
/** Messages kept per conversation. */
const KEPT = 300;
/** Of these, kept over a reload. */
const SAVED_MESSAGES = 60;

/** Key of the conversation that reaches everybody. */
export const ALL = "all";
/** Key of a room's conversation. */
export const roomKey = (name) => `room:${name}`;
/** Key of the conversation with one person. */
export const directKey = (id) => `direct:${id}`;

/** A state of a private message that a later one may replace. */
const RANK = { sending: 0, failed: 0, sent: 1, offline: 2, delivered: 3 };

/** Calls its listeners with what changed: "lists", "thread" or "me". */
export class Store {
  /** `session` proves to the web API that the id is mine. */
  me = { id: null, session: null, nick: null };
  /** Rooms that exist, with their counts. */
  rooms = [];
  /** Names of my rooms. */
  joined = new Set();
  /** Ids of who is online. */
  online = new Set();
  /** Members of the open room: [{id, online}]. */
  members = [];
  conversations = new Map();
  active = null;
  #nicks = new Map();
  #listeners = new Set();
  #saving = 0;

  constructor() {
    this.#load();
    this.#conversation(ALL);
  }

  onChange(listener) {
    this.#listeners.add(listener);
  }

  // --- Me and the others ------------------------------------------------------------------------

  setMe(me) {
    Object.assign(this.me, me);
    this.#changed("me", "lists");
  }

  /** Forgets everything: the next user of this tab starts afresh. */
  reset() {
    this.me = { id: null, session: null, nick: null };
    this.rooms = [];
    this.members = [];
    this.joined.clear();
    this.online.clear();
    this.conversations.clear();
    this.#nicks.clear();
    this.active = null;
    this.#conversation(ALL);
    this.#changed("me", "lists", "thread");
  }

  /** The name of `id`, or null if nobody has told it. */
  nick(id) {
    return id === this.me.id ? this.me.nick : (this.#nicks.get(id) ?? null);
  }

  setPeople(people) {
    this.online = new Set(people.map(({ websocketId }) => String(websocketId)));
    this.#learn(people);
    this.#changed("lists", "thread");
  }

  setMembers(members) {
    this.members = members.map(({ websocketId, online }) => ({ id: String(websocketId), online }));
    this.#learn(members);
    this.#changed("lists");
  }

  #learn(people) {
    for (const { websocketId, nick } of people) {
      if (nick) this.#nicks.set(String(websocketId), nick);
    }
  }

  // --- Rooms and conversations --------------------------------------------------------------------

  setRooms(rooms) {
    this.rooms = rooms.map(({ chan, online }) => ({ name: chan, count: online }));
    this.#changed("lists", "thread");
  }

  /** Members of the room; null if it is not known. */
  count(name) {
    return this.rooms.find((room) => room.name === name)?.count ?? null;
  }

  join(name) {
    this.joined.add(name);
    this.#conversation(roomKey(name));
    this.#changed("lists");
  }

  /** The rooms that the web API has me in. */
  setJoined(names) {
    for (const name of this.joined) if (!names.includes(name)) this.leave(name);
    for (const name of names) if (!this.joined.has(name)) this.join(name);
  }

  leave(name) {
    this.joined.delete(name);
    this.conversations.delete(roomKey(name));
    if (this.active === roomKey(name)) this.active = null;
    this.#changed("lists", "thread");
  }

  open(key) {
    this.members = [];
    this.active = key;
    if (key) this.markRead(key);
    this.#changed("lists", "thread");
  }

  get current() {
    return this.active ? (this.conversations.get(this.active) ?? null) : null;
  }

  /** Starts or finds the conversation with one person. */
  startDirect(id) {
    return this.#conversation(directKey(id)).key;
  }

  get unread() {
    return [...this.conversations.values()].reduce((sum, { unread }) => sum + unread, 0);
  }

  /** The line above the first unread message stays until the conversation is opened the next time. */
  markRead(key) {
    const conversation = this.conversations.get(key);
    if (!conversation) return;
    conversation.firstUnread = conversation.unread ? conversation.messages.at(-conversation.unread)?.id : null;
    conversation.unread = 0;
    this.#changed("lists");
  }

  #conversation(key) {
    let conversation = this.conversations.get(key);
    if (!conversation) {
      const [kind, name] = key === ALL ? [ALL, ""] : [key.slice(0, key.indexOf(":")), key.slice(key.indexOf(":") + 1)];
      conversation = { key, kind, name, messages: [], unread: 0, firstUnread: null };
      this.conversations.set(key, conversation);
    }
    return conversation;
  }

  // --- Messages -----------------------------------------------------------------------------------

  /** My message, shown before the web API has it. */
  draft(key, content) {
    const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    const message = { id, sender: this.me.id, nick: this.me.nick, time: Date.now(), type: "text", content, state: "sending" };
    this.#append(this.#conversation(key), message);
    return message;
  }

  /** My message that was not sent, once more and as the newest: that is what it will be for everybody else. */
  redraft(key, id) {
    const conversation = this.conversations.get(key);
    const message = conversation.messages.find((known) => known.id === id);
    conversation.messages = conversation.messages.filter((known) => known !== message);
    message.time = Date.now();
    this.#append(conversation, message);
    return message;
  }

  /** What became of my message. A receipt may come before the answer to the request that sent it. */
  settle(key, id, state) {
    const message = this.conversations.get(key)?.messages.find((known) => known.id === id);
    if (!message || (RANK[state] < RANK[message.state] && state !== "sending")) return;
    message.state = state;
    this.#changed("thread");
  }

  /** A message from the socket, or the web API's copy of my own. Returns whether it counts as unread. */
  receive(wire, isSeen) {
    const sender = wire.sender === undefined ? null : String(wire.sender);
    const mine = sender === this.me.id;
    const key = this.#keyOf(wire, sender, mine);
    if (!key || !wire.msg) return;
    if (sender && wire.senderNick) this.#nicks.set(sender, wire.senderNick);
    const conversation = this.#conversation(key);
    const { type = "text", content = "", oldnick } = wire.msg;
    const id = String(wire.id ?? `${sender}-${wire.time}`);
    const known = conversation.messages.find((message) => message.id === id);
    if (known) return;
    const message = { id, sender, nick: wire.senderNick ?? null, time: Number(wire.time) || Date.now(), type, content: String(content), oldnick };
    if (mine) message.state = "sent";
    const counts = !mine && type === "text" && !isSeen(key);
    if (counts) conversation.unread += 1;
    this.#append(conversation, message);
  }

  #keyOf(wire, sender, mine) {
    switch (wire.type) {
      case "chanmsg":
        // The last messages of a room may still be on their way when it is left.
        return this.joined.has(wire.chan) ? roomKey(wire.chan) : null;
      case "privatemsg":
        return directKey(mine ? String(wire.to) : sender);
      case "broadcastmsg":
        return ALL;
      default:
        return null;
    }
  }

  #append(conversation, message) {
    conversation.messages.push(message);
    if (conversation.messages.length > KEPT) conversation.messages.shift();
    this.#changed("lists", "thread");
  }

  // --- Changes and storage ------------------------------------------------------------------------

  #changed(...parts) {
    for (const listener of this.#listeners) listener(parts);
    clearTimeout(this.#saving);
    this.#saving = setTimeout(() => this.save(), 300);
  }

  save() {
    const conversations = [...this.conversations.values()].map((conversation) => ({
      ...conversation,
      messages: conversation.messages.slice(-SAVED_MESSAGES),
    }));
    const state = { me: this.me, joined: [...this.joined], active: this.active, nicks: [...this.#nicks], conversations };
    try {
      sessionStorage.setItem(SAVED, JSON.stringify(state));
    } catch {
      // A full or forbidden store costs the history of a reload, nothing else.
    }
  }

  #load() {
    try {
      const state = JSON.parse(sessionStorage.getItem(SAVED));
      if (!state) return;
      this.me = state.me;
      this.joined = new Set(state.joined);
      this.active = state.active;
      this.#nicks = new Map(state.nicks);
      for (const conversation of state.conversations) {
        // Whether these arrived is not known any more.
        for (const message of conversation.messages) if (message.state === "sending") message.state = "failed";
        this.conversations.set(conversation.key, conversation);
      }
    } catch {
      sessionStorage.removeItem(SAVED);
    }
  }
}
