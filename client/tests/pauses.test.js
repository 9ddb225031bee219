// How long the client stays away: back-off, jitter, and what server and web API ask for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { create, draw, FakeSocket, lifecycle, network, opened, pass, pauseOf, reopen, settle, visible } from "./fake.js";

test("pauses double up to the longest, and start small after a good connection", async () => {
  const { client } = create();
  client.connect();
  await settle();
  const pauses = [];
  for (let round = 0; round < 6; round += 1) {
    FakeSocket.last.ends(1006);
    pauses.push(pauseOf(client));
    await pass(pauses.at(-1));
  }
  assert.deepEqual(pauses, [2_500, 5_000, 10_000, 20_000, 30_000, 30_000]);
  FakeSocket.last.open();
  await pass(4_999);
  FakeSocket.last.ends(1006);
  assert.equal(pauseOf(client), 30_000, "too short to count as good");
  await reopen(client);
  await pass(5_000);
  FakeSocket.last.ends(1006);
  assert.equal(pauseOf(client), 2_500);
});

test("all of a pause is drawn", async () => {
  const { client } = await opened();
  draw(0);
  FakeSocket.last.ends(1006);
  assert.equal(pauseOf(client), 50);
  await reopen(client);
  draw(0.5);
  await pass(5_000);
  FakeSocket.last.ends(1006);
  assert.equal(pauseOf(client), 1_250);
});

test("500 clients of a node that was killed do not come back together", async () => {
  draw(undefined);
  const clients = [];
  for (let number = 0; number < 500; number += 1) clients.push(await opened());
  await pass(10_000);
  for (const socket of FakeSocket.all) socket.ends(1006);
  const perQuarter = new Map();
  for (const { client } of clients) {
    const quarter = Math.floor(pauseOf(client) / 250);
    perQuarter.set(quarter, (perQuarter.get(quarter) ?? 0) + 1);
  }
  const most = Math.max(...perQuarter.values());
  assert.ok(most < 100, `${most} of 500 within a quarter of a second`);
});

test("whoever was on a node that died tries again soon after another took over", async () => {
  for (const share of [0.2, 0.5, 0.8, 1]) {
    const { client } = await opened();
    await pass(10_000);
    draw(share);
    let away = 0;
    do {
      FakeSocket.last.ends(1006);
      const pause = pauseOf(client);
      away += pause;
      await pass(pause);
    } while (away < 10_000);
    assert.ok(away <= 14_000, `drawn ${share}, the first attempt after the 10 s is at ${away} ms`);
    client.close();
  }
});

test("who is away for longer tries less and less often", async () => {
  const { client } = await opened();
  await pass(10_000);
  draw(1);
  const pauses = [];
  for (let round = 0; round < 7; round += 1) {
    FakeSocket.last.ends(1006);
    pauses.push(pauseOf(client));
    await pass(pauses.at(-1));
  }
  assert.deepEqual(pauses, [2_500, 4_000, 4_000, 4_000, 4_000, 30_000, 30_000]);
});

test("hidden pages leave the way to those that are looked at", async () => {
  const { client } = await opened();
  visible(false);
  FakeSocket.last.ends(1006);
  assert.equal(pauseOf(client), 10_000);
});

test("after a restart and after backpressure the return is not at once", async () => {
  const { client } = await opened();
  for (const [code, least, most] of [[1001, 1_000, 3_500], [1012, 1_000, 3_500], [1013, 4_000, 8_000]]) {
    for (const [share, expected] of [[0, least], [1, most]]) {
      await pass(5_000);
      draw(share);
      FakeSocket.last.ends(code);
      assert.equal(pauseOf(client), expected, `${code} drawn ${share}`);
      await reopen(client);
    }
  }
});

test("what the reason of a close asks for is kept", async () => {
  const { client } = await opened();
  for (const [reason, least, most] of [
    ['{"after":20000,"spread":5000}', 20_000, 25_000],
    ['{"spread":60000}', 50, 60_000],
    ['{"after":7000}', 7_000, 7_000],
    ['{"after":1e12,"spread":0}', 3_600_000, 3_600_000],
    // None of these says anything.
    ["server is restarting", 1_000, 3_500],
    ['{"after":-1}', 1_000, 3_500],
    ['{"after":"7000"}', 1_000, 3_500],
    ['{"after":7000', 1_000, 3_500],
  ]) {
    for (const [share, expected] of [[0, least], [1, most]]) {
      await pass(5_000);
      draw(share);
      FakeSocket.last.ends(1012, reason);
      assert.equal(pauseOf(client), expected, `${reason} drawn ${share}`);
      await reopen(client);
    }
  }
});

test("what the web API asks for is kept, as milliseconds or as its header says it", async () => {
  const asked = [
    [7_000, 7_000], ["7", 7_000], [new Date(Date.UTC(2026, 0) + 3_600_000).toUTCString(), 3_600_000], [1e12, 3_600_000],
    [null, 0], ["soon", 0], [NaN, 0], [-5, 0],
  ];
  draw(0);
  for (const [retryAfter, least] of asked) {
    const { client, errors } = create({ getUrl: () => Promise.reject(Object.assign(new Error("429"), { retryAfter })) });
    client.connect();
    await settle();
    assert.equal(pauseOf(client), Math.max(50, least), String(retryAfter));
    assert.match(errors[0].message, /getUrl failed: 429/);
    visible(true);
    assert.equal(client.state, least ? "waiting" : "connecting", "a page that becomes visible does not shorten it");
    client.close();
  }
});

for (const [name, end] of Object.entries({
  "backpressure": (socket) => socket.ends(1013),
  "a drain": (socket) => socket.ends(1012),
  "a hint": (socket) => socket.ends(1006, '{"after":9000}'),
})) {
  test(`no wake shortens ${name}, but a person's wish does`, async () => {
    const { client } = await opened();
    end(FakeSocket.last);
    const { retryAt } = client;
    visible(false);
    visible(true);
    lifecycle("pageshow", true);
    lifecycle("resume");
    network(true);
    await settle();
    assert.deepEqual([client.state, client.retryAt], ["waiting", retryAt]);
    lifecycle("freeze");
    assert.equal(client.retryAt, 0);
    lifecycle("resume");
    assert.equal(client.retryAt, retryAt, "the rest of it is waited for");
    network(false);
    assert.ok(client.retryAt >= retryAt);
    network(true);
    client.retryNow();
    await settle();
    assert.equal(FakeSocket.all.length, 2);
  });
}

test("the wait after a loss ends when the page becomes visible or the network comes", async () => {
  for (const wake of [() => visible(true), () => network(true), () => lifecycle("pageshow", true), () => lifecycle("resume")]) {
    const { client } = await opened();
    FakeSocket.last.ends(1006);
    assert.equal(client.state, "waiting");
    wake();
    assert.equal(client.state, "connecting");
    client.close();
  }
});

test("the network's return restarts an attempt that began before it", async () => {
  const { client, told } = create();
  client.connect();
  await settle();
  const lost = FakeSocket.last;
  await pass(700);
  network(true);
  await settle();
  assert.equal(lost.isClosed, true);
  assert.equal(FakeSocket.last.url, "wss://im.example.com/ws?token=2");
  FakeSocket.last.open();
  assert.deepEqual(told, ["connecting", "open"], "no failure, no pause");
  assert.equal(client.isOpen, true);
});

test("offline, attempts are rare but do not cease; online, the next one is at once", async () => {
  const { client, told } = await opened();
  network(false);
  FakeSocket.last.ends(1006);
  assert.deepEqual(told, ["offline", "close:1006:true", "offline"]);
  assert.equal(pauseOf(client), 30_000);
  await pass(30_000);
  assert.equal(FakeSocket.all.length, 2);
  FakeSocket.last.ends(1006);
  network(true);
  await settle();
  assert.equal(FakeSocket.all.length, 3);
});
