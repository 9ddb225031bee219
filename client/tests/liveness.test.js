// Whether an open link lives: checks, silence, sleep, the network's and the page's comings and goings.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { draw, FakeSocket, lifecycle, network, opened, pass, reopen, setClock, settle, sleep, visible } from "./fake.js";

/** Makes the client doubt its link. */
function doubt() {
  network(false);
  network(true);
}

test("without a check, the network's return replaces a connection that had lasted, at once", async () => {
  const { client, told } = await opened();
  await pass(5_000);
  network(false);
  assert.deepEqual(told, ["offline"]);
  assert.equal(FakeSocket.last.isClosed, false, "it may outlive a short loss");
  network(true);
  assert.equal(FakeSocket.all[0].closedWith, 3001);
  await settle();
  FakeSocket.last.open();
  assert.equal(client.isOpen, true);
  assert.deepEqual(told, ["offline", "connecting", "error:dead", "open"]);
  told.length = 0;
  doubt();
  assert.deepEqual(told, ["offline", "waiting", "error:dead"], "a network that flaps is not followed each time");
});

test("a message while offline shows that the browser is wrong, and leaves no doubt", async () => {
  const { client, told } = await opened();
  await pass(5_000);
  network(false);
  await pass(100);
  FakeSocket.last.says({});
  assert.equal(client.state, "open");
  network(true);
  await settle();
  assert.deepEqual(told, ["offline", "open"]);
});

test("with a check, a connection that outlived the loss stays", async () => {
  const { client } = await opened({ check: () => {} });
  doubt();
  await settle();
  assert.equal(client.state, "offline", "until it is known");
  FakeSocket.last.says({ pushed: "by the check" });
  await settle();
  assert.equal(client.state, "open");
  await pass(60_000);
  assert.equal(FakeSocket.all.length, 1);
});

test("a check that says no, or that nothing follows, replaces the connection", async () => {
  for (const [answer, wait] of [[false, 0], [undefined, 10_000], [{ ok: true, status: 202 }, 10_000]]) {
    const { client, told } = await opened({ check: async () => answer });
    doubt();
    await settle();
    if (wait) {
      await pass(wait - 1);
      assert.equal(told.includes("error:dead"), false);
      await pass(1);
    }
    assert.equal(told.includes("error:dead"), true, String(answer));
    client.close();
  }
});

/** Checks of a web API in trouble. */
const IN_TROUBLE = {
  "hangs": () => new Promise(() => {}),
  "throws": () => { throw new Error("down"); },
  "rejects": () => Promise.reject(new Error("down")),
  "answers 503": async () => ({ ok: false, status: 503 }),
  "hangs, then answers too late": () => new Promise((resolve) => { setTimeout(resolve, 25_000); }),
};
for (const [name, check] of Object.entries(IN_TROUBLE)) {
  test(`a check that ${name} proves nothing, and is repeated more and more rarely`, async () => {
    let calls = 0;
    let aborted = 0;
    const { client, told } = await opened({
      silence: 30_000,
      check: ({ signal }) => {
        calls += 1;
        signal.addEventListener("abort", () => { aborted += 1; });
        return check();
      },
    });
    for (let second = 0; second < 600; second += 1) await pass(1_000);
    assert.deepEqual(told, [], "the link stays");
    assert.equal(FakeSocket.all.length, 1);
    assert.ok(calls >= 3 && calls <= 8, `${calls} checks in ten minutes`);
    assert.ok(aborted >= calls - 1, "none is left hanging");
    FakeSocket.last.says({});
    assert.equal(client.isOpen, true);
  });
}

test("checks that cannot tell are not repeated in step", async () => {
  const times = [];
  for (const share of [0, 1]) {
    draw(share);
    const began = Date.now();
    let second;
    let calls = 0;
    const { client } = await opened({ check: () => {
      calls += 1;
      if (calls === 2) second = Date.now() - began;
      throw new Error("down");
    } });
    doubt();
    for (let ms = 0; ms < 30_000; ms += 1_000) await pass(1_000);
    times.push(second);
    client.close();
  }
  assert.ok(times[0] < times[1], String(times));
});

test("a check's answer late in its time leaves the message its own", async () => {
  const { client, told } = await opened({ check: () => new Promise((resolve) => { setTimeout(resolve, 9_000); }) });
  doubt();
  await settle();
  await pass(9_000);
  await pass(9_000);
  FakeSocket.last.says({});
  await settle();
  assert.deepEqual(told, ["offline", "open"]);
  assert.equal(client.isOpen, true);
});

test("checks leave no listeners behind", async () => {
  let added = 0;
  let removed = 0;
  const { addEventListener, removeEventListener } = AbortSignal.prototype;
  mock.method(AbortSignal.prototype, "addEventListener", function add(...all) { added += 1; return addEventListener.apply(this, all); });
  mock.method(AbortSignal.prototype, "removeEventListener", function remove(...all) { removed += 1; return removeEventListener.apply(this, all); });
  let calls = 0;
  await opened({ silence: 5_000, check: () => { calls += 1; return true; } });
  for (let ms = 0; ms < 60_000; ms += 1_000) await pass(1_000);
  assert.ok(calls >= 10);
  assert.equal(added - removed, 0);
});

test("silence is checked, or enough where the service is known to talk", async () => {
  let calls = 0;
  const checked = await opened({ silence: 30_000, check: () => { calls += 1; return true; } });
  for (let second = 0; second < 60; second += 5) await pass(5_000);
  assert.ok(calls >= 2, "asked again and again");
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

test("a browser that wrongly says offline does not keep a dead link", async () => {
  for (const check of [undefined, () => false]) {
    const { client, told } = await opened({ silence: 30_000, check });
    network(false);
    for (let second = 0; second < 45; second += 5) await pass(5_000);
    assert.ok(told.includes("error:dead"));
    client.close();
  }
});

test("a clock that is set is no sleep, and no silence", async () => {
  for (const ms of [-3_600_000, 120_000, 86_400_000]) {
    const { client, told } = await opened({ silence: 30_000 });
    await pass(10_000);
    setClock(ms);
    await pass(10_000);
    assert.deepEqual(told, [], `set by ${ms}`);
    await pass(10_000);
    assert.deepEqual(told, ["waiting", "error:dead"], `silence after ${ms}`);
    client.close();
  }
});

test("a clock set back does not make a good connection a bad one", async () => {
  const { client } = await opened();
  FakeSocket.last.ends(1006);
  await reopen(client);
  await pass(5_000);
  setClock(-3_600_000);
  FakeSocket.last.ends(1006);
  assert.equal(client.retryAt - Date.now(), 2_500);
});

test("a machine that slept is noticed, a hidden page is not taken for it", async () => {
  const { told } = await opened();
  await pass(5_000);
  // Timers of hidden pages run once a minute.
  sleep(60_000);
  await pass(5_000);
  assert.deepEqual(told, []);
  sleep(300_000);
  await pass(5_000);
  assert.deepEqual(told, ["connecting", "error:dead"]);
});

test("where the steady clock sleeps too, a check finds out", async () => {
  let calls = 0;
  const { told } = await opened({ check: () => { calls += 1; return true; } });
  setClock(300_000);
  await pass(5_000);
  assert.equal(calls, 1);
  assert.deepEqual(told, []);
});

test("a page that becomes visible checks a stale link", async () => {
  let calls = 0;
  const { client } = await opened({ check: () => { calls += 1; return true; } });
  visible(false);
  visible(true);
  await pass(30_000);
  assert.equal(calls, 0);
  visible(false);
  await settle();
  assert.equal(calls, 0);
  visible(true);
  await settle();
  assert.equal(calls, 1);
  assert.equal(client.isOpen, true);
});

// --- Pages that are put away ---------------------------------------------------------------------------

for (const [away, back] of [["pagehide", "pageshow"], ["freeze", "resume"], ["freeze", "pageshow"]]) {
  test(`a page that is put away (${away}) says so, and comes back (${back})`, async () => {
    const { client, told } = await opened();
    lifecycle("pagehide", false);
    lifecycle("pageshow", false);
    assert.deepEqual(told, [], "a page that goes for good needs nothing");
    lifecycle(away, true);
    assert.equal(FakeSocket.last.closedWith, 3001);
    assert.deepEqual(told, ["waiting"]);
    await pass(600_000);
    network(false);
    assert.equal(FakeSocket.all.length, 1, "nothing happens while it is away");
    network(true);
    lifecycle(away, true);
    lifecycle(back, true);
    await settle();
    FakeSocket.last.open();
    assert.equal(client.isOpen, true);
  });
}

test("a page that is put away while it connects or waits, and one that has ended", async () => {
  const { client } = await opened();
  FakeSocket.last.ends(1006);
  lifecycle("freeze");
  await pass(60_000);
  assert.equal(FakeSocket.all.length, 1);
  lifecycle("resume");
  await settle();
  assert.equal(client.state, "connecting");
  lifecycle("freeze");
  assert.equal(FakeSocket.last.isClosed, true);
  lifecycle("resume");
  await settle();
  FakeSocket.last.open();
  FakeSocket.last.ends(4001);
  lifecycle("freeze");
  lifecycle("resume");
  await pass(60_000);
  assert.equal(client.state, "kicked");
});
