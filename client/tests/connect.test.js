// Attempts, connections and their ends.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImClient } from "../im.js";
import { create, draw, FakeSocket, network, opened, pass, pauseOf, removePage, reopen, settle, violation, visible } from "./fake.js";

test("connects with an address from the callback and hands messages on", async () => {
  const { client, told } = create();
  const messages = [];
  client.addEventListener("message", ({ detail }) => messages.push(detail));
  client.connect();
  await settle();
  assert.equal(FakeSocket.last.url, "wss://im.example.com/ws?token=1");
  assert.equal(client.isOpen, false);
  FakeSocket.last.open();
  assert.equal(client.isOpen, true);
  FakeSocket.last.says({ text: "元" });
  FakeSocket.last.says("no JSON");
  FakeSocket.last.says('"hello"');
  assert.deepEqual(messages, [{ text: "元" }, "no JSON", "hello"]);
  assert.deepEqual(told, ["connecting", "open"]);
  client.close();
  assert.equal(FakeSocket.last.closedWith, 1000);
  assert.equal(client.state, "closed");
});

// --- Messages ---------------------------------------------------------------------------------------

test("receipts are events of their own, with the message decoded", async () => {
  const { client } = await opened();
  let receipt;
  client.addEventListener("receipt", ({ detail }) => { receipt = detail; });
  client.addEventListener("message", () => assert.fail("not a message"));
  FakeSocket.last.says({ content: '{"id":7}', receipt: "发送成功", to: 42, status: "sent" });
  assert.deepEqual(receipt, { content: { id: 7 }, receipt: "发送成功", to: 42, status: "sent" });
});

test("receipts say what the nodes of today say", async () => {
  const { client } = await opened();
  const receipts = [];
  client.addEventListener("receipt", ({ detail }) => receipts.push(detail.status));
  for (const status of ["sent", "acknowledged", "offline", "expired"]) {
    FakeSocket.last.says({ content: "5", receipt: "发送成功", to: 42, status });
  }
  assert.deepEqual(receipts, ["sent", "acknowledged", "offline", "expired"]);
});

test("a receipt may have an id in place of a large content", async () => {
  const { client } = await opened();
  const receipts = [];
  client.addEventListener("receipt", ({ detail }) => receipts.push(detail));
  const known = { receipt: "发送成功", to: "9007199254740993", status: "sent", id: "m1" };
  FakeSocket.last.says(known);
  FakeSocket.last.says({ content: "5", ...known });
  assert.deepEqual(receipts, [{ ...known, content: undefined }, { ...known, content: 5 }]);
});

test("a message that only looks like a receipt is a message", async () => {
  const { client } = await opened();
  const messages = [];
  client.addEventListener("message", ({ detail }) => messages.push(detail));
  client.addEventListener("receipt", () => assert.fail("forged"));
  const forged = [
    { receipt: "sent", content: "x" },
    { receipt: "sent", content: "x", to: 42 },
    { receipt: "sent", content: "x", status: "sent" },
    { receipt: "sent", content: "x", to: {}, status: "sent" },
    { receipt: 1, content: "x", to: 1, status: "sent" },
    { receipt: "sent", to: 1, status: "sent" },
    { receipt: "sent", content: "x", to: 1, status: "read" },
  ];
  for (const message of forged) FakeSocket.last.says(message);
  assert.deepEqual(messages, forged);
});

test("ids beyond 2^53 stay exact with a decode of one's own", async () => {
  const exact = (text) => JSON.parse(text.replace(/("(?:to|from)":)(\d{16,})/g, '$1"$2"'));
  const { client } = await opened({ decode: exact });
  let receipt;
  client.addEventListener("receipt", ({ detail }) => { receipt = detail; });
  FakeSocket.last.says('{"content":"1","receipt":"用户不在线","to":9007199254740993,"status":"offline"}');
  assert.equal(receipt.to, "9007199254740993");
});

test("a message that cannot be decoded is told and costs nothing else", async () => {
  const { client, told } = await opened({ decode: JSON.parse });
  FakeSocket.last.says("{");
  FakeSocket.last.onmessage({ data: new ArrayBuffer(1) });
  FakeSocket.last.onmessage({ data: Buffer.from("{}") });
  assert.deepEqual(told, ["error:decode", "error:decode", "error:decode"]);
  assert.equal(client.isOpen, true);
});

test("a decode that closes the client and throws is not told after the end", async () => {
  const { client, told } = await opened({ decode: () => { client.close(); throw new Error("enough"); } });
  FakeSocket.last.says("x");
  assert.deepEqual(told, ["closed"]);
});

// --- Close codes ------------------------------------------------------------------------------------

for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000, 4002]) {
  test(`${code}: comes back with a fresh token`, async () => {
    const { client, told } = await opened();
    FakeSocket.last.ends(code);
    assert.deepEqual(told, [`close:${code}:true`, "waiting"]);
    await reopen(client);
    assert.equal(FakeSocket.last.url, "wss://im.example.com/ws?token=2");
    assert.equal(client.isOpen, true);
  });
}

test("4001: kicked, and does not come back by itself", async () => {
  const { client, told } = await opened();
  FakeSocket.last.ends(4001, "forced offline");
  assert.deepEqual(told, ["close:4001:false", "kicked", "event:kicked"]);
  network(false);
  network(true);
  visible(true);
  client.retryNow();
  await pass(600_000);
  assert.equal(FakeSocket.all.length, 1);
  client.connect();
  await settle();
  assert.equal(FakeSocket.all.length, 2);
});

for (const code of [1002, 1007, 1008, 1009, 4003]) {
  test(`${code}: stops and says why`, async () => {
    const { client, told } = await opened();
    FakeSocket.last.ends(code);
    assert.deepEqual(told, [`close:${code}:false`, "failed", "error:protocol"]);
    await pass(600_000);
    assert.equal(FakeSocket.all.length, 1);
    assert.equal(client.state, "failed");
  });
}

// --- One end per attempt, whatever the engine tells ----------------------------------------------------

/** What engines tell of a refused attempt. */
const REFUSALS = {
  "close alone": (socket) => socket.ends(1006),
  "error, then close": (socket) => { socket.onerror({}); socket.ends(1006); },
  "error alone": (socket) => socket.onerror({}),
  "error twice": (socket) => { socket.onerror({}); socket.onerror({}); },
  "close, then error": (socket) => { socket.ends(1006); socket.onerror({}); },
  "close twice": (socket) => { socket.ends(1006); socket.ends(1006); },
  "close much later": (socket) => { socket.onerror({}); setTimeout(() => socket.ends(1006), 1_000); },
  "open much later": (socket) => { socket.onerror({}); setTimeout(() => { socket.open(); socket.says({}); }, 1_000); },
};
for (const [name, refuse] of Object.entries(REFUSALS)) {
  test(`a refusal as ${name} is one end`, async () => {
    const { client, told } = create();
    client.addEventListener("message", () => assert.fail("after the end"));
    client.connect();
    await settle();
    refuse(FakeSocket.last);
    await pass(100);
    await pass(1_000);
    assert.deepEqual(told, ["connecting", "close:1006:true", "waiting"]);
    await pass(pauseOf(client));
    assert.equal(FakeSocket.all.length, 2);
  });
}

test("an open connection whose error no close follows has ended too", async () => {
  const { client, told } = await opened();
  FakeSocket.last.onerror({});
  await pass(500);
  assert.deepEqual(told, [], "the close may follow, and has the code");
  await pass(500);
  assert.deepEqual(told, ["close:1006:true", "waiting"]);
  await reopen(client);
  told.length = 0;
  FakeSocket.last.onerror({});
  FakeSocket.last.ends(4001);
  assert.deepEqual(told, ["close:4001:false", "kicked", "event:kicked"]);
});

test("a socket that was let go of has somebody who listens to its error", async () => {
  const { client } = create();
  client.connect();
  await settle();
  client.close();
  assert.equal(typeof FakeSocket.last.onerror, "function");
  FakeSocket.last.onerror(new Error("closed before the connection was established"));
  await pass(60_000);
  assert.equal(client.state, "closed");
});

test("an engine that dislikes the close code is closed without one", async () => {
  class Strict extends FakeSocket {
    close(code) {
      if (code !== undefined) throw new Error("InvalidAccessError");
      this.isClosed = true;
    }
  }
  const { client } = await opened({ WebSocket: Strict });
  client.close();
  assert.equal(FakeSocket.last.isClosed, true);
});

test("a page whose policy forbids the address is told so", async () => {
  const { client, told, errors } = create();
  const forbidden = { effectiveDirective: "connect-src", blockedURI: "wss://im.example.com/ws", disposition: "enforce" };
  client.connect();
  await settle();
  FakeSocket.last.onerror({});
  violation({ ...forbidden, blockedURI: "https://elsewhere.example.com/" });
  violation({ ...forbidden, disposition: "report" });
  violation({ ...forbidden, effectiveDirective: "img-src" });
  violation({ ...forbidden, blockedURI: "inline" });
  await pass(100);
  assert.deepEqual(told, ["connecting", "close:1006:true", "waiting"]);
  await pass(pauseOf(client));
  told.length = 0;
  FakeSocket.last.onerror({});
  violation(forbidden);
  await pass(100);
  assert.deepEqual(told, ["waiting", "error:url"]);
  assert.match(errors.at(-1).message, /CSP.*wss:\/\/im\.example\.com.*connect-src/);
});

test("without a WebSocket class it ends and says what to do, before an address is asked for", () => {
  const kept = globalThis.WebSocket;
  delete globalThis.WebSocket;
  try {
    const { client, told, errors } = create({ WebSocket: undefined, getUrl: () => assert.fail("asked") });
    client.connect();
    assert.deepEqual(told, ["connecting", "failed", "error:url"]);
    assert.match(errors[0].message, /no WebSocket class.*Node.*22.*option WebSocket/);
  } finally {
    if (kept) globalThis.WebSocket = kept;
  }
});

// --- Limits -----------------------------------------------------------------------------------------

test("a callback or a handshake that hangs is given up", async () => {
  let seen;
  const { client, told } = create({ getUrl: ({ signal, attempt }) => {
    seen ??= signal;
    return attempt === 0 ? new Promise(() => {}) : "wss://im.example.com/ws";
  } });
  client.connect();
  await pass(10_000);
  assert.equal(seen.aborted, true);
  assert.deepEqual(told, ["connecting", "waiting", "error:timeout"]);
  await pass(pauseOf(client));
  const hung = FakeSocket.last;
  await pass(15_000);
  assert.equal(hung.isClosed, true);
  hung.open();
  assert.equal(client.state, "waiting", "what comes late is ignored");
});

test("the limits grow while they are too short, and stay where they are needed", async () => {
  const { client, told } = create();
  const limits = [];
  client.connect();
  for (let round = 0; round < 5; round += 1) {
    await settle();
    const began = Date.now();
    while (client.state === "connecting") await pass(500);
    limits.push(Date.now() - began);
    await pass(pauseOf(client));
  }
  assert.deepEqual(limits, [10_000, 15_000, 22_500, 30_000, 30_000]);
  await pass(12_000);
  FakeSocket.last.open();
  assert.equal(client.isOpen, true);
  FakeSocket.last.ends(1006);
  await pass(pauseOf(client));
  told.length = 0;
  await pass(18_000);
  assert.deepEqual(told, [], "12 s were needed, so 10 s are not enough");
});

test("address and handshake have their time each", async () => {
  const slow = () => new Promise((resolve) => { setTimeout(() => resolve("wss://im.example.com/ws"), 9_000); });
  const { client, told } = create({ getUrl: slow });
  client.connect();
  await settle();
  await pass(9_000);
  await pass(9_000);
  FakeSocket.last.open();
  assert.deepEqual(told, ["connecting", "open"]);
});

// --- connect and close ------------------------------------------------------------------------------

test("connect is nothing unless the client has ended", async () => {
  let asked = 0;
  const { client, told } = create({ getUrl: async () => `wss://im.example.com/ws?token=${(asked += 1)}` });
  const opens = [];
  client.addEventListener("open", ({ detail }) => opens.push(detail.isReconnect));
  client.connect();
  client.connect();
  await settle();
  client.connect();
  FakeSocket.last.open();
  client.connect();
  await settle();
  assert.deepEqual([asked, FakeSocket.all.length, FakeSocket.last.isClosed], [1, 1, false]);
  FakeSocket.last.ends(1013);
  const { retryAt } = client;
  client.connect();
  assert.deepEqual([client.state, client.retryAt], ["waiting", retryAt]);
  await reopen(client);
  client.close();
  client.connect();
  await settle();
  FakeSocket.last.open();
  FakeSocket.last.ends(4001);
  client.connect();
  await settle();
  FakeSocket.last.open();
  assert.deepEqual(opens, [false, true, true, true], "what was missed since the first open is still missed");
  assert.equal(told.filter((one) => one === "open").length, 4);
});

test("what belongs to an older connection is ignored", async () => {
  const { client } = await opened();
  client.addEventListener("message", () => assert.fail("an old message"));
  const old = FakeSocket.last;
  client.close();
  client.connect();
  await settle();
  FakeSocket.last.open();
  old.says({ old: true });
  old.ends(4001);
  old.onerror({});
  await pass(2_000);
  assert.equal(client.state, "open");
});

test("close ends everything, whatever is under way", async () => {
  let answer;
  const { client } = create({ getUrl: () => new Promise((resolve) => { answer = resolve; }) });
  client.connect();
  await settle();
  client.close();
  answer("wss://im.example.com/ws");
  await pass(600_000);
  assert.equal(FakeSocket.all.length, 0);
  assert.equal(client.state, "closed");
});

test("a listener may close or connect anew at any event", async () => {
  for (const type of ["open", "close", "message", "error"]) {
    const { client } = create({ decode: JSON.parse });
    client.addEventListener(type, () => client.close());
    client.connect();
    await settle();
    FakeSocket.last.open();
    if (client.isOpen) FakeSocket.last.says(type === "error" ? "{" : {});
    if (client.isOpen) FakeSocket.last.ends(1006);
    await pass(600_000);
    assert.equal(client.state, "closed", type);
  }
});

/** Ways into each state that tells something more after it. */
const AFTER_A_STATE = {
  waiting: (socket) => { socket.onmessage = null; return pass(10_000); },
  kicked: (socket) => socket.ends(4001),
  failed: (socket) => socket.ends(1008),
};
for (const [state, lead] of Object.entries(AFTER_A_STATE)) {
  for (const reaction of ["close", "connect"]) {
    test(`nothing of the past is told when a listener of ${state} calls ${reaction}`, async () => {
      const { client, told } = create();
      client.connect();
      await settle();
      if (state !== "waiting") FakeSocket.last.open();
      let isDone = false;
      client.addEventListener("state", ({ detail }) => {
        if (detail.state !== state || isDone) return;
        isDone = true;
        told.length = 0;
        client.close();
        if (reaction === "connect") client.connect();
      });
      await lead(FakeSocket.last);
      await settle();
      assert.deepEqual(told, reaction === "connect" ? ["closed", "connecting"] : ["closed"]);
    });
  }
}

test("without a browser around it works as well", async () => {
  removePage();
  const { client } = await opened();
  assert.equal(client.isOpen, true);
});

// --- Options ----------------------------------------------------------------------------------------

test("options that cannot work are refused, those left undefined are not", async () => {
  assert.throws(() => new ImClient({}), /getUrl/);
  assert.throws(() => new ImClient(), /getUrl/);
  const getUrl = () => null;
  for (const [name, value] of Object.entries({
    getUrl: 7, check: true, rejoin: "/join", WebSocket: {}, address: 7, firstPause: "500", longestPause: NaN, silence: -1,
    rooms: "lobby", connectWithin: null,
  })) {
    const options = { getUrl, [name]: value };
    if (value === null) assert.doesNotThrow(() => new ImClient(options), name);
    else assert.throws(() => new ImClient(options), (error) => error instanceof TypeError && error.message.includes(name), name);
  }
  const { client } = await opened({ firstPause: undefined, rooms: undefined });
  FakeSocket.last.ends(1006);
  assert.equal(pauseOf(client), 2_500);
});

test("no pause is a busy loop, none overflows a timer", async () => {
  draw(0);
  let asked = 0;
  const getUrl = () => { asked += 1; throw new Error("down"); };
  const fast = create({ getUrl, firstPause: 0, longestPause: 0 });
  fast.client.connect();
  for (let ms = 0; ms < 1_000; ms += 10) await pass(10);
  assert.ok(asked <= 21, `${asked} calls in a second`);
  fast.client.close();
  draw(1);
  asked = 0;
  const slow = create({ getUrl, firstPause: 2 ** 40, longestPause: Infinity });
  slow.client.connect();
  await settle();
  assert.equal(pauseOf(slow.client), 3_600_000);
  await pass(60_000);
  assert.equal(asked, 1);
});
