// Tabs that share one connection: who leads, what all are told, and that nothing is lost when the leader goes. Locks and channels are
// the test's; a real browser has its turn in engines.test.js.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ImClient } from "../im.js";
import { Tabs } from "../im/tabs.js";
import { bare, FakeSocket, pass, pauseOf, settle } from "./fake.js";
import { all, Node, serve } from "./resuming.js";

/** Of all tabs of a test: name → who waits for the lock, the holder first; name → who hears. */
let locks;
let channels;
let tabs;
let addresses;
/** Words that are held up between tabs; null: none is. */
let late;

beforeEach(() => {
  [locks, channels, tabs, addresses, late] = [new Map(), new Map(), [], 0, null];
});

afterEach(() => {
  for (const tab of tabs) tab.crash();
});

/** One tab: its client, what its application has, and its end without a word. */
class Tab {
  told = [];
  seen = [];
  loads = [];
  /** The newest message in the state as it was loaded. */
  loaded = 0;
  errors = [];
  isGone = false;
  /** What comes while the system has put the tab to sleep; null: it is awake. */
  slept = null;
  /** Whether it hears that it has lost the lock later than everything else. */
  isLostLate = false;
  #wakes = new Set();
  #sockets = [];
  #requests = [];
  #channels = [];

  constructor(node, options = {}) {
    tabs.push(this);
    const env = bare();
    const share = 1 - tabs.length / 1_000;
    const alive = (call) => (...values) => {
      if (this.isGone) return undefined;
      return this.slept ? void this.slept.push(() => call(...values)) : call(...values);
    };
    this.client = new Tabs({
      getUrl: async () => `wss://im.example.com/ws?token=${(addresses += 1)}`,
      firstPause: 100,
      share: "42",
      onMessage: async ({ id }) => {
        await Promise.resolve();
        // What came while the state was loaded may be in it.
        if (!this.isGone && id > this.loaded) this.seen.push(id);
      },
      onResync: async ({ why }) => {
        this.loads.push(why);
        this.loaded = node.log.at(-1)?.id ?? 0;
        this.seen = all(node);
      },
      ...options,
    }, {
      ...env,
      random: () => share,
      later: (ms, call) => {
        let isOff = false;
        const cancel = env.later(ms, alive(() => isOff || call()));
        return () => {
          isOff = true;
          cancel();
        };
      },
      connect: (url, protocols, listener) => {
        let isLetGo = false;
        const heard = {};
        for (const what of ["opened", "received", "ended"]) heard[what] = alive((value) => isLetGo || listener[what](value));
        const link = env.connect(url, protocols, heard);
        this.#sockets.push(FakeSocket.last);
        const close = (code, reason) => {
          isLetGo = true;
          link.close(code, reason);
        };
        return { get protocol() { return link.protocol; }, send: (text) => link.send(text), close };
      },
      listen: (listener) => {
        this.#wakes.add(listener);
        return () => this.#wakes.delete(listener);
      },
      between: {
        lock: (name, { held, lost }, isForced) => {
          this.lose = lost;
          return this.#lock(name, { held, lost: alive(() => this.isLostLate || lost()) }, isForced);
        },
        channel: (name, heard) => this.#channel(name, alive(heard)),
      },
    });
    for (const type of ["state", "message", "open", "close", "kicked", "error", "resync", "roster"]) {
      this.client.on(type, (detail) => this.told.push([type, detail]));
    }
    this.client.on("error", (error) => this.errors.push(error));
  }

  states() {
    return this.told.filter(([type]) => type === "state").map(([, { state }]) => state);
  }

  messages() {
    return this.told.filter(([type]) => type === "message").map(([, { id }]) => id);
  }

  /** The tab is gone, and its sockets with it. */
  crash() {
    this.isGone = true;
    for (const socket of this.#sockets) socket.isClosed = true;
    for (const end of [...this.#requests, ...this.#channels]) end();
  }

  /** Without a word, as iOS does it. */
  sleep() {
    this.slept = [];
  }

  wake() {
    const missed = this.slept;
    this.slept = null;
    for (const call of missed) call();
  }

  comesIntoView() {
    for (const listener of [...this.#wakes]) listener.isVisible();
  }

  putAway() {
    for (const listener of [...this.#wakes]) listener.isPutAway();
  }

  back() {
    for (const listener of [...this.#wakes]) listener.isBack();
  }

  #lock(name, { held, lost }, isForced) {
    const queue = locks.get(name) ?? [];
    locks.set(name, queue);
    const request = { held, lost };
    if (isForced && queue[0]?.isHeld) queue.shift().lost();
    const end = () => {
      const index = queue.indexOf(request);
      if (index >= 0) queue.splice(index, 1);
      if (index === 0) grant(queue);
    };
    request.end = end;
    if (isForced) queue.unshift(request);
    else queue.push(request);
    this.#requests.push(end);
    if (queue[0] === request) grant(queue);
    return () => request.isHeld || end();
  }

  #channel(name, heard) {
    const all = channels.get(name) ?? new Set();
    channels.set(name, all.add(heard));
    const close = () => all.delete(heard);
    this.#channels.push(close);
    const post = (word) => {
      if (this.isGone) return;
      const text = structuredClone(word);
      for (const other of [...all]) {
        const deliver = () => all.has(other) && other(structuredClone(text));
        if (other === heard) continue;
        if (late) late.push(deliver);
        else queueMicrotask(deliver);
      }
    };
    return { post, close };
  }
}

function grant(queue) {
  const [first] = queue;
  if (!first) return;
  queueMicrotask(async () => {
    if (queue[0] !== first) return;
    first.isHeld = true;
    await first.held();
    first.end();
  });
}

/** So many tabs, connected. */
async function open(count, options) {
  const node = new Node();
  const opened = [];
  for (let number = 0; number < count; number += 1) {
    const tab = new Tab(node, options);
    opened.push(tab);
    tab.client.connect();
    await settle();
    await serve(node, tab.client);
    await settle();
  }
  return { node, tabs: opened };
}

/** Whoever connects is answered. */
async function accept(node) {
  await settle();
  for (const socket of FakeSocket.all) if (!socket.isClosed && socket.protocol === undefined) node.accept(socket);
  await settle();
}

const sockets = () => FakeSocket.all.filter(({ isClosed }) => !isClosed).length;

test("tabs have one connection; all are told, and all handle", async () => {
  const { node, tabs: [one, two, three] } = await open(3);
  assert.equal(FakeSocket.all.length, 1);
  assert.deepEqual([one, two, three].map(({ client }) => client.state), ["open", "open", "open"]);
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  for (const tab of [one, two, three]) assert.deepEqual([tab.seen, tab.messages(), tab.loads], [[1, 2], [1, 2], [undefined]]);
});

test("all tabs are told who is in a channel, and one that comes later too", async () => {
  const { node, tabs: [one] } = await open(1);
  const said = (tab) => tab.told.filter(([type]) => type === "roster").map(([, { members, joined }]) => [members, joined]);
  const [socket] = FakeSocket.all;
  socket.says({ p: node.position(), o: { channel: "r", online: 2, joined: ["1", "2"], left: [] } });
  await settle();
  const two = new Tab(node);
  two.client.connect();
  await settle();
  socket.says({ p: node.position(), o: { channel: "r", online: 3, joined: ["3"], left: [] } });
  await settle();
  const both = [[["1", "2"], ["1", "2"]], [["1", "2", "3"], ["3"]]];
  assert.deepEqual([said(one), said(two)], [both, both]);
});

test("with handle leader one tab handles, and all are told", async () => {
  const { node, tabs: [one, two] } = await open(2, { handle: "leader" });
  node.publish(1);
  await settle();
  assert.deepEqual([one.seen, one.messages(), two.seen, two.messages()], [[1], [1], [], [1]]);
  assert.deepEqual([one.loads, two.loads], [[undefined], []]);
});

for (const [name, go] of Object.entries({
  crashes: (tab) => tab.crash(),
  "is closed": (tab) => tab.client.close(),
  "is put away": (tab) => tab.putAway(),
})) {
  test(`a leader that ${name} is followed by one that goes on from there`, async () => {
    const { node, tabs: [one, two, three] } = await open(3);
    node.publish(1);
    await settle();
    const [socket] = FakeSocket.all;
    go(one);
    node.publish(2);
    await accept(node);
    node.publish(3);
    await settle();
    assert.equal(new URL(FakeSocket.last.url).searchParams.get("c"), "c1");
    for (const tab of [two, three]) assert.deepEqual([tab.seen, tab.messages(), tab.loads, tab.client.state], [[1, 2, 3], [1, 2, 3], [undefined], "open"]);
    assert.deepEqual([FakeSocket.all.length, sockets()], [2, 1]);
    if (name !== "crashes") assert.equal(socket.closedWith, 3001, "it comes back");
    const { detail: { isReconnect } } = { detail: two.told.findLast(([type]) => type === "open")[1] };
    assert.equal(isReconnect, true);
  });
}

test("a tab that was put away follows when it is back, and loads what it missed", async () => {
  const { node, tabs: [one, two] } = await open(2);
  one.putAway();
  await accept(node);
  node.publish(1);
  await settle();
  assert.equal(one.client.state, "waiting");
  one.back();
  await settle();
  node.publish(2);
  await settle();
  assert.deepEqual([one.seen, one.client.state, sockets()], [[1, 2], "open", 1]);
});

/** Lets the doubt of a tab that got no answer come to its end. */
async function doubt(node) {
  await settle();
  for (let second = 0; second < 4; second += 1) await pass(1_000);
  await accept(node);
}

for (const [name, ask] of Object.entries({
  "comes into view": async (two, node) => {
    two.comesIntoView();
    await doubt(node);
    return two;
  },
  "is new": async (_, node) => {
    const three = new Tab(node);
    three.client.connect();
    await doubt(node);
    return three;
  },
})) {
  test(`a leader that sleeps is deposed by a tab that ${name}, and follows when it wakes`, async () => {
    const { node, tabs: [one, two] } = await open(2);
    node.publish(1);
    await settle();
    one.sleep();
    node.publish(2);
    await settle();
    assert.deepEqual([one.seen, two.seen], [[1], [1]]);
    const asking = await ask(two, node);
    node.publish(3);
    await settle();
    for (const tab of new Set([two, asking])) assert.deepEqual([tab.seen, tab.client.state], [[1, 2, 3], "open"]);
    one.wake();
    await pass(1_000);
    node.publish(4);
    await settle();
    for (const tab of tabs) assert.deepEqual([tab.seen, tab.client.state], [[1, 2, 3, 4], "open"]);
    assert.deepEqual([two.messages(), two.loads.length], [[1, 2, 3, 4], 1], "nothing is loaded anew");
    assert.equal(sockets(), 1);
    assert.deepEqual(tabs.flatMap((tab) => tab.errors), []);
  });
}

test("a leader that is awake keeps the lead, however often others come into view", async () => {
  const { node, tabs: [, two] } = await open(2);
  for (let time = 0; time < 3; time += 1) {
    two.comesIntoView();
    await doubt(node);
  }
  assert.equal(FakeSocket.all.length, 1);
});

test("what one that was deposed says before it knows is not listened to", async () => {
  const { node, tabs: [one, two, three] } = await open(3);
  one.sleep();
  two.comesIntoView();
  await doubt(node);
  one.isLostLate = true;
  one.wake();
  await settle();
  assert.deepEqual([one.client.state, two.client.state, three.client.state], ["waiting", "open", "open"]);
  one.lose();
  await pass(1_000);
  node.publish(1);
  await settle();
  for (const tab of [one, two, three]) assert.deepEqual([tab.seen, tab.client.state], [[1], "open"]);
  assert.equal(three.states().filter((state) => state === "waiting").length, 0);
});

test("the last tab says goodbye for good", async () => {
  const { tabs: [one, two] } = await open(2);
  two.client.close();
  await settle();
  one.client.close();
  assert.equal(FakeSocket.last.closedWith, 1000);
  await pass(60_000);
  assert.equal(FakeSocket.all.length, 1);
});

test("a kick is the end of all tabs, and none takes over", async () => {
  const { node, tabs: [one, two, three] } = await open(3);
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(4001, "signed out");
  await settle();
  await pass(60_000);
  assert.deepEqual([one, two, three].map(({ client }) => client.state), ["kicked", "kicked", "kicked"]);
  for (const tab of [one, two, three]) assert.deepEqual(tab.told.filter(([type]) => type === "kicked").map(([, detail]) => detail), [{ reason: "signed out" }]);
  assert.equal(FakeSocket.all.length, 1);
  two.client.connect();
  await settle();
  await serve(node, two.client);
  assert.deepEqual([one.client.state, two.client.state], ["kicked", "open"]);
});

test("a kick that other tabs hear of late is their end as well", async () => {
  const { tabs: [one, two] } = await open(2);
  late = [];
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(4001, "signed out");
  await pass(500);
  assert.deepEqual([one.client.state, two.client.state], ["kicked", "open"]);
  for (const deliver of late) deliver();
  await pass(60_000);
  assert.deepEqual([two.client.state, FakeSocket.all.length], ["kicked", 1]);
});

test("a tab that was put away with messages undone loads its state, though it leads when it is back", async () => {
  const node = new Node();
  const one = new Tab(node);
  let isHanging = true;
  const two = new Tab(node, { onMessage: async ({ id }) => {
    if (isHanging) await new Promise((resolve) => setTimeout(resolve, 1_000));
    two.seen.push(id);
  } });
  for (const { client } of [one, two]) {
    client.connect();
    await accept(node);
  }
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  assert.deepEqual([one.seen, two.seen], [[1, 2], []]);
  two.putAway();
  isHanging = false;
  await pass(1_000);
  one.crash();
  two.back();
  await accept(node);
  assert.deepEqual([two.client.state, two.loads.length, two.seen], ["open", 2, [1, 2]]);
});

test("rooms are joined and left by the leader, for whichever tab asks; what a dead leader owes the next one does", async () => {
  const calls = [];
  let isHanging = false;
  const rejoin = (rooms) => {
    calls.push(`join ${rooms}`);
    return isHanging ? new Promise(() => {}) : undefined;
  };
  const leave = (rooms) => void calls.push(`leave ${rooms}`);
  const { node, tabs: [one, two, three] } = await open(3, { rejoin, leave });
  assert.equal(await two.client.join("a"), true);
  await settle();
  assert.deepEqual([[...one.client.rooms], [...three.client.rooms]], [["a"], ["a"]]);
  assert.equal(await three.client.leave("a"), true);
  await settle();
  assert.deepEqual([calls, one.client.rooms.size], [["join a", "leave a"], 0]);
  isHanging = true;
  const joined = three.client.join("b");
  await settle();
  isHanging = false;
  one.crash();
  await accept(node);
  assert.equal(await joined, true);
  assert.deepEqual([...two.client.rooms], ["b"]);
});

test("a follower's wish to retry, and its coming into view, reach the leader", async () => {
  const { node, tabs: [one, two] } = await open(2);
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(1012, '{"after":60000}');
  await settle();
  assert.deepEqual([one.client.state, two.client.state, pauseOf(two.client) >= 60_000], ["waiting", "waiting", true]);
  two.client.retryNow();
  await settle();
  await serve(node, one.client);
  await settle();
  assert.deepEqual([two.client.state, two.client.stats.passedOver], ["open", 0]);
});

test("a load that all tabs need runs in all, and messages wait for it", async () => {
  const { node, tabs: [one, two] } = await open(2);
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(1006);
  node.sessions.clear();
  node.publish(1);
  await serve(node, one.client);
  node.publish(2);
  await settle();
  for (const tab of [one, two]) assert.deepEqual([tab.loads, tab.seen], [[undefined, "expired"], [1, 2]]);
});

test("ready waits for the load of this tab", async () => {
  const { node } = await open(1);
  let loaded = () => {};
  const tab = new Tab(node, { onResync: () => new Promise((resolve) => { loaded = resolve; }) });
  let isReady = false;
  tab.client.ready.then(() => { isReady = true; });
  tab.client.connect();
  await settle();
  assert.deepEqual([tab.client.isOpen, tab.client.isSyncing, isReady], [true, true, false]);
  loaded();
  await settle();
  assert.equal(isReady, true);
});

test("share and handle that cannot be are refused", () => {
  const getUrl = () => null;
  assert.throws(() => new ImClient({ getUrl, share: true }), /share must be the name of the user/);
  assert.throws(() => new ImClient({ getUrl, share: "42", resume: false }), /share needs resume/);
  assert.throws(() => new ImClient({ getUrl, share: "42", handle: "some" }), /handle must be "all" or "leader"/);
  assert.equal(new ImClient({ getUrl, share: "42" }).state, "closed", "without locks a tab is on its own");
});

/** Numbers from a seed. */
function seeded(seed) {
  let state = seed + 7;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

async function run(seed) {
  const chance = seeded(seed);
  const node = new Node();
  let living = [];
  let id = 0;
  const add = () => {
    const tab = new Tab(node, {
      onMessage: async (message) => {
        if (chance(3) === 0) await new Promise((resolve) => setTimeout(resolve, chance(1_000)));
        if (!tab.isGone && message.id > tab.loaded) tab.seen.push(message.id);
      },
      onResync: async () => {
        tab.loaded = id;
        tab.seen = all(node);
      },
    });
    living.push(tab);
    tab.client.connect();
  };
  add();
  for (let step = 0; step < 80; step += 1) {
    const tab = living[chance(living.length)];
    switch (chance(12)) {
      case 0: case 1: case 2: case 3: case 4:
        node.publish((id += 1));
        break;
      case 5:
        if (living.length < 4) add();
        break;
      case 6: case 7:
        if (living.length < 2) break;
        living = living.filter((one) => one !== tab);
        if (chance(2)) tab.crash();
        else tab.client.close();
        break;
      case 8: {
        const socket = FakeSocket.all.findLast(({ isClosed, protocol }) => !isClosed && protocol);
        if (!socket) break;
        socket.isClosed = true;
        socket.ends(1006);
        break;
      }
      case 9:
        if (chance(2)) {
          tab.sleep();
          for (const other of living) if (other !== tab) other.comesIntoView();
          node.publish((id += 1));
          await pass(chance(8_000));
          if (chance(2)) await accept(node);
          tab.wake();
          break;
        }
        tab.putAway();
        node.publish((id += 1));
        await settle();
        tab.back();
        break;
      default:
        await pass(chance(3_000));
    }
    await settle();
    if (chance(3)) await accept(node);
  }
  for (let turn = 0; turn < 20; turn += 1) {
    await accept(node);
    await pass(3_000);
  }
  node.publish((id += 1));
  for (let turn = 0; turn < 20; turn += 1) await pass(500);
  for (const tab of living) assert.deepEqual([tab.client.state, tab.seen], ["open", all(node)], `seed ${seed}`);
  assert.equal(sockets(), 1);
}

for (let seed = 0; seed < 60; seed += 1) {
  test(`whatever happens to tabs, each has everything once and in order (seed ${seed})`, () => run(seed));
}
