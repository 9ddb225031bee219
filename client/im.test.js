// node --test client/im.test.js: the client against a socket and a clock that the test moves.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { ImClient } from "./im.js";

/** A socket in the test's hands. */
class FakeSocket {
  static all = [];
  isClosed = false;

  constructor(url) {
    if (!/^wss?:/.test(url)) throw new SyntaxError(`not a WebSocket address: ${url}`);
    this.url = url;
    FakeSocket.all.push(this);
  }

  static get last() {
    return FakeSocket.all.at(-1);
  }

  close() {
    this.isClosed = true;
  }

  open() {
    this.onopen();
  }

  says(value) {
    this.onmessage({ data: typeof value === "string" ? value : JSON.stringify(value) });
  }

  ends(code, reason = "") {
    this.onclose({ code, reason, wasClean: code !== 1006 });
  }
}

let page;
let window;
let urls;
let clients;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: Date.UTC(2026, 0) });
  // Every pause is its longest: the back-off becomes exact.
  mock.method(Math, "random", () => 1);
  FakeSocket.all = [];
  urls = 0;
  clients = [];
  window = new EventTarget();
  page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  globalThis.addEventListener = window.addEventListener.bind(window);
  globalThis.removeEventListener = window.removeEventListener.bind(window);
  globalThis.document = page;
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true, writable: true });
});

afterEach(() => {
  for (const client of clients) client.close();
  mock.timers.reset();
  mock.restoreAll();
  for (const name of ["addEventListener", "removeEventListener", "document", "navigator"]) delete globalThis[name];
});

/** Lets promises run; no time passes. */
async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
}

function network(isThere) {
  globalThis.navigator.onLine = isThere;
  window.dispatchEvent(new Event(isThere ? "online" : "offline"));
}

function visible(isVisible) {
  page.visibilityState = isVisible ? "visible" : "hidden";
  page.dispatchEvent(new Event("visibilitychange"));
}

/** A client and what it has told, as `type` or `type:detail`. */
function create(options = {}) {
  const getUrl = async () => `wss://im.example.com/ws?token=${(urls += 1)}`;
  const client = new ImClient({ getUrl, WebSocket: FakeSocket, ...options });
  const told = [];
  client.addEventListener("state", ({ detail }) => told.push(detail.state));
  client.addEventListener("kicked", () => told.push("event:kicked"));
  client.addEventListener("error", ({ detail }) => told.push(`error:${detail.kind}`));
  client.addEventListener("close", ({ detail }) => told.push(`close:${detail.code}:${detail.willReconnect}`));
  clients.push(client);
  return { client, told };
}

async function opened(options) {
  const made = create(options);
  made.client.connect();
  await settle();
  FakeSocket.last.open();
  await settle();
  made.told.length = 0;
  return made;
}

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
  assert.equal(FakeSocket.last.isClosed, true);
  assert.equal(client.state, "closed");
});

test("receipts are events of their own, with the message decoded", async () => {
  const { client } = await opened();
  let receipt;
  client.addEventListener("receipt", ({ detail }) => { receipt = detail; });
  client.addEventListener("message", () => assert.fail("not a message"));
  FakeSocket.last.says({ content: '{"id":7}', receipt: "发送成功", to: 42, status: "sent" });
  assert.deepEqual(receipt, { content: { id: 7 }, receipt: "发送成功", to: 42, status: "sent" });
});

test("a message that cannot be decoded is told and costs nothing else", async () => {
  const { client, told } = await opened({ decode: JSON.parse });
  FakeSocket.last.says("{");
  assert.deepEqual(told, ["error:decode"]);
  assert.equal(client.isOpen, true);
});

for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000]) {
  test(`${code}: comes back with a fresh token`, async () => {
    const { client, told } = await opened();
    FakeSocket.last.ends(code);
    assert.deepEqual(told, [`close:${code}:true`, "waiting"]);
    await pass(client.retryAt - Date.now());
    assert.equal(FakeSocket.last.url, "wss://im.example.com/ws?token=2");
    FakeSocket.last.open();
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

for (const code of [1002, 1007, 1008, 1009]) {
  test(`${code}: stops and says why`, async () => {
    const { client, told } = await opened();
    FakeSocket.last.ends(code);
    assert.deepEqual(told, [`close:${code}:false`, "failed", "error:protocol"]);
    await pass(600_000);
    assert.equal(FakeSocket.all.length, 1);
    assert.equal(client.state, "failed");
  });
}

test("pauses double up to the longest, and start small after a good connection", async () => {
  const { client } = create();
  client.connect();
  await settle();
  const pauses = [];
  for (let round = 0; round < 7; round += 1) {
    FakeSocket.last.ends(1006);
    pauses.push(client.retryAt - Date.now());
    await pass(pauses.at(-1));
  }
  assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 15000, 15000]);
  FakeSocket.last.open();
  await pass(4_999);
  FakeSocket.last.ends(1006);
  assert.equal(client.retryAt - Date.now(), 15_000, "too short to count as good");
  await pass(15_000);
  FakeSocket.last.open();
  await pass(5_000);
  FakeSocket.last.ends(1006);
  assert.equal(client.retryAt - Date.now(), 500);
});

test("half of a pause is drawn", async () => {
  const { client } = await opened();
  Math.random.mock.mockImplementation(() => 0);
  FakeSocket.last.ends(1006);
  assert.equal(client.retryAt - Date.now(), 250);
});

test("after a restart and after backpressure the return is not at once", async () => {
  const { client } = await opened();
  FakeSocket.last.ends(1001);
  assert.equal(client.retryAt - Date.now(), 2_000);
  await pass(2_000);
  FakeSocket.last.open();
  await pass(5_000);
  FakeSocket.last.ends(1013);
  assert.equal(client.retryAt - Date.now(), 8_000);
});

test("a callback that fails is asked again, one that gives nothing ends it", async () => {
  const answers = [() => { throw new Error("503"); }, () => "https://not-a-socket/", () => null];
  const { client, told } = create({ getUrl: async () => answers.shift()() });
  client.connect();
  await pass(0);
  assert.deepEqual(told, ["connecting", "waiting", "error:url"]);
  await pass(500);
  await pass(1000);
  assert.deepEqual(told.slice(3), ["connecting", "waiting", "error:url", "connecting", "failed", "error:url"]);
});

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
  await pass(500);
  const hung = FakeSocket.last;
  await pass(10_000);
  assert.equal(hung.isClosed, true);
  hung.open();
  assert.equal(client.state, "waiting", "what comes late is ignored");
});

test("what belongs to an older connection is ignored", async () => {
  const { client } = await opened();
  client.addEventListener("message", () => assert.fail("an old message"));
  const old = FakeSocket.last;
  client.connect();
  await settle();
  FakeSocket.last.open();
  old.says({ old: true });
  old.ends(4001);
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

// --- Rooms ------------------------------------------------------------------------------------------

test("rooms are joined after each connect, and again until it works", async () => {
  const calls = [];
  let isDown = true;
  const { client, told } = create({
    rooms: new Set(["lobby"]),
    rejoin: async (rooms) => {
      calls.push(rooms.join());
      if (isDown) throw new Error("web API down");
    },
  });
  let joined = 0;
  client.addEventListener("rejoined", () => { joined += 1; });
  client.connect();
  await settle();
  FakeSocket.last.open();
  await settle();
  client.rooms.add("news");
  isDown = false;
  await pass(500);
  assert.deepEqual(calls, ["lobby", "lobby,news"]);
  assert.equal(joined, 1);
  assert.deepEqual(told, ["connecting", "open", "error:rejoin"]);
  client.rooms.delete("lobby");
  FakeSocket.last.ends(1006);
  await pass(500);
  FakeSocket.last.open();
  await settle();
  assert.equal(calls.at(-1), "news");
});

test("a connection that ends takes its attempts to rejoin along", async () => {
  let calls = 0;
  await opened({ rooms: new Set(["lobby"]), rejoin: async () => { calls += 1; throw new Error("down"); } });
  FakeSocket.last.ends(1006);
  await pass(400);
  assert.equal(calls, 1);
});

// --- Dead links -------------------------------------------------------------------------------------

test("without a check, the network's return replaces the connection", async () => {
  const { client, told } = await opened();
  network(false);
  assert.deepEqual(told, ["offline"]);
  assert.equal(FakeSocket.last.isClosed, false, "it may outlive a short loss");
  network(true);
  assert.equal(FakeSocket.last.isClosed, true);
  await pass(500);
  FakeSocket.last.open();
  assert.equal(client.isOpen, true);
  assert.deepEqual(told, ["offline", "waiting", "error:dead", "connecting", "open"]);
});

test("a message while offline shows that the browser is wrong", async () => {
  const { client } = await opened();
  network(false);
  FakeSocket.last.says({});
  assert.equal(client.state, "open");
});

test("with a check, a connection that outlived the loss stays", async () => {
  const { client } = await opened({ check: () => {} });
  network(false);
  network(true);
  await settle();
  assert.equal(client.state, "offline", "until it is known");
  FakeSocket.last.says({ pushed: "by the check" });
  await settle();
  assert.equal(client.state, "open");
  assert.equal(FakeSocket.all.length, 1);
  await pass(60_000);
  assert.equal(FakeSocket.all.length, 1);
});

test("a check that says no, or that nothing answers, replaces the connection", async () => {
  for (const [answer, wait] of [[false, 0], [undefined, 10_000]]) {
    const { client, told } = await opened({ check: async () => answer });
    network(false);
    network(true);
    await pass(wait);
    assert.deepEqual(told, ["offline", "waiting", "error:dead"], String(answer));
    client.close();
  }
});

test("a check that fails is repeated, and the connection stays", async () => {
  let calls = 0;
  const { client } = await opened({ check: async () => {
    calls += 1;
    if (calls < 3) throw new Error("web API down");
    return true;
  } });
  network(false);
  network(true);
  await settle();
  assert.deepEqual([calls, client.state], [1, "offline"]);
  await pass(5_000);
  await pass(5_000);
  assert.deepEqual([calls, client.state], [3, "open"]);
  await pass(20_000);
  assert.equal(calls, 3);
});

test("silence is checked, or enough where the service is known to talk", async () => {
  let calls = 0;
  const checked = await opened({ silence: 30_000, check: () => { calls += 1; return true; } });
  for (let second = 0; second < 60; second += 5) await pass(5_000);
  assert.equal(calls, 2);
  assert.equal(checked.client.state, "open");
  checked.client.close();
  const { told } = await opened({ silence: 30_000 });
  await pass(25_000);
  FakeSocket.last.says({});
  await pass(25_000);
  assert.deepEqual(told, []);
  await pass(5_000);
  assert.deepEqual(told, ["waiting", "error:dead"]);
});

test("a machine that slept is noticed, a hidden page is not taken for it", async () => {
  const { told } = await opened();
  const start = Date.now();
  // Timers of hidden pages run once a minute.
  mock.timers.setTime(start + 60_000);
  await settle();
  assert.deepEqual(told, []);
  mock.method(Date, "now", () => start + 300_000);
  await pass(5_000);
  assert.deepEqual(told, ["waiting", "error:dead"]);
});

test("a page that becomes visible checks a stale link, and ends a wait", async () => {
  let calls = 0;
  const { client } = await opened({ check: () => { calls += 1; return true; } });
  visible(false);
  visible(true);
  await pass(30_000);
  assert.equal(calls, 0);
  visible(false);
  visible(true);
  await settle();
  assert.equal(calls, 1);
  FakeSocket.last.ends(1013);
  assert.equal(client.state, "waiting");
  visible(true);
  await settle();
  assert.equal(client.state, "connecting");
});

test("a page from the back-forward cache has no socket any more", async () => {
  const { told } = await opened();
  window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: false }));
  assert.deepEqual(told, []);
  window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  assert.deepEqual(told, ["waiting", "error:dead"]);
});

test("offline, attempts are rare but do not cease; online, the next one is at once", async () => {
  const { client, told } = await opened();
  network(false);
  FakeSocket.last.ends(1006);
  assert.deepEqual(told, ["offline", "close:1006:true", "offline"]);
  assert.equal(client.retryAt - Date.now(), 15_000);
  await pass(15_000);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.ends(1006);
  network(true);
  await settle();
  assert.equal(FakeSocket.all.length, 3);
});

test("without a browser around it works as well", async () => {
  for (const name of ["addEventListener", "removeEventListener", "document", "navigator"]) delete globalThis[name];
  const { client } = await opened();
  assert.equal(client.isOpen, true);
});

test("options that cannot work are refused, those left undefined are not", async () => {
  assert.throws(() => new ImClient({}), /getUrl/);
  assert.throws(() => new ImClient(), /getUrl/);
  const { client } = await opened({ firstPause: undefined, rooms: undefined });
  FakeSocket.last.ends(1006);
  assert.equal(client.retryAt - Date.now(), 500);
});
