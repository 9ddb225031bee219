// The client in mini programs: what `wx` and `uni` do otherwise than a page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { storagePosition } from "../miniprogram.js";
import { create, FakeSocket, pass, pauseOf, settle } from "./fake.js";
import { Program } from "./platforms.js";
import * as resuming from "./resuming.js";
import { application, serve } from "./resuming.js";

const ADAPTER = "mini program";

const live = (options) => resuming.live(options, ADAPTER);

test("the sub-protocol stands in the headers, by whatever capitals; where none are shown, it is the one that was asked for", async () => {
  for (const [headers, protocol, opens] of [
    [{ Upgrade: "websocket" }, "imcore.1", false],
    [undefined, undefined, false],
    [{ Upgrade: "websocket" }, undefined, true],
  ]) {
    Program.last.headers = headers;
    const { client } = create({}, ADAPTER);
    let isReady = false;
    client.ready.then(() => { isReady = true; }, () => {});
    client.connect();
    await settle();
    assert.deepEqual(FakeSocket.last.protocols, ["imcore.1"]);
    FakeSocket.last.protocol = protocol;
    FakeSocket.last.open();
    await settle();
    // A node that can resume has to greet first.
    assert.equal(isReady, opens);
    client.close();
  }
});

test("in the background it acknowledges and says that it comes back; in front again it goes on from there", async () => {
  const { node, client, state } = await live();
  const socket = FakeSocket.last;
  [1, 2].forEach((id) => node.publish(id));
  await settle();
  Program.last.tell("AppHide");
  await settle();
  assert.deepEqual([socket.closedWith, client.state, client.retryAt], [3001, "waiting", 0]);
  assert.equal(node.sessions.get(socket.c).floor, node.number);
  await pass(60_000);
  assert.equal(FakeSocket.last, socket, "nothing is asked for behind the scenes");
  node.publish(3);
  Program.last.tell("AppShow", { path: "index" });
  await serve(node, client);
  await settle();
  assert.deepEqual([state.resyncs, state.seen], [[undefined], [1, 2, 3]]);
});

test("being shown at the start is no doubt", async () => {
  const { client } = await live();
  const told = [];
  FakeSocket.last.send = (text) => told.push(text);
  Program.last.tell("AppShow", {});
  await settle();
  assert.deepEqual([told, client.isOpen], [[], true]);
});

test("sockets that cannot be closed before they are open are closed then: five are enough for any number of attempts", async () => {
  const { client } = create({ firstPause: 100, longestPause: 100 }, ADAPTER);
  client.connect();
  for (let turn = 0; turn < 20; turn += 1) {
    await settle();
    const socket = FakeSocket.last;
    Program.last.tell("AppHide");
    assert.equal(socket.isClosed, false, "the platform does not");
    socket.open();
    assert.equal(socket.closedWith, 3001);
    Program.last.tell("AppShow");
  }
  await settle();
  assert.equal(Program.last.tasks.size, 1);
});

test("an attempt that fails ends once, whatever is told of it", async () => {
  const { client, told } = create({ resume: false }, ADAPTER);
  client.connect();
  for (const fails of [
    (socket, [task]) => task.fail({ errMsg: "connectSocket:fail url not in domain list" }) ?? socket,
    (socket) => socket.onerror(),
    (socket) => {
      socket.onerror();
      socket.onclose({});
    },
  ]) {
    await settle();
    told.length = 0;
    fails(FakeSocket.last, [...Program.last.tasks].slice(-1));
    await pass(50);
    assert.deepEqual(told, ["close:1006:true", "waiting"]);
    await pass(pauseOf(client));
  }
});

test("where the platform gives no more sockets, that is told, and tried again", async () => {
  const { client, told } = create({}, ADAPTER);
  const others = Array.from({ length: 5 }, () => Program.last.connectSocket({ url: "wss://other/" }));
  client.connect();
  await settle();
  assert.deepEqual(told, ["connecting", "waiting", "error:url"]);
  Program.last.tasks.delete(others[0]);
  await pass(pauseOf(client));
  FakeSocket.last.protocol = "imcore.1";
  FakeSocket.last.open();
  assert.equal(client.state, "open");
});

test("the address comes by request: a refusal, its Retry-After, its end, and one that is given up", async () => {
  const { client, told } = create({ getUrl: undefined, address: "https://api.example.com/address" }, ADAPTER);
  const next = async () => {
    await settle();
    return Program.last.requests.at(-1);
  };
  client.connect();
  let { options } = await next();
  assert.deepEqual([options.method, options.url], ["POST", "https://api.example.com/address"]);
  options.success({ statusCode: 503, header: { "retry-after": "30" }, data: "" });
  await settle();
  assert.ok(pauseOf(client) >= 30_000);
  await pass(pauseOf(client));
  ({ options } = await next());
  options.fail({ errMsg: "request:fail interrupted" });
  await settle();
  await pass(pauseOf(client));
  const hung = await next();
  await pass(10_000);
  assert.equal(hung.isAborted, true);
  await pass(pauseOf(client));
  ({ options } = await next());
  options.success({ statusCode: 200, header: {}, data: { url: "wss://im.example.com/ws?token=1" } });
  await settle();
  assert.equal(FakeSocket.last.url, "wss://im.example.com/ws?token=1");
  FakeSocket.last.ends(1006);
  await pass(pauseOf(client));
  ({ options } = await next());
  options.success({ statusCode: 401, data: "" });
  await settle();
  assert.equal(client.state, "failed");
  assert.deepEqual(told.filter((what) => what.startsWith("error")), ["error:url", "error:url", "error:timeout", "error:url"]);
});

test("a network that is gone, is back, or is another one", async () => {
  const { client } = await live();
  const said = [];
  FakeSocket.last.send = (text) => said.push(text);
  Program.last.network("none");
  assert.equal(client.state, "offline");
  Program.last.network("wifi");
  await settle();
  assert.deepEqual(said, ['{"q":1}']);
  FakeSocket.last.says({ p: "k3.100" });
  assert.equal(client.state, "open");
  await pass(1_000);
  Program.last.network("4g");
  await pass(1_000);
  assert.deepEqual(said, ['{"q":1}', '{"q":1}']);
});

test("a program that was ended goes on from what it stored, and a user who leaves stores nothing", async () => {
  const position = () => storagePosition(Program.last, "42");
  const { node, state } = await live({ position: position() });
  node.publish(1);
  await settle();
  assert.equal(Program.last.storage.size, 1);
  FakeSocket.last.isClosed = true;
  const { storage } = Program.last;
  Program.last = new Program(FakeSocket);
  Program.last.storage = storage;
  node.publish(2);
  const next = application(node, { position: position() }, ADAPTER);
  next.client.connect();
  await serve(node, next.client);
  await settle();
  assert.deepEqual([next.state.resyncs, next.state.seen], [[], [2]]);
  next.client.close();
  assert.deepEqual([storage.size, state.seen], [0, [1]]);
  assert.throws(() => storagePosition(Program.last, ""), TypeError);
});

test("who has ended listens to nothing", async () => {
  const { client } = await live();
  const count = () => [...Program.last.listeners.values()].reduce((sum, { size }) => sum + size, 0);
  assert.equal(count(), 3);
  client.close();
  assert.equal(count(), 0);
});
