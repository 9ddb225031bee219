// Rooms are joined after each connect, by one call at a time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { create, FakeSocket, opened, pass, reopen, settle } from "./fake.js";

/** A web API that keeps the members, and answers when the test says. */
class Api {
  members = new Set();
  calls = [];
  under = [];
  isDown = false;

  call(kind) {
    return (rooms, { signal }) => {
      this.calls.push(`${kind} ${rooms.join()}`);
      if (this.isDown) return Promise.reject(new Error("web API down"));
      return new Promise((resolve, reject) => {
        this.under.push({ kind, signal, reject, land: () => {
          for (const room of rooms) this.members[kind === "join" ? "add" : "delete"](room);
          resolve();
        } });
      });
    };
  }

  options = { rejoin: this.call("join"), leave: this.call("leave") };

  /** What is under way is carried out, and what follows from it. */
  async land() {
    await settle();
    while (this.under.length) {
      assert.equal(this.under.length, 1, "one call at a time");
      this.under.shift().land();
      await settle();
    }
  }
}

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
  await pass(2_500);
  assert.deepEqual(calls, ["lobby", "lobby,news"]);
  assert.equal(joined, 1);
  assert.deepEqual(told, ["connecting", "open", "error:rejoin"]);
  client.rooms.delete("lobby");
  FakeSocket.last.ends(1006);
  await reopen(client);
  assert.equal(calls.at(-1), "news");
});

test("a connection that ends takes its attempts to rejoin along", async () => {
  let calls = 0;
  await opened({ rooms: new Set(["lobby"]), rejoin: async () => { calls += 1; throw new Error("down"); } });
  FakeSocket.last.ends(1006);
  await pass(2_400);
  assert.equal(calls, 1);
});

test("a list of rooms will do; a set stays the one that was given", async () => {
  const api = new Api();
  const { client } = await opened({ ...api.options, rooms: ["a", "b"] });
  assert.deepEqual(api.calls, ["join a,b"]);
  assert.deepEqual([...client.rooms], ["a", "b"]);
  const own = new Set(["c"]);
  assert.equal(create({ rooms: own }).client.rooms, own);
});

test("a call that hangs is given up and repeated", async () => {
  let calls = 0;
  const signals = [];
  const { client, told } = await opened({
    rooms: ["a"],
    rejoin: (_, { signal }) => {
      calls += 1;
      signals.push(signal);
      return calls === 1 ? new Promise(() => {}) : undefined;
    },
  });
  let rejoined;
  client.addEventListener("rejoined", ({ detail }) => { rejoined = detail.rooms; });
  await pass(10_000);
  assert.deepEqual(told, ["error:rejoin"]);
  assert.equal(signals[0].aborted, true);
  await pass(2_500);
  assert.deepEqual(rejoined, ["a"]);
});

test("an answer that was refused is a failure, even if nobody looked at it", async () => {
  const { client, told, errors } = await opened({ rooms: ["a"], rejoin: async () => new Response(null, { status: 500 }) });
  client.addEventListener("rejoined", () => assert.fail("not joined"));
  assert.deepEqual(errors.map(({ kind }) => kind), ["rejoin"]);
  assert.match(errors[0].message, /500/);
  assert.deepEqual(told, []);
});

test("a room that is left while it is joined again stays left", async () => {
  for (const leave of [(client) => client.leave("a"), (client) => client.rooms.delete("a")]) {
    const api = new Api();
    const { client } = await opened({ ...api.options, rooms: ["a", "b"] });
    leave(client);
    await settle();
    assert.deepEqual(api.calls, ["join a,b"], "the leave waits");
    await api.land();
    assert.deepEqual(api.calls, ["join a,b", "leave a"]);
    assert.deepEqual([...api.members], ["b"]);
  }
});

test("the last wish counts, however many there were", async () => {
  for (const wishes of [["join", "leave"], ["leave", "join"], ["join", "leave", "join"], ["leave", "join", "leave"]]) {
    for (const before of [[], ["a"]]) {
      const api = new Api();
      const { client } = await opened({ ...api.options, rooms: before });
      const told = wishes.map((wish) => client[wish]("a"));
      await api.land();
      const last = wishes.at(-1);
      assert.equal(api.members.has("a"), last === "join", `${before} ${wishes}`);
      assert.equal(client.rooms.has("a"), last === "join");
      assert.equal(await told.at(-1), true);
      await Promise.all(told);
    }
  }
});

test("join and leave tell when it is done", async () => {
  const api = new Api();
  const { client } = await opened(api.options);
  const done = [];
  client.join("a").then((isDone) => done.push(["join", isDone]));
  await settle();
  assert.deepEqual(done, []);
  await api.land();
  client.leave("a").then((isDone) => done.push(["leave", isDone]));
  await settle();
  await api.land();
  assert.deepEqual(done, [["join", true], ["leave", true]]);
  assert.equal(api.members.size, 0);
});

test("without a connection a join waits for it, a leave does not", async () => {
  const api = new Api();
  const { client } = create(api.options);
  const joined = client.join("a");
  client.leave("b");
  await settle();
  assert.deepEqual(api.calls, ["leave b"]);
  await api.land();
  client.connect();
  await settle();
  FakeSocket.last.open();
  await settle();
  assert.deepEqual(api.calls, ["leave b", "join a"]);
  await api.land();
  assert.equal(await joined, true);
});

test("a connection that ends under a join gives it up, and the next one has it", async () => {
  const api = new Api();
  const { client, told } = await opened({ ...api.options, rooms: ["a"] });
  const [first] = api.under;
  FakeSocket.last.ends(1006);
  await settle();
  assert.equal(first.signal.aborted, true);
  api.under.length = 0;
  await reopen(client);
  assert.deepEqual(api.calls, ["join a", "join a"]);
  await api.land();
  assert.deepEqual(told.filter((one) => one.startsWith("error")), []);
});

test("failures of one kind do not lose the other's wishes", async () => {
  const api = new Api();
  api.isDown = true;
  const { client, told } = await opened(api.options);
  client.join("a");
  await settle();
  client.leave("b");
  await settle();
  assert.deepEqual(told, ["error:rejoin", "error:leave"]);
  api.isDown = false;
  await pass(30_000);
  await api.land();
  assert.deepEqual([...api.members], ["a"]);
  assert.ok(api.calls.includes("leave b"));
});

test("close gives joins up, tries a leave once more, and tells nothing", async () => {
  const api = new Api();
  const { client, told } = await opened({ ...api.options, rooms: ["a"] });
  await api.land();
  const never = client.join("c");
  const left = client.leave("a");
  client.close();
  assert.equal(await never, false);
  await settle();
  const leave = api.under.find(({ kind }) => kind === "leave");
  assert.equal(leave.signal.aborted, false);
  leave.reject(new Error("down"));
  assert.equal(await left, false);
  told.length = 0;
  await pass(600_000);
  assert.deepEqual(told, []);
});

test("join and leave without the option for it are a mistake", async () => {
  const { client } = await opened();
  assert.throws(() => client.join("a"), /rejoin/);
  assert.throws(() => client.leave("a"), /option leave/);
});
