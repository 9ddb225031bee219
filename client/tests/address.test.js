// What the web API may answer, and what comes of it.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { create, FakeSocket, opened, pass, pauseOf, reopen, settle } from "./fake.js";

test("a callback that fails is asked again, one that gives null ends it", async () => {
  const answers = [() => { throw new Error("503"); }, () => "https://not-a-socket/", () => null];
  const { client, told } = create({ getUrl: async () => answers.shift()() });
  client.connect();
  await settle();
  assert.deepEqual(told, ["connecting", "waiting", "error:url"]);
  await pass(pauseOf(client));
  await pass(pauseOf(client));
  assert.deepEqual(told.slice(3), ["connecting", "waiting", "error:url", "connecting", "failed", "error:url"]);
});

const circular = {};
circular.self = circular;
/** Answers that are no address, and what the error shows of them. */
const NO_ADDRESSES = [
  [undefined, /undefined.*or null/], ["", /""/], [false, /false/], [42, /42/], [{ url: "wss://a/" }, /"url":"wss:\/\/a\/".*its url alone/],
  [{ error: "busy" }, /busy/], ["garbage", /garbage/], ["/ws", /\/ws/], ["//host/ws", /\/\/host/], ["https://host/", /https/],
  [new URL("http://host/"), /http:/], ["wss:host", /wss:host/], ["wss://", /wss:/], ["ws://:80/", /ws:/], [" wss://host/", /" wss/],
  ["wss://ho st/", /ho st/], [new Response(null), /Response.*json/], [Symbol("s"), /Symbol/], [10n, /10/], [circular, /object/],
  [() => "wss://host/", /function/], [["wss://host/"], /Array/],
];
for (const [answer, shown] of NO_ADDRESSES) {
  test(`no address: ${String(shown)}`, async () => {
    const { client, told, errors } = create({ getUrl: async () => answer });
    client.connect();
    await settle();
    assert.deepEqual(told, ["connecting", "waiting", "error:url"]);
    assert.match(errors[0].message, shown);
    assert.match(errors[0].message, /wss:\/\/ or ws:\/\//);
    assert.equal(FakeSocket.all.length, 0);
  });
}

test("an address may be a text or a URL, in any case", async () => {
  for (const answer of ["ws://127.0.0.1:6001/ws?token=1", new URL("wss://host/ws"), "WSS://HOST/ws", "ws://[::1]:6001/ws"]) {
    const { client } = create({ getUrl: () => answer });
    client.connect();
    await settle();
    assert.equal(FakeSocket.last.url, String(answer));
    client.close();
  }
});

test("the same address twice is told when it is refused", async () => {
  const { client, told, errors } = await opened({ getUrl: () => "wss://im.example.com/ws?token=1" });
  FakeSocket.last.ends(1006);
  await pass(pauseOf(client));
  FakeSocket.last.ends(1006);
  assert.deepEqual(told.slice(-3), ["close:1006:true", "waiting", "error:url"]);
  assert.match(errors[0].message, /cached/);
  await reopen(client);
  told.length = 0;
  FakeSocket.last.ends(1006);
  assert.deepEqual(told, ["close:1006:true", "waiting"], "it was not refused");
});

// --- The option address -------------------------------------------------------------------------------

/** A client whose web API gives these answers, one by one; the last one again and again. */
function asking(...answers) {
  const calls = [];
  mock.method(globalThis, "fetch", async (url, options) => {
    calls.push({ url, ...options });
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return typeof answer === "function" ? answer(options) : answer;
  });
  return { calls, ...create({ getUrl: undefined, address: "/api/push-address" }) };
}

const json = (value, init) => new Response(JSON.stringify(value), init);

test("address: a POST that nothing may store, given up with the attempt", async () => {
  const { client, calls } = asking(() => json({ url: "wss://im.example.com/ws?token=1" }));
  client.connect();
  await settle();
  assert.equal(FakeSocket.last.url, "wss://im.example.com/ws?token=1");
  const [{ url, method, cache, signal }] = calls;
  assert.deepEqual([url, method, cache, signal.aborted], ["/api/push-address", "POST", "no-store", false]);
  client.close();
  assert.equal(signal.aborted, true);
});

test("address: 401 ends it, as null does", async () => {
  for (const answer of [new Response(null, { status: 401 }), json({ url: null }), json(null)]) {
    const { client, told } = asking(answer);
    client.connect();
    await settle();
    assert.deepEqual(told, ["connecting", "failed", "error:url"]);
    mock.restoreAll();
  }
});

test("address: any other refusal is tried again, when the answer says", async () => {
  const { client, told, errors } = asking(
    new Response("busy", { status: 503, headers: { "Retry-After": "20" } }),
    new Response("slow down", { status: 429 }),
    new TypeError("Failed to fetch"),
    new Response("<html>"),
    json({ error: "busy" }),
    () => json("wss://im.example.com/ws?token=9"),
  );
  client.connect();
  await settle();
  assert.equal(pauseOf(client), 20_000 + 2_500);
  for (let round = 0; round < 5; round += 1) await pass(pauseOf(client));
  assert.deepEqual(errors.map(({ kind }) => kind), Array(5).fill("url"));
  assert.match(errors[0].message, /\/api\/push-address failed: status 503/);
  assert.equal(errors[0].retryAfter, 20_000);
  assert.match(errors[4].message, /busy/);
  assert.equal(FakeSocket.last.url, "wss://im.example.com/ws?token=9");
  assert.equal(told.includes("failed"), false);
});

test("address: a call that hangs is aborted, so that it does not fill the browser's connections", async () => {
  const { client, told, calls } = asking(() => new Promise(() => {}));
  client.connect();
  await pass(10_000);
  assert.equal(calls[0].signal.aborted, true);
  assert.deepEqual(told, ["connecting", "waiting", "error:timeout"]);
  await pass(pauseOf(client));
  assert.equal(calls.length, 2);
});
