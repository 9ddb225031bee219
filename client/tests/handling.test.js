// What the application is told, and what the node is told of that: handled first, then stored, then acknowledged.

import assert from "node:assert/strict";
import { test } from "node:test";
import { sessionPosition } from "../im.js";
import { create, FakeSocket, lifecycle, network, pass, pauseOf, removePage, settle } from "./fake.js";
import { application, Node, serve } from "./resuming.js";

/** What the address of the newest connection says. */
const since = () => new URL(FakeSocket.last.url).searchParams.get("since");

function cut() {
  FakeSocket.last.isClosed = true;
  FakeSocket.last.ends(1006);
}

/** What the node is told from now on. */
function listen() {
  const said = [];
  const { send } = FakeSocket.last;
  FakeSocket.last.send = (text) => {
    said.push(JSON.parse(text));
    send?.(text);
  };
  return said;
}

/** An application whose handler returns when the test says. */
async function slow(options = {}) {
  const node = new Node();
  const under = [];
  const order = [];
  const onMessage = ({ id }) => {
    order.push(`begin ${id}`);
    return new Promise((resolve, reject) => under.push({
      finish: async () => { order.push(`end ${id}`); resolve(); await settle(); },
      fail: async () => { order.push(`fail ${id}`); reject(new Error("poisoned")); await settle(); },
    }));
  };
  const onResync = ({ why }) => void order.push(`load ${why}`);
  const made = application(node, { onMessage, onResync, ...options });
  made.client.connect();
  await serve(node, made.client);
  return { node, under, order, ...made };
}

test("a new connection goes on from what is handled, not from what has come", async () => {
  const { node, under, order, client } = await slow();
  [1, 2, 3].forEach((id) => node.publish(id));
  await settle();
  const [first] = node.log;
  await under.shift().finish();
  cut();
  await serve(node, client);
  assert.equal(since(), node.position(first.number));
  for (let left = 2; left; left -= 1) await under.shift().finish();
  assert.deepEqual(order, ["load undefined", "begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]);
  assert.equal(under.length, 0, "each once");
});

test("what a page that dies had not handled is given to the next one", async () => {
  let stored = "";
  const position = { load: () => stored, save: (text) => { stored = text; } };
  const { node, under } = await slow({ position });
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  await under.shift().finish();
  const kept = stored;
  FakeSocket.last.isClosed = true;
  const next = application(node, { position: { load: () => kept, save: () => {} } });
  next.client.connect();
  await serve(node, next.client);
  await settle();
  assert.deepEqual([next.state.resyncs, next.state.seen], [[], [2]]);
});

test("a handler that fails is called again, then the message is passed over and counted, and only then acknowledged", async () => {
  const { node, under, client, told } = await slow({ retries: 1 });
  await pass(2_000);
  const said = listen();
  node.publish(1);
  await settle();
  await under.shift().fail();
  assert.deepEqual([client.stats.passedOver, said], [0, []]);
  await under.shift().fail();
  assert.deepEqual([client.stats.passedOver, said], [1, [{ a: node.position() }]]);
  assert.equal(told.filter((line) => line === "error:handler").length, 2);
});

test("a load waits for the handler that runs, and messages for the load", async () => {
  const { node, under, order } = await slow();
  node.publish(1);
  await settle();
  const { c } = FakeSocket.last;
  FakeSocket.last.says({ hello: { p: node.position(), c, client: "42", resumed: false, why: "epoch", keep: 60, channels: true, spread: 0 } });
  node.publish(2);
  await settle();
  assert.deepEqual(order, ["load undefined", "begin 1"]);
  await under.shift().finish();
  assert.deepEqual(order, ["load undefined", "begin 1", "end 1", "load epoch", "begin 2"]);
});

test("a load that another one takes the place of is aborted, and its end awaited", async () => {
  const node = new Node();
  const loads = [];
  const onResync = ({ why, signal }) => new Promise((resolve) => loads.push({ why, signal, resolve }));
  const { client } = application(node, { onResync });
  client.connect();
  await serve(node, client);
  const { c } = FakeSocket.last;
  FakeSocket.last.says({ hello: { p: node.position(), c, client: "42", resumed: false, why: "epoch", keep: 60, channels: true, spread: 0 } });
  await settle();
  assert.deepEqual([loads.length, loads[0].signal.aborted], [1, true]);
  loads[0].resolve();
  await settle();
  assert.deepEqual(loads.map(({ why }) => why), [undefined, "epoch"]);
});

test("a page that dies while it loads must load again", async () => {
  let stored = "";
  const node = new Node();
  const position = { load: () => stored, save: (text) => { stored = text; } };
  const { client } = application(node, { position, onResync: () => new Promise(() => {}) });
  client.connect();
  await serve(node, client);
  node.publish(1);
  await settle();
  assert.equal(stored, "");
});

test("one message that is too large to wait does not cost a load", async () => {
  const { node, under, order } = await slow();
  node.log.push({ number: (node.number += 1), id: "x".repeat(2 << 20) });
  node.deliver(FakeSocket.last, node.log.at(-1));
  await settle();
  await under.shift().finish();
  assert.deepEqual(order.filter((line) => line.startsWith("load")), ["load undefined"]);
});

test("a handler that does not return is told, and waited for", async () => {
  const { node, under, order, errors } = await slow();
  [1, 2].forEach((id) => node.publish(id));
  await pass(29_000);
  assert.equal(errors.length, 0);
  for (let round = 0; round < 3; round += 1) {
    FakeSocket.last.says({ p: node.position() });
    await pass(1_000);
  }
  assert.deepEqual(errors.map(({ kind, message }) => [kind, message.includes("30 s")]), [["handler", true]]);
  assert.equal(order.at(-1), "begin 1");
  await under.shift().finish();
  assert.equal(order.at(-1), "begin 2");
});

test("without onResync, resync says that something may be missing, and messages go on", async () => {
  const node = new Node();
  const { client, state } = application(node, { onResync: undefined });
  const whys = [];
  client.on("resync", ({ why }) => whys.push(why));
  client.connect();
  await serve(node, client);
  cut();
  node.sessions.clear();
  node.publish(1);
  await serve(node, client);
  node.publish(2);
  await settle();
  assert.deepEqual([whys, state.seen], [[undefined, "expired"], [2]]);
});

// --- Where the position is kept -----------------------------------------------------------------------

test("the node is told when the position is stored, however long that takes", async () => {
  const saves = [];
  const position = { load: () => "", save: (text) => new Promise((resolve) => saves.push({ text, resolve })) };
  const { node, under } = await slow({ position });
  await settle();
  saves.shift().resolve();
  await pass(2_000);
  const said = listen();
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  await under.shift().finish();
  await under.shift().finish();
  await pass(2_000);
  assert.deepEqual([saves.length, said], [1, []], "one at a time");
  saves.shift().resolve();
  await settle();
  assert.deepEqual(said, [{ a: node.position(node.log[0].number) }]);
  saves.shift().resolve();
  await pass(2_000);
  assert.deepEqual(said.at(-1), { a: node.position() });
});

for (const [name, save] of Object.entries({
  throws: () => { throw new Error("quota"); },
  rejects: () => Promise.reject(new Error("quota")),
  hangs: () => new Promise(() => {}),
})) {
  test(`a save that ${name} is told, costs no message, and does not keep close from closing`, async () => {
    const { node, under, client, told } = await slow({ position: { load: () => "", save } });
    await pass(11_000);
    const said = listen();
    node.publish(1);
    await settle();
    await under.shift().finish();
    for (let second = 0; second < 12; second += 1) await pass(1_000);
    assert.deepEqual(said.at(-1), { a: node.position() });
    assert.ok(told.includes("error:handler"));
    const socket = FakeSocket.last;
    client.close();
    await settle();
    assert.deepEqual([client.state, socket.closedWith], ["closed", 1000]);
    assert.equal(told.indexOf("closed"), told.length - 1, "nothing is told after the end");
  });
}

for (const [name, load] of Object.entries({
  throws: () => { throw new Error("blocked"); },
  rejects: () => Promise.reject(new Error("blocked")),
  hangs: () => new Promise(() => {}),
  "gives nonsense": () => 7,
})) {
  test(`a load of the position that ${name} begins anew`, async () => {
    const node = new Node();
    const { client, state, told } = application(node, { position: { load, save: () => {} } });
    client.connect();
    await settle();
    await pass(3_000);
    await serve(node, client);
    await settle();
    assert.deepEqual([client.state, state.resyncs], ["open", [undefined]]);
    assert.equal(told.includes("error:handler"), name !== "gives nonsense");
  });
}

test("two clients with one stored position do not fight", async () => {
  const node = new Node();
  let stored = "";
  const position = { load: () => stored, save: (text) => { stored = text; } };
  const first = application(node, { position });
  first.client.connect();
  await serve(node, first.client);
  const foreign = stored;
  // A copy, as a duplicated tab has; and saves that go astray.
  const second = application(node, { position: { load: () => foreign, save: () => {} } });
  second.client.connect();
  await serve(node, second.client);
  await settle();
  assert.ok(first.told.includes("close:4002:true"));
  for (let round = 0; round < 5; round += 1) {
    await serve(node, first.client);
    await serve(node, second.client);
    await pass(5_000);
  }
  assert.equal(node.superseded, 1, "one of them has begun anew, and stays that");
  assert.deepEqual([first.client.state, second.client.state], ["open", "open"]);
});

test("an error of the handler is not told after the end", async () => {
  const { node, under, client, told } = await slow();
  node.publish(1);
  await settle();
  client.close();
  await under.shift().fail();
  assert.equal(told.at(-1), "closed");
});

// --- Connections --------------------------------------------------------------------------------------

/** A connection that has lasted, whose node answers no probe any more, and the one that is to take its place. */
async function replaced() {
  const made = await slow();
  await pass(6_000);
  const former = FakeSocket.last;
  former.send = () => {};
  network(false);
  network(true);
  await settle();
  await pass(3_000);
  assert.notEqual(FakeSocket.last, former);
  return { ...made, former };
}

test("a kick on the connection before is the end, also while another one is made", async () => {
  const { client, former, told } = await replaced();
  former.ends(4001, "signed out");
  await settle();
  assert.equal(client.state, "kicked");
  assert.ok(told.includes("event:kicked"));
  assert.equal(FakeSocket.last.isClosed, true);
  await pass(60_000);
  assert.equal(client.state, "kicked");
});

test("any other end of the connection before is no end of the next", async () => {
  const { node, client, former } = await replaced();
  former.ends(4002, "superseded");
  await serve(node, client);
  assert.equal(client.state, "open");
});

test("rooms are joined again whenever a hello says that they are not kept", async () => {
  const node = new Node();
  const joins = [];
  const { client } = application(node, { rooms: ["a"], rejoin: (rooms) => void joins.push(rooms) });
  client.connect();
  await serve(node, client);
  const { c } = FakeSocket.last;
  const hello = { p: node.position(), c, client: "42", resumed: false, why: "epoch", keep: 60, spread: 0 };
  FakeSocket.last.says({ hello: { ...hello, channels: true } });
  await settle();
  assert.equal(joins.length, 1);
  FakeSocket.last.says({ hello: { ...hello, channels: false } });
  await settle();
  assert.equal(joins.length, 2);
});

test("rooms that could not be joined before the connection broke are joined on the next, though the rest is kept", async () => {
  const node = new Node();
  let joins = 0;
  const { client } = application(node, { rooms: ["a"], rejoin: () => {
    joins += 1;
    if (joins === 1) throw new Error("503");
  } });
  client.connect();
  await serve(node, client);
  await settle();
  assert.equal(joins, 1);
  cut();
  await serve(node, client);
  await settle();
  assert.equal(joins, 2);
});

test("probes are a second apart", async () => {
  const { node } = await slow();
  await pass(6_000);
  const said = listen();
  const probes = () => said.filter(({ q }) => q).length;
  const doubt = () => { network(false); network(true); };
  doubt();
  await settle();
  doubt();
  await settle();
  assert.equal(probes(), 1, "the answer to the first is here");
  await pass(500);
  doubt();
  await settle();
  assert.equal(probes(), 1);
  await pass(500);
  assert.equal(probes(), 2);
  assert.equal(FakeSocket.all.length, 1);
  assert.ok(node);
});

test("a connection that is not greeted is given up", async () => {
  const node = new Node();
  const { client, told } = application(node);
  client.connect();
  await settle();
  FakeSocket.last.protocol = "imcore.1";
  FakeSocket.last.open();
  await pass(10_000);
  assert.ok(told.includes("error:timeout"));
  assert.equal(FakeSocket.all[0].closedWith, 3001);
});

test("a link that is busy with a large message is given more and more time", async () => {
  const node = new Node();
  const { client } = application(node);
  client.connect();
  await serve(node, client);
  const lives = [];
  for (let round = 0; round < 4; round += 1) {
    const socket = FakeSocket.last;
    socket.send = () => {};
    let ms = 0;
    for (; FakeSocket.last === socket && client.state === "open"; ms += 1_000) await pass(1_000);
    lives.push(ms);
    await serve(node, client);
  }
  for (const [index, ms] of lives.slice(1).entries()) assert.ok(ms > lives[index] * 1.5, lives.join());
});

test("a client whose node waits for a short time comes back within it", async () => {
  const node = new Node();
  const { client } = application(node, { firstPause: undefined });
  client.connect();
  await serve(node, client);
  const { c } = FakeSocket.last;
  FakeSocket.last.says({ hello: { p: node.position(), c, client: "42", resumed: true, missed: 0, keep: 5, channels: true, spread: 0 } });
  await pass(6_000);
  cut();
  const pauses = [];
  for (let attempt = 0; attempt < 3; attempt += 1) {
    pauses.push(pauseOf(client));
    await pass(pauseOf(client));
    cut();
  }
  assert.ok(pauses[0] <= 1_250 && pauses.reduce((sum, ms) => sum + ms) < 4_000, pauses.join());
  await pass(5_000);
  assert.ok(client.state);
});

// --- Old nodes ----------------------------------------------------------------------------------------

/** An old node: a browser gives up when it is asked for a protocol that it does not answer. */
async function old(client, attempts = 12) {
  for (let turn = 0; turn < attempts && !client.isOpen; turn += 1) {
    if (client.retryAt) await pass(pauseOf(client));
    await settle();
    const socket = FakeSocket.last;
    if (socket.isClosed) continue;
    if (socket.protocols) {
      socket.isClosed = true;
      socket.ends(1006);
    } else socket.open();
    await settle();
  }
}

test("a node that is set back to an old version is found out, and one that is new again too", async () => {
  const { node, client } = await slow({ firstPause: 10_000, longestPause: 30_000 });
  cut();
  await old(client, 40);
  assert.equal(client.isOpen, true);
  assert.equal(FakeSocket.last.protocols, undefined);
  cut();
  await serve(node, client);
  assert.equal(FakeSocket.last.protocol, "imcore.1");
  assert.equal(client.isOpen, true);
});

test("a node that is down is not taken for an old one while it may wait for the client", async () => {
  const { node, client } = await slow({ firstPause: 2_000, longestPause: 4_000 });
  cut();
  for (let attempt = 0; attempt < 10; attempt += 1) {
    await pass(pauseOf(client));
    await settle();
    assert.deepEqual(FakeSocket.last.protocols, ["imcore.1"]);
    cut();
  }
  await serve(node, client);
  assert.equal(client.stats.resumed, 1);
});

test("a node that was down for long is asked again before it is taken for an old one", async () => {
  const { node, client } = await slow({ firstPause: 10_000, longestPause: 30_000 });
  cut();
  for (let attempt = 0; attempt < 20; attempt += 1) {
    await pass(pauseOf(client));
    await settle();
    if (!FakeSocket.last.protocols) break;
    cut();
  }
  const guess = FakeSocket.last;
  assert.equal(guess.protocols, undefined);
  guess.open();
  await settle();
  assert.equal(guess.isClosed, true);
  await serve(node, client);
  assert.equal(FakeSocket.last.protocol, "imcore.1");
});

// --- The application's mistakes -----------------------------------------------------------------------

test("options that do not exist are refused, with what may be meant", () => {
  assert.throws(() => create({ onmessage: () => {} }), /no option onmessage.*onMessage/);
  assert.throws(() => create({ getURL: () => {} }), /no option getURL.*getUrl/);
  assert.throws(() => create({ foo: 1 }), /no option foo.*address.*onResync/);
});

test("a relative address of the web API is refused where there is no page", () => {
  assert.doesNotThrow(() => create({ getUrl: undefined, address: "/api/push-address" }));
  removePage();
  assert.throws(() => create({ getUrl: undefined, address: "/api/push-address" }), /must begin with https.*push-address/);
  assert.doesNotThrow(() => create({ getUrl: undefined, address: "https://host/api/push-address" }));
});

test("sessionPosition is refused where there is no sessionStorage", () => {
  assert.throws(() => sessionPosition("42"), /sessionPosition: there is no sessionStorage/);
  globalThis.sessionStorage = {};
  try {
    assert.doesNotThrow(() => sessionPosition("42"));
    assert.throws(() => sessionPosition(), /name of the user/);
  } finally {
    delete globalThis.sessionStorage;
  }
});

test("put away while messages wait, the page gets them when it is back", async () => {
  const { node, under, order, client } = await slow();
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  lifecycle("freeze");
  await under.shift().finish();
  lifecycle("resume");
  await settle();
  await serve(node, client);
  for (let one = under.shift(); one; one = under.shift()) await one.finish();
  assert.deepEqual(order.filter((line) => line.startsWith("end")), ["end 1", "end 2"]);
});
