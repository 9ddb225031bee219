// The client in React Native: an app that goes to the background, its network, its storage, and its sockets.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImClient, storagePosition } from "../react-native.js";
import { create, FakeSocket, pass, settle } from "./fake.js";
import { ReactNative } from "./platforms.js";
import * as resuming from "./resuming.js";
import { application, serve } from "./resuming.js";

const ADAPTER = "React Native";

const live = (options) => resuming.live(options, ADAPTER);

test("in the background it acknowledges and says that it comes back; in front again it goes on from there", async () => {
  const { node, client, state } = await live();
  const socket = FakeSocket.last;
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  // On iOS there is a state on the way, in both directions.
  ReactNative.last.turn("inactive");
  await settle();
  assert.deepEqual([socket.isClosed, node.sessions.get(socket.c).floor], [false, node.number]);
  ReactNative.last.turn("background");
  assert.deepEqual([socket.closedWith, client.state], [3001, "waiting"]);
  await pass(60_000);
  ReactNative.last.turn("inactive");
  assert.equal(FakeSocket.last, socket, "nothing is asked for behind the scenes");
  node.publish(3);
  ReactNative.last.turn("active");
  await serve(node, client);
  await settle();
  assert.deepEqual([state.resyncs, state.seen], [[undefined], [1, 2, 3]]);
});

test("a call that comes and goes costs no connection, and one that was silent for long is asked", async () => {
  const { client } = await live();
  const said = [];
  FakeSocket.last.send = (text) => said.push(text);
  ReactNative.last.turn("inactive");
  ReactNative.last.turn("active");
  await settle();
  assert.deepEqual([said, client.isOpen], [[], true]);
  await pass(35_000);
  ReactNative.last.turn("inactive");
  ReactNative.last.turn("active");
  await settle();
  assert.deepEqual(said, ['{"q":1}']);
});

test("a socket that was closed before it was open, and opens all the same, is closed then", async () => {
  const { client } = create({}, ADAPTER);
  client.connect();
  await settle();
  ReactNative.last.turn("background");
  const socket = FakeSocket.last;
  // Android's module knows no socket before it is open.
  [socket.isClosed, socket.closedWith] = [false, undefined];
  socket.open();
  assert.deepEqual([socket.closedWith, client.state], [3001, "waiting"]);
});

test("a network that is gone, is back, or is another one; one that is not known yet is none of these", async () => {
  const { client } = await live();
  const said = [];
  FakeSocket.last.send = (text) => said.push(text);
  ReactNative.last.network("wifi");
  await settle();
  assert.deepEqual([said, client.state], [[], "open"]);
  ReactNative.last.network("cellular");
  await settle();
  // Until the node has answered.
  assert.deepEqual([said, client.state], [['{"q":1}'], "offline"]);
  FakeSocket.last.says({ p: "k3.100" });
  assert.equal(client.state, "open");
  ReactNative.last.network("none");
  assert.equal(client.state, "offline");
  await pass(1_000);
  ReactNative.last.network("cellular");
  await pass(1_000);
  assert.equal(said.length, 2);
});

test("an app that was ended goes on from what it stored, and a user who leaves stores nothing", async () => {
  const storage = new Map();
  const asynchronous = {
    getItem: async (key) => storage.get(key) ?? null,
    setItem: async (key, value) => void storage.set(key, value),
    removeItem: async (key) => void storage.delete(key),
  };
  const position = () => storagePosition(asynchronous, "42");
  const { node } = await live({ position: position() });
  node.publish(1);
  await settle();
  assert.equal(storage.size, 1);
  FakeSocket.last.isClosed = true;
  node.publish(2);
  const next = application(node, { position: position() }, ADAPTER);
  next.client.connect();
  await serve(node, next.client);
  await settle();
  assert.deepEqual([next.state.resyncs, next.state.seen], [[], [2]]);
  next.client.close();
  await settle();
  assert.equal(storage.size, 0);
  assert.throws(() => storagePosition(asynchronous, ""), TypeError);
});

test("it runs without a word of the app or the network, and who has ended listens to nothing", async () => {
  const { client } = await live();
  const { states, networks } = ReactNative.last;
  assert.deepEqual([states.size, networks.size], [1, 1]);
  client.close();
  assert.deepEqual([states.size, networks.size], [0, 0]);
  const alone = new ImClient({}, { WebSocket: FakeSocket, getUrl: async () => "wss://im.example.com/ws?token=9" });
  alone.connect();
  await settle();
  FakeSocket.last.protocol = "imcore.1";
  FakeSocket.last.open();
  assert.equal(alone.isOpen, true);
  alone.close();
});
