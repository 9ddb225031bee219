// What every adapter has: the same client, through whatever it is reached.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImError } from "../im.js";
import { ADAPTERS, create, FakeSocket, pass, pauseOf, settle } from "./fake.js";
import { application, Node, serve } from "./resuming.js";

for (const adapter of Object.keys(ADAPTERS)) {
  test(`${adapter}: connects, receives, comes back and closes`, async () => {
    const { client, told } = create({ resume: false }, adapter);
    const messages = [];
    client.on("message", (message) => messages.push(message));
    client.connect();
    await settle();
    FakeSocket.last.open();
    FakeSocket.last.says({ n: 1 });
    FakeSocket.last.ends(1006);
    await pass(pauseOf(client));
    FakeSocket.last.open();
    FakeSocket.last.says({ n: 2 });
    client.close();
    assert.deepEqual(messages, [{ n: 1 }, { n: 2 }]);
    assert.deepEqual(told, ["connecting", "open", "close:1006:true", "waiting", "connecting", "open", "closed"]);
    assert.equal(FakeSocket.last.closedWith, 1000);
  });

  test(`${adapter}: a call that hangs is given up`, async () => {
    const { client, told } = create({ getUrl: () => new Promise(() => {}) }, adapter);
    client.connect();
    await pass(10_000);
    assert.deepEqual(told, ["connecting", "waiting", "error:timeout"]);
  });

  test(`${adapter}: on() listens until what it gives is called`, async () => {
    const { client } = create({}, adapter);
    const states = [];
    const listener = ({ state }) => states.push(state);
    const stop = client.on("state", listener);
    client.on("state", listener);
    client.connect();
    await settle();
    stop();
    client.close();
    assert.deepEqual(states, ["connecting", "connecting", "closed"]);
  });

  test(`${adapter}: it is ready when it is connected and the state is loaded`, async () => {
    const node = new Node();
    let loaded = () => {};
    const { client } = application(node, { onResync: () => new Promise((resolve) => { loaded = resolve; }) }, adapter);
    let isReady = false;
    client.ready.then(() => { isReady = true; });
    client.connect();
    await serve(node, client);
    await settle();
    assert.deepEqual([client.isOpen, client.isSyncing, isReady], [true, true, false]);
    loaded();
    await settle();
    assert.equal(isReady, true);
    await client.ready;
  });

  test(`${adapter}: it is ready on a node that cannot resume, and never if it ends before`, async () => {
    const { client } = create({ resume: false }, adapter);
    client.connect();
    await settle();
    const { ready } = client;
    FakeSocket.last.open();
    await ready;
    FakeSocket.last.ends(1006);
    const never = client.ready;
    client.close();
    await assert.rejects(never, (error) => error instanceof ImError && /closed/.test(error.message));
  });

  test(`${adapter}: stats say what there was`, async () => {
    const node = new Node();
    const { client } = application(node, {}, adapter);
    client.connect();
    await serve(node, client);
    FakeSocket.last.isClosed = true;
    FakeSocket.last.ends(1006);
    [1, 2].forEach((id) => node.publish(id));
    await serve(node, client);
    await settle();
    assert.deepEqual(client.stats, { reconnects: 1, resumed: 1, replayed: 2, passedOver: 0, heardAt: Date.now() });
  });
}
