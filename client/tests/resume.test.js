// Clients that resume: what breaks costs nothing. Every run is drawn from a seed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ADAPTERS, create, FakeSocket, lifecycle, network, pass, pauseOf, settle, visible } from "./fake.js";
import { all, application, Node, serve } from "./resuming.js";

test("a first connection loads the state, then gets what comes", async () => {
  const node = new Node();
  node.publish(1);
  const { client, state } = application(node);
  client.connect();
  await serve(node, client);
  node.publish(2);
  await settle();
  assert.deepEqual([state.resyncs, state.seen], [[undefined], [1, 2]]);
});

test("what was sent while the network was away comes once it is back, and the state is not loaded again", async () => {
  const node = new Node();
  const { client, state } = application(node);
  client.connect();
  await serve(node, client);
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(1006);
  [1, 2, 3].forEach((id) => node.publish(id));
  await serve(node, client);
  await settle();
  assert.deepEqual([state.resyncs, state.seen], [[undefined], [1, 2, 3]]);
});

test("who is in a channel is told apart from messages, and a new connection is told all", async () => {
  const node = new Node();
  const { client, state } = application(node);
  const rosters = [];
  client.on("roster", ({ members, joined, left, online }) => rosters.push([members?.join(" "), joined.join(" "), left.join(" "), online]));
  client.connect();
  await serve(node, client);
  const says = (roster) => FakeSocket.last.says({ p: node.position(), o: { channel: "r", ...roster } });
  says({ online: 2, joined: ["1", "2"], left: [] });
  says({ online: 2, joined: ["3"], left: ["1"] });
  says({ online: 200 });
  says({ online: 1, joined: ["2"], left: [] });
  FakeSocket.last.says({ p: node.position(), o: "garbage" });
  node.publish(1);
  await settle();
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(1006);
  await serve(node, client);
  says({ online: 2, joined: ["2", "4"], left: [] });
  says({ online: 0, joined: [], left: ["2", "4"] });
  await settle();
  assert.deepEqual(rosters, [
    ["1 2", "1 2", "", 2],
    ["2 3", "3", "1", 2],
    [undefined, "", "", 200],
    ["2", "2", "", 1],
    ["2 4", "4", "", 2],
    ["", "", "2 4", 0],
  ]);
  assert.deepEqual([state.resyncs, state.seen], [[undefined], [1]]);
});

test("a suspected link is heard until another has taken over, and nothing comes twice", async () => {
  const node = new Node();
  const { client, state } = application(node);
  client.connect();
  await serve(node, client);
  const former = FakeSocket.last;
  await pass(6_000);
  // No answer to the probe: it goes astray, what the node sends does not.
  former.send = () => {};
  network(false);
  network(true);
  await settle();
  await pass(2_900);
  assert.equal(FakeSocket.last, former, "not yet");
  await pass(200);
  assert.equal(former.isClosed, false, "it may still say something");
  node.publish(1);
  await settle();
  const next = FakeSocket.last;
  assert.notEqual(next, former);
  node.publish(2);
  node.accept(next);
  await settle();
  node.publish(3);
  await settle();
  assert.deepEqual([state.seen, former.isClosed, client.state], [[1, 2, 3], true, "open"]);
});

test("positions are acknowledged after the handler, once a second, and at once when the page is hidden", async () => {
  const node = new Node();
  let finish = () => {};
  const { client } = application(node, { onMessage: () => new Promise((resolve) => (finish = resolve)) });
  client.connect();
  await serve(node, client);
  const said = [];
  FakeSocket.last.send = (text) => said.push(text);
  await pass(2_000);
  node.publish(1);
  await settle();
  assert.deepEqual(said, []);
  finish();
  await settle();
  assert.deepEqual(said, [JSON.stringify({ a: node.position() })]);
  node.publish(2);
  await settle();
  finish();
  await settle();
  assert.equal(said.length, 1);
  visible(false);
  assert.equal(said.at(-1), JSON.stringify({ a: node.position() }));
});

test("a handler that fails is told, and the stream goes on", async () => {
  const node = new Node();
  const seen = [];
  const { client, told } = application(node, {
    retries: 1,
    onMessage: ({ id }) => {
      seen.push(id);
      if (id === 1) throw new Error("poisoned");
    },
  });
  client.connect();
  await serve(node, client);
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  assert.deepEqual(seen, [1, 1, 2]);
  assert.equal(told.filter((line) => line === "error:handler").length, 2);
});

test("messages wait for a load, and a load that fails is tried again", async () => {
  const node = new Node();
  let loads = 0;
  const { client, state, told } = application(node, {
    onResync: () => {
      loads += 1;
      if (loads === 1) throw new Error("503");
    },
  });
  client.connect();
  await serve(node, client);
  node.publish(1);
  await settle();
  assert.deepEqual([state.seen, client.isSyncing], [[], true]);
  await pass(200);
  assert.deepEqual([state.seen, loads, client.isSyncing], [[1], 2, false]);
  assert.ok(told.includes("error:resync"));
});

test("something was lost on an open connection: the state is loaded anew there", async () => {
  const node = new Node();
  const { client, state } = application(node);
  client.connect();
  await serve(node, client);
  const socket = FakeSocket.last;
  socket.says({ hello: { p: node.position(), c: socket.c, client: "42", resumed: false, why: "epoch", keep: 60, channels: true, spread: 0 } });
  await pass(100);
  assert.deepEqual([state.resyncs, client.state], [[undefined, "epoch"], "open"]);
});

test("more than can wait is loaded anew instead of kept", async () => {
  const node = new Node();
  let finish = () => {};
  const { client, state } = application(node, { onMessage: () => new Promise((resolve) => (finish = resolve)) });
  client.connect();
  await serve(node, client);
  for (let id = 0; id < 1_100; id += 1) node.publish(id);
  await pass(100);
  finish();
  await settle();
  assert.deepEqual(state.resyncs, [undefined, "too_much"]);
});

test("a page that is reloaded goes on from what it had stored", async () => {
  const node = new Node();
  let stored = "";
  const position = { load: () => stored, save: (text) => (stored = text) };
  const first = application(node, { position });
  first.client.connect();
  await serve(node, first.client);
  node.publish(1);
  await settle();
  FakeSocket.last.isClosed = true;
  const before = stored;
  node.publish(2);
  const second = application(node, { position: { load: () => before, save: () => {} } });
  second.client.connect();
  await serve(node, second.client);
  await settle();
  assert.deepEqual([second.state.resyncs, second.state.seen], [[], [2]]);
  first.client.close();
  assert.equal(stored, "", "signed out");
});

test("an old node is found out, and served as ever", async () => {
  const { client, told } = create({ firstPause: 100 });
  client.connect();
  await settle();
  assert.deepEqual(FakeSocket.last.protocols, ["imcore.1"]);
  FakeSocket.last.ends(1006);
  await pass(pauseOf(client));
  assert.deepEqual(FakeSocket.last.protocols, undefined);
  FakeSocket.last.open();
  await settle();
  const seen = [];
  client.addEventListener("message", ({ detail }) => seen.push(detail));
  FakeSocket.last.says({ hello: "world" });
  assert.deepEqual([seen, told.at(-1)], [[{ hello: "world" }], "open"]);
});

test("another tab goes on from here: this one begins anew", async () => {
  const node = new Node();
  const { client, state } = application(node);
  client.connect();
  await serve(node, client);
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(4002, "superseded");
  await serve(node, client);
  assert.equal(new URL(FakeSocket.last.url).searchParams.get("c"), null);
  assert.deepEqual(state.resyncs, [undefined, undefined]);
});

/** Numbers from a seed. */
function seeded(seed) {
  let state = seed + 1;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/**
 * An application that stores what it handles together with the position, whose pages come and go; its handler takes its time, and
 * fails now and then.
 */
class Pages {
  seen = [];
  #stored = "";
  #node;
  #chance;
  #isGone = { value: true };
  #adapter;

  constructor(node, chance, adapter) {
    this.#node = node;
    this.#chance = chance;
    this.#adapter = adapter;
    this.open();
  }

  open() {
    const isGone = { value: false };
    const store = (change, position) => {
      if (isGone.value) return;
      change();
      this.#stored = position;
    };
    const wait = () => this.#chance(3) === 0 && new Promise((resolve) => setTimeout(resolve, this.#chance(2_000)));
    const { client } = create({
      firstPause: 100,
      retries: 1_000,
      onMessage: async ({ id }, { position }) => {
        await wait();
        if (this.#chance(10) === 0) throw new Error("locked");
        store(() => this.seen.push(id), position);
      },
      onResync: async ({ position }) => {
        await wait();
        // As of then: what came meanwhile is handed on behind it.
        const until = Number(position.split(".")[1]);
        store(() => { this.seen = this.#node.log.filter(({ number }) => number <= until).map((message) => message.id); }, position);
      },
      position: { load: () => this.#stored, save: () => {} },
    }, this.#adapter);
    this.#isGone = isGone;
    this.client = client;
    client.connect();
  }

  reload() {
    this.#isGone.value = true;
    this.client.close();
    this.open();
  }
}

async function run(seed, adapter) {
  const chance = seeded(seed);
  const node = new Node();
  const pages = new Pages(node, chance, adapter);
  let id = 0;
  for (let step = 0; step < 120; step += 1) {
    const socket = FakeSocket.last;
    switch (chance(15)) {
      case 0: case 1: case 2: case 3: case 4:
        node.publish((id += 1));
        break;
      case 5:
        if (pages.client.isOpen && !socket.isClosed) {
          socket.isClosed = true;
          socket.ends(1006);
        }
        break;
      case 6:
        // Nothing gets through any more, in either direction.
        if (socket) socket.isDead = true;
        break;
      case 7:
        network(false);
        network(true);
        break;
      case 8:
        lifecycle("freeze");
        node.publish((id += 1));
        lifecycle("resume");
        break;
      case 9:
        if (chance(6) === 0) node.forget();
        break;
      case 10:
        visible(chance(2) === 0);
        break;
      case 11:
        if (chance(3) === 0) pages.reload();
        break;
      default:
        await pass(chance(5_000));
    }
    await settle();
    const last = FakeSocket.last;
    if (last && !last.isClosed && last.protocol === undefined && chance(3) > 0) node.accept(last);
    await settle();
  }
  visible(true);
  for (let turn = 0; turn < 30; turn += 1) {
    await serve(node, pages.client);
    await pass(5_000);
    const last = FakeSocket.last;
    if (last && !last.isClosed && last.protocol === undefined) node.accept(last);
    await settle();
  }
  const { seen, client } = pages;
  assert.deepEqual(seen, all(node), `seed ${seed}: ${seen.length} of ${node.log.length}`);
  assert.equal(new Set(seen).size, seen.length);
  client.close();
}

/** Those of apps share what they do with the core alone. */
const SEEDS = { "im.js": 100, "the core alone": 100, "mini program": 25, "React Native": 25 };
assert.deepEqual(Object.keys(SEEDS), Object.keys(ADAPTERS));

for (const [adapter, seeds] of Object.entries(SEEDS)) {
  for (let seed = 0; seed < seeds; seed += 1) {
    test(`whatever breaks, nothing is missing, double or out of order (${adapter}, seed ${seed})`, () => run(seed, adapter));
  }
}
