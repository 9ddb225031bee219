// A node that speaks `imcore.1` as docs/protocol.md has it, for one client: it keeps a log, and answers what it can prove. And an
// application that handles what comes.

import assert from "node:assert/strict";
import { create, FakeSocket, pass, pauseOf, settle } from "./fake.js";

/** One node and its log, for one client. */
export class Node {
  log = [];
  number = 100;
  /** c → what is known of that connection: its socket, what it acknowledged. */
  sessions = new Map();
  made = 0;
  superseded = 0;

  position(number = this.number) {
    return `k3.${number}`;
  }

  /** A socket asks to be opened. */
  accept(socket) {
    const query = new URL(socket.url).searchParams;
    const [since, c] = [query.get("since"), query.get("c")];
    assert.equal(since === null, c === null, "both or neither");
    socket.protocol = "imcore.1";
    socket.heard = 0;
    socket.send = (text) => !socket.isClosed && this.hear(socket, JSON.parse(text));
    socket.open();
    const session = this.sessions.get(c);
    const hello = { p: this.position(), client: "42", keep: 60, spread: 0 };
    const from = Number(since?.split(".")[1]);
    const isWhole = session && from >= session.floor && from <= this.number;
    if (session?.socket && !session.socket.isClosed) {
      this.superseded += 1;
      const former = session.socket;
      queueMicrotask(() => {
        if (former.isClosed) return;
        former.isClosed = true;
        former.ends(4002, "superseded");
      });
    }
    socket.c = session ? c : `c${(this.made += 1)}`;
    this.sessions.set(socket.c, { socket, floor: isWhole ? session.floor : this.number });
    const missed = isWhole ? this.log.filter((message) => message.number > from) : [];
    const rest = isWhole ? { resumed: true, missed: missed.length } : { resumed: false, ...(c && { why: session ? "too_much" : "expired" }) };
    socket.says({ hello: { ...hello, c: socket.c, channels: Boolean(session), ...rest } });
    for (const message of missed) this.deliver(socket, message);
  }

  deliver(socket, { number, id }) {
    socket.says({ p: this.position(number), m: { id } });
  }

  publish(id) {
    this.number += 1 + (id % 3);
    const message = { number: this.number, id };
    this.log.push(message);
    for (const { socket } of this.sessions.values()) if (socket && !socket.isClosed && !socket.isDead) this.deliver(socket, message);
  }

  hear(socket, word) {
    if (socket.isDead) return;
    const session = this.sessions.get(socket.c);
    if (word.a) {
      const number = Number(word.a.split(".")[1]);
      assert.ok(number <= this.number, "an acknowledgement of what never was");
      session.floor = Math.max(session.floor, number);
    }
    if (word.q) socket.says({ p: this.position() });
  }

  /** Nothing is known of anybody any more. */
  forget() {
    const sockets = [...this.sessions.values()].map(({ socket }) => socket);
    this.sessions.clear();
    for (const socket of sockets.filter(({ isClosed, isDead }) => !isClosed && !isDead)) {
      socket.isClosed = true;
      socket.ends(1006);
    }
  }
}

/** An application whose state is the list of ids that it knows; the service behind it knows all that was ever published. */
export function application(node, options = {}, adapter = undefined) {
  const state = { seen: [], resyncs: [], handled: 0 };
  const made = create({
    firstPause: 100,
    onMessage: async ({ id }) => {
      await Promise.resolve();
      state.seen.push(id);
      state.handled += 1;
    },
    onResync: async ({ why }) => {
      state.resyncs.push(why);
      state.seen = node.log.map((message) => message.id);
    },
    ...options,
  }, adapter);
  return { ...made, state };
}

/** Whatever attempt is under way is answered. */
export async function serve(node, client) {
  for (let turn = 0; turn < 20 && !client.isOpen; turn += 1) {
    if (client.retryAt) await pass(pauseOf(client));
    await settle();
    const socket = FakeSocket.last;
    if (socket && !socket.isClosed && socket.protocol === undefined) node.accept(socket);
    await settle();
  }
}

/** An application that is live on a node of its own. */
export async function live(options = {}, adapter = undefined) {
  const node = new Node();
  const made = application(node, options, adapter);
  made.client.connect();
  await serve(node, made.client);
  await settle();
  return { node, ...made };
}

export const all = (node) => node.log.map((message) => message.id);
