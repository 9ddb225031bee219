// The client in the real engines, against a real node, over a network that breaks.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { chromiumIsMissing, closeBrowser, ENGINES, missing, Page } from "./engines/engine.js";
import { HOST, Node } from "./engines/node.js";
import { until } from "./engines/patience.js";
import { Proxy } from "./engines/proxy.js";
import { ScriptedNode } from "./engines/script.js";
import { Service } from "./engines/service.js";

const skip = missing();
/** Short pauses, since how long they are is tried with a clock of the test's; and time enough for a busy machine. */
const FAST = { firstPause: 50, longestPause: 100, stableAfter: 50, connectWithin: 60_000 };

let node;
let service;
let scripted;
let clients = 100;

before(async () => {
  if (skip) return;
  node = await new Node().start();
  service = await new Service(node).listen();
  scripted = await new ScriptedNode().listen();
});

after(async () => {
  await closeBrowser();
  scripted?.close();
  service?.close();
  await node?.stop();
});

/**
 * A client in an engine, with a proxy and an account of its own. It is connected unless `options` is null.
 * @param {import("node:test").TestContext} t
 */
async function arrive(t, start, options = {}) {
  const client = (clients += 1);
  const proxy = await new Proxy(node.address).listen(HOST);
  const account = service.account(client, proxy);
  const person = await start(service.url);
  t.after(async () => {
    await person.leave();
    proxy.close();
  });
  const connect = async (more = {}) => {
    await person.command({ start: { ...FAST, address: `${service.url}/address/${client}`, ...more } });
    await person.command({ call: "connect" });
  };
  if (options) {
    await connect(options);
    await person.state("open");
    await until("the node has it", () => node.isOnline(client));
  }
  return { client, proxy, account, person, connect };
}

/** Messages arrive, each once. */
async function works({ client, person }) {
  const from = person.told.length;
  await node.send(client, { from });
  await person.heard("a message", ({ type, detail }) => type === "message" && detail.from === from, from);
}

/** Every attempt that failed was told by one end. */
function assertOneEndEach(person, end) {
  const words = person.short();
  const attempts = words.filter((word) => word === "connecting").length;
  const ends = words.filter((word) => word === "waiting").length;
  assert.equal(words.filter((word) => word === end).length, ends, words.join());
  const underWay = words.at(-1) === "connecting" ? 1 : 0;
  assert.equal(attempts, underWay + ends + words.filter((word) => word === "open").length / 2, words.join());
}

const attempts = (person, count) =>
  until(`attempts; told: ${person.short()}`, () => person.isGone || person.short().filter((word) => word === "waiting").length >= count);

describe("engines", { concurrency: 5, skip }, () => {
  for (const [name, { start, isMissing }] of Object.entries(ENGINES)) {
    describe(name, { concurrency: 3, skip: isMissing }, () => {
      test("connects, receives, and is kicked", async (t) => {
        const one = await arrive(t, start, {});
        await works(one);
        await node.send(1, "to nobody", { sender: one.client, receipt: true });
        const { detail } = await one.person.heard("a receipt", ({ type }) => type === "receipt");
        assert.deepEqual([detail.content, detail.status, String(detail.to)], ["to nobody", "offline", "1"]);
        await node.ask("DELETE", `/v1/clients/${one.client}/connections`);
        await one.person.state("kicked");
        await one.person.settled();
        assert.equal(one.account.calls.address, 1);
        assert.equal(one.account.headers.address["cache-control"], "no-cache");
      });

      for (const refusal of ["refused", "rst", "fin", 401, 429, 503]) {
        test(`a handshake that ends as ${refusal} is one end, and is tried again`, async (t) => {
          const one = await arrive(t, start, null);
          if (refusal === "refused") await one.proxy.refuse();
          else one.proxy.mode = refusal;
          await one.connect();
          await attempts(one.person, 3);
          if (refusal === "refused") await one.proxy.accept();
          one.proxy.mode = "pass";
          await one.person.state("open");
          await works(one);
          assertOneEndEach(one.person, "close 1006");
          await until("one connection", async () => (await node.connectionsOf(one.client)) === 1);
        });
      }

      test("a handshake that hangs is given up, and the next ones have more time", async (t) => {
        const one = await arrive(t, start, null);
        one.proxy.mode = "hang";
        await one.connect({ connectWithin: 1_000 });
        await attempts(one.person, 3);
        const limits = one.person.told.filter(({ type }) => type === "error").map(({ message }) => /within (\d+)/.exec(message)[1]);
        assert.deepEqual(limits.slice(0, 3), ["1000", "1500", "2250"]);
        one.proxy.mode = "pass";
        await one.person.state("open");
        await works(one);
        assertOneEndEach(one.person, "error timeout");
      });

      test("a slow way that needs more than the first limit is found", async (t) => {
        const one = await arrive(t, start, null);
        one.proxy.delayMs = 600;
        await one.connect({ connectWithin: 1_000 });
        await one.person.state("open");
        await works(one);
      });

      for (const when of ["hang", "delay"]) {
        test(`close while connecting (${when}) is quiet, and connect leads on`, async (t) => {
          const one = await arrive(t, start, null);
          if (when === "hang") one.proxy.mode = "hang";
          else one.proxy.delayMs = 300;
          await one.connect();
          await until("a handshake", () => one.proxy.heard > 0);
          await one.person.command({ call: "close" });
          await one.person.settled();
          one.proxy.mode = "pass";
          await one.person.command({ call: "connect" });
          await one.person.state("open");
          await works(one);
          assert.deepEqual(one.person.short().filter((word) => /close |error/.test(word)), []);
          await until("no connection is left over", async () => (await node.connectionsOf(one.client)) === 1);
        });
      }

      for (const how of ["rst", "fin", "kill -9 of the way"]) {
        test(`a link that breaks (${how}) comes back, with its rooms`, async (t) => {
          const room = `room${clients}${name.length}`;
          const one = await arrive(t, start, null);
          await one.connect({ rooms: [room], rejoin: `${service.url}/join/${one.client}` });
          for (let round = 0; round < 3; round += 1) {
            const from = one.person.told.length;
            if (round) one.proxy.cut(how === "rst" ? "rst" : "fin");
            const { detail } = await one.person.heard("open", ({ type }) => type === "open", from && from - 1);
            assert.equal(detail.isReconnect, round > 0);
            await one.person.heard("rejoined", ({ type }) => type === "rejoined", from && from - 1);
            await node.ask("POST", `/v1/channels/${room}/messages`, { message: { round } });
            await one.person.heard("a room's message", ({ type, detail: { round: heard } = {} }) => type === "message" && heard === round);
          }
        });
      }

      for (const how of ["rst", "fin", "swallow"]) {
        test(`a link that breaks (${how}) costs no message of a client that resumes`, async (t) => {
          const one = await arrive(t, start, { resume: true, handles: true });
          await one.person.heard("the first load", ({ type }) => type === "loads");
          let sent = 0;
          const send = () => node.send(one.client, { number: (sent += 1) });
          const handled = () => one.person.told.filter(({ type }) => type === "handled").map(({ detail }) => detail.number);
          await send();
          await until("it is there", () => handled().length === 1);
          for (let round = 0; round < 3; round += 1) {
            const from = one.person.told.length;
            if (how === "swallow") {
              one.proxy.mode = "swallow";
              await send();
              // What was under way is lost; the way is free for another connection.
              one.proxy.mode = "pass";
            }
            one.proxy.cut(how === "rst" ? "rst" : "fin");
            await send();
            await one.person.heard("it is resumed", ({ type }) => type === "resumed", from);
            await send();
            await until(`all are there, of ${sent}: ${handled()}`, () => handled().length >= sent);
          }
          assert.deepEqual(handled(), Array.from({ length: sent }, (_, index) => index + 1));
          assert.equal(one.person.told.filter(({ type }) => type === "loads").length, 1);
          await until("one connection", async () => (await node.connectionsOf(one.client)) === 1);
        });
      }

      test("a link that dies in silence is found by check and silence", async (t) => {
        const one = await arrive(t, start, null);
        await one.connect({ silence: 1_000, checkWithin: 2_000, check: `${service.url}/check/${one.client}` });
        await one.person.state("open");
        await until("checks that are answered", () => one.account.calls.check > 1);
        assert.deepEqual(one.person.short().filter((word) => word === "error dead"), []);
        one.proxy.mode = "swallow";
        await one.person.heard("the death", ({ kind }) => kind === "dead");
        one.proxy.mode = "pass";
        await one.person.state("open", one.person.told.findIndex(({ kind }) => kind === "dead"));
        await works(one);
      });

      for (const mood of ["hang", { status: 503 }]) {
        test(`a check that ends as ${JSON.stringify(mood)} takes no living link away`, async (t) => {
          const one = await arrive(t, start, null);
          one.account.mood.check = mood;
          await one.connect({ silence: 500, checkWithin: 300, check: `${service.url}/check/${one.client}` });
          await one.person.state("open");
          await until("a check", () => (mood === "hang" ? one.account.givenUp.check : one.account.calls.check));
          await works(one);
          assert.deepEqual(one.person.short().filter((word) => word === "waiting"), []);
          assert.equal(one.account.calls.address, 1);
        });
      }

      test("what closes ask for is kept, 4003 ends it, binary frames are told", async (t) => {
        const one = await arrive(t, start, null);
        const answer = (path) => { one.account.mood.address = { body: { url: `${scripted.url}/${path}` } }; };
        answer(`close/1012/${encodeURIComponent('{"after":1500,"spread":0}')}`);
        await one.connect();
        const { pause } = await one.person.state("waiting");
        assert.ok(pause > 1_000 && pause <= 1_500, `a pause of ${pause} ms`);
        answer("binary");
        await one.person.heard("the binary frame", ({ kind }) => kind === "decode");
        await one.person.command({ call: "close" });
        const from = one.person.told.length;
        answer("close/4003/too many connections");
        await one.person.command({ call: "connect" });
        await one.person.state("failed", from);
        await one.person.settled();
        assert.deepEqual(one.person.short(from).slice(-3), ["close 4003", "failed", "error protocol"]);
      });

      test("a frame that no engine accepts is one end", async (t) => {
        const one = await arrive(t, start, null);
        one.account.mood.address = { body: { url: `${scripted.url}/rubbish` } };
        await one.connect();
        await until("some of them", () => one.person.isGone || one.person.short().filter((word) => word === "waiting").length > 1);
        one.account.mood.address = "ok";
        await until("a message", async () => {
          await node.send(one.client, "back");
          return one.person.told.some(({ detail }) => detail === "back");
        });
        const words = one.person.short();
        const ends = words.filter((word) => word.startsWith("close ")).length;
        assert.equal(ends, words.filter((word) => word === "waiting").length, words.join());
      });

      test("a web API that refuses, hangs, or answers nonsense", async (t) => {
        const one = await arrive(t, start, null);
        one.account.mood.address = "hang";
        await one.connect({ connectWithin: 100 });
        await until("calls that were given up", () => one.account.givenUp.address > 7);
        one.account.mood.address = { body: { error: "busy" } };
        await one.person.heard("what it said", ({ kind, message }) => kind === "url" && message.includes("busy"));
        one.account.mood.address = { body: { url: "/ws" } };
        await one.person.heard("what it said", ({ kind, message }) => kind === "url" && message.includes('"/ws"'));
        const from = one.person.told.length;
        one.account.mood.address = { status: 503, headers: { "Retry-After": "1" } };
        await one.person.heard("its Retry-After", ({ pause }) => pause > 900, from);
        one.account.mood.address = "ok";
        await one.person.state("open", from);
        await works(one);
        one.account.mood.address = { status: 401 };
        one.proxy.cut("rst");
        await one.person.state("failed");
      });

      test("an address from a cache is told", async (t) => {
        const one = await arrive(t, start, null);
        one.account.mood.address = { body: { url: await node.addressOf(one.client, one.proxy) } };
        await one.connect();
        await one.person.state("open");
        one.proxy.cut("fin");
        await one.person.heard("the reason", ({ kind, message }) => kind === "url" && message.includes("cached"));
      });
    });
  }

  describe("pages", { concurrency: 3, skip: chromiumIsMissing }, () => {
    const start = ENGINES.Chromium.start;

    async function freeze({ client, person: { tab } }) {
      // Only hidden pages are frozen, and a page whose focus is emulated is none.
      await tab.send("Emulation.setFocusEmulationEnabled", { enabled: false });
      await tab.send("Page.setWebLifecycleState", { state: "frozen" });
      await until("it is offline", async () => !(await node.isOnline(client)));
    }

    test("a policy that forbids the address is told as such, at once", async (t) => {
      const policy = encodeURIComponent(`connect-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'`);
      const one = await arrive(t, (url) => Page.open(`${url}/?csp=${policy}`), null);
      await one.connect();
      await one.person.heard("a third one", ({ kind }, index) => kind === "url" && one.person.short().filter((word) => word === "error url").length > 2);
      const { message } = await one.person.heard("why", ({ kind }) => kind === "url");
      assert.match(message, /CSP.*connect-src/);
      assertOneEndEach(one.person, "error url");
    });

    test("a frozen page is offline, and comes back", async (t) => {
      const one = await arrive(t, start, {});
      await freeze(one);
      const from = one.person.told.length;
      await one.person.tab.send("Page.setWebLifecycleState", { state: "active" });
      await one.person.state("open", from);
      await works(one);
    });

    test("a page in the back-forward cache is offline, and comes back", async (t) => {
      const one = await arrive(t, start, {});
      await one.person.tab.send("Page.navigate", { url: `${service.url}/?another` });
      await until("it is offline", async () => !(await node.isOnline(one.client)));
      const from = one.person.told.length;
      const { entries } = await one.person.tab.send("Page.getNavigationHistory", {});
      const { id } = entries.find(({ url }) => url === `${service.url}/`);
      await one.person.tab.send("Page.navigateToHistoryEntry", { entryId: id });
      await one.person.state("open", from);
      await works(one);
    });

    test("kicked while it is put away, the page asks, and the web API's no is the end", async (t) => {
      const one = await arrive(t, start, {});
      await freeze(one);
      await node.ask("DELETE", `/v1/clients/${one.client}/connections`);
      one.account.mood.address = { status: 401 };
      await one.person.tab.send("Page.setWebLifecycleState", { state: "active" });
      await one.person.state("failed");
      assert.equal(await node.isOnline(one.client), false);
    });

    const handled = (person) => person.told.filter(({ type }) => type === "handled").map(({ detail }) => detail.number);

    /** Two tabs that share, of which the second leads, when both have had a first message. */
    async function share(t) {
      const one = await arrive(t, start, null);
      const options = { address: `${service.url}/address/${one.client}`, resume: true, handles: true, share: String(one.client) };
      const leader = await Page.open(`${service.url}/`, one.person);
      await leader.command({ start: { ...FAST, ...options } });
      await leader.command({ call: "connect" });
      await leader.state("open");
      await one.connect(options);
      await one.person.state("open");
      await one.person.heard("its load", ({ type }) => type === "loads");
      await node.send(one.client, { number: 1 });
      await until("both have it", () => handled(leader).length === 1 && handled(one.person).length === 1);
      assert.deepEqual([await node.connectionsOf(one.client), one.account.calls.address], [1, 1]);
      return { one, leader };
    }

    test("tabs share one connection, and when the one that leads is closed the next goes on from there", async (t) => {
      const { one, leader } = await share(t);
      await leader.tab.closeTab();
      for (const number of [2, 3]) await node.send(one.client, { number });
      await until(() => `the next has all: ${handled(one.person)}`, () => handled(one.person).length >= 3);
      assert.deepEqual(handled(one.person), [1, 2, 3]);
      assert.equal(one.person.told.filter(({ type }) => type === "loads").length, 1);
      await until("one connection", async () => (await node.connectionsOf(one.client)) === 1);
    });

    test("when no code runs in the tab that leads, one that comes into view goes on from there", async (t) => {
      const { one, leader } = await share(t);
      await leader.tab.send("Debugger.enable");
      await leader.tab.send("Debugger.pause");
      await node.send(one.client, { number: 2 });
      await one.person.tab.run(() => void document.dispatchEvent(new Event("visibilitychange")));
      await until(() => `the other tab has it: ${handled(one.person)}`, () => handled(one.person).length === 2);
      const from = leader.told.length;
      await leader.tab.send("Debugger.disable");
      await leader.heard("its load", ({ type }, index) => index >= from && type === "loads");
      await node.send(one.client, { number: 3 });
      await until("both have it", () => [leader, one.person].every((person) => handled(person).at(-1) === 3));
      assert.deepEqual(handled(one.person), [1, 2, 3]);
      assert.equal(await node.connectionsOf(one.client), 1);
    });

    test("a network that goes and comes leaves a link that works", async (t) => {
      const one = await arrive(t, start, {});
      for (let round = 0; round < 3; round += 1) {
        const from = one.person.told.length;
        await one.person.tab.network(false);
        await one.person.state("offline", from);
        await one.person.tab.network(true);
        await until("it is open", () => one.person.tab.run(() => navigator.onLine));
        await until("a message", async () => {
          await node.send(one.client, { round });
          return one.person.told.some(({ type, detail }) => type === "message" && detail.round === round);
        });
      }
      await until("one connection", async () => (await node.connectionsOf(one.client)) === 1);
    });
  });
});
