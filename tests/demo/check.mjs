// Two people use the demo in a real browser; whatever they should see is waited for.
//
//   cargo build --release --example chat
//   node tests/demo/check.mjs [--redis URL] [--shots DIRECTORY] [--docs]
//
// With --redis each person's page comes from a node of its own; give a Redis that holds nothing else.
// --shots keeps a picture of every stage; --docs renews the two pictures in docs/images. CHROMIUM and
// CHAT_BIN name other programs than the default ones.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Browser } from "./browser.mjs";
import { Demo } from "./server.mjs";

const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 720, phone: true, scale: 2 };
const IMAGES = fileURLToPath(new URL("../../docs/images/", import.meta.url));
const { values: options } = parseArgs({
  options: { redis: { type: "string" }, shots: { type: "string" }, docs: { type: "boolean" } },
});

/** One person at one page: the gestures of the story. */
class Person {
  static all = [];

  static async arrive(browser, url, nick, size) {
    const person = new Person();
    person.page = await browser.open(url, size);
    person.nick = nick;
    Person.all.push(person);
    return person;
  }

  async enter() {
    await this.page.fill("#nick", this.nick);
    await this.page.press("Enter");
    await this.online();
  }

  online() {
    return this.page.until(`${this.nick} is online`, () => document.getElementById("state").dataset.state === "open");
  }

  /** Clicks an item of one of the lists and waits for its conversation. */
  async open(list, name) {
    await this.page.click(list.split(" ").map((id) => `#list-${id} .item`).join(), name);
    await this.page.until(`${this.nick} is in ${name}`, (wanted) => document.getElementById("thread-name").textContent === wanted, name);
  }

  async joinNew(name) {
    await this.page.click("[data-action=new-room]");
    await this.page.fill("#room-name", name);
    await this.page.press("Enter");
    await this.page.until(`${this.nick} is in ${name}`, (wanted) => document.getElementById("thread-name").textContent === wanted, name);
  }

  async say(text) {
    await this.page.fill("#text", text);
    await this.page.press("Enter");
    await this.sees(text);
  }

  sees(text) {
    return this.page.until(`${this.nick} sees "${text}"`, (wanted) =>
      [...document.querySelectorAll("#messages .bubble, #messages .notice")].some((found) => found.textContent === wanted), text);
  }

  /** The number beside a room in the list. */
  seesCount(name, count) {
    return this.page.until(`${this.nick} sees ${count} in ${name}`, (room, wanted) =>
      [...document.querySelectorAll("#list-rooms .item, #list-more .item")].some((item) =>
        item.querySelector(".item-label").textContent === room
        && item.querySelector(".item-note").textContent === wanted),
      name, String(count));
  }

  seesUnread(list, label, count) {
    return this.page.until(`${this.nick} has ${count} unread from ${label}`, (where, who, wanted) =>
      [...document.querySelectorAll(`#${where} .item`)].some((item) =>
        item.querySelector(".item-label").textContent === who && item.querySelector(".badge").textContent === wanted),
      list, label, String(count));
  }

  seesState(state) {
    return this.page.until(`${this.nick}'s last message is ${state}`, (wanted) =>
      [...document.querySelectorAll("#messages .message-state")].at(-1)?.dataset.state === wanted, state);
  }

  id() {
    return this.page.run(() => document.getElementById("me-id").title);
  }

  async shot(name) {
    if (options.shots) await this.page.screenshot(join(options.shots, `${name}.png`));
  }
}

async function roomsAndCounts(heron, fox) {
  await heron.open("rooms", "lobby");
  await fox.open("rooms", "lobby");
  await heron.seesCount("lobby", 2);
  await fox.seesCount("lobby", 2);
  await heron.say("Morning! Is the new node up?");
  await fox.sees("Morning! Is the new node up?");
  await fox.say("It is. Took over its third of the clients without a hiccup.");
  await fox.say("Dashboard: http://127.0.0.1:9090/nodes");
  await heron.sees("Dashboard: http://127.0.0.1:9090/nodes");

  await heron.joinNew("release");
  await fox.seesCount("release", 1);
  await fox.open("more", "release");
  await heron.seesCount("release", 2);
  await heron.sees("red fox joined");
  await heron.shot("blank-room");
  await fox.page.click("#leave");
  await heron.seesCount("release", 1);
  await heron.sees("red fox left");
  await fox.open("rooms", "lobby");
  await heron.open("rooms", "lobby");
}

async function textStaysText(heron, fox) {
  const hostile = "<img src=x onerror=\"document.title='owned'\">";
  await heron.open("rooms", "release");
  await fox.open("more", "release");
  await fox.say(hostile);
  await heron.sees(hostile);
  const injected = await heron.page.run(() => document.querySelectorAll("#messages img").length);
  if (injected) throw new Error("a message became markup");
  await fox.say('{"msg":{"type":"welcome"}}');
  await heron.sees('{"msg":{"type":"welcome"}}');
  await fox.page.click("#leave");
  await fox.open("rooms", "lobby");
}

async function privateMessages(browser, url, heron, fox) {
  await heron.open("online members", "red fox");
  await heron.say("Can you tag it after lunch?");
  await heron.seesState("delivered");
  await fox.seesUnread("list-direct", "blue heron", 1);
  await fox.shot("unread");
  await fox.open("direct", "blue heron");
  await fox.sees("Can you tag it after lunch?");
  await fox.say("Will do.");
  await heron.sees("Will do.");
  await heron.shot("direct");

  const owl = await Person.arrive(browser, url, "grey owl", DESKTOP);
  await owl.enter();
  await heron.open("online members", "grey owl");
  await heron.say("Hello?");
  await heron.seesState("delivered");
  await owl.page.close();
  await heron.page.until("the owl is gone", () => document.getElementById("thread-sub").textContent.startsWith("Offline"));
  await heron.say("Are you still there?");
  await heron.seesState("offline");
  await heron.shot("direct-offline");
}

async function broadcast(heron, fox) {
  await fox.open("all", "Everyone");
  await fox.say("Maintenance at 18:00: the push nodes restart one by one.");
  await heron.seesUnread("list-all", "Everyone", 1);
}

/** What a page written for the original does: its field names, its envelope, its double decoding; and the session. */
async function originalPage(fox) {
  const shown = await fox.page.run(async () => {
    const post = (route, fields) =>
      fetch(`/ws/${route}`, { method: "POST", body: new URLSearchParams(fields) }).then((answer) => answer.json());
    const [reader, writer] = [await post("pre-connect", {}), await post("pre-connect", {})];
    const socket = new WebSocket(reader.server);
    await new Promise((resolve) => { socket.onopen = resolve; });
    const next = (type) => new Promise((resolve) => {
      socket.addEventListener("message", ({ data }) => {
        const message = JSON.parse(JSON.parse(data));
        if (message.type === type) resolve(message);
      });
    });
    // A page that doubts its only socket has the service send it something.
    const [received, checked] = [next("chanmsg"), next("check")];
    await post("check", { websocketId: reader.websocketId, session: reader.session });
    await checked;
    await post("subscr-channel", { websocketid: reader.websocketId, session: reader.session, channel: "old" });
    const message = { type: "chanmsg", sender: 1, senderNick: "old page", chan: "old", time: 5, msg: { type: "text", content: "hi" } };
    await post("send-channelmsg", { websocketId: writer.websocketId, session: writer.session, channel: "old", message: JSON.stringify(message) });
    const { senderNick, msg, sender } = await received;
    socket.close();
    return { senderNick, content: msg.content, honest: sender === writer.websocketId };
  });
  if (shown.senderNick !== "old page" || shown.content !== "hi" || !shown.honest) {
    throw new Error(`the original's page would show ${JSON.stringify(shown)}`);
  }
}

async function restart(demo, heron, fox) {
  await heron.open("rooms", "lobby");
  await fox.open("rooms", "lobby");
  await demo.stop("SIGKILL");
  for (const { nick, page } of [heron, fox]) {
    await page.until(`${nick} notices`, () => !document.getElementById("banner").hidden);
  }
  await heron.page.until("nobody is said to be online", () =>
    ![...document.querySelectorAll(".face.is-online")].some((face) => face.checkVisibility()));
  await heron.shot("reconnecting");
  await demo.start();
  await heron.online();
  await fox.online();
  await heron.seesCount("lobby", 2);
  await fox.seesCount("lobby", 2);
  await heron.say("Back again.");
  await fox.sees("Back again.");
  await fox.say("So am I.");
  await heron.sees("So am I.");
}

/** No network for a while: noticed at once, and at once back when it returns. */
async function networkAway(heron, fox) {
  await heron.page.network(false);
  await heron.page.until("the heron notices", () =>
    document.getElementById("state").dataset.state === "offline" && !document.getElementById("banner").hidden);
  await heron.shot("offline");
  await heron.page.network(true);
  await heron.online();
  await heron.page.until("the banner is gone", () => document.getElementById("banner").hidden);
  await heron.seesCount("lobby", 2);
  await fox.say("You were away.");
  await heron.sees("You were away.");
  await heron.say("Only for a moment.");
  await fox.sees("Only for a moment.");
}

/** What was sent while a page had no network is there when it is back: in order, once; and nobody saw it go. */
async function missesNothing(heron, fox) {
  await heron.open("rooms", "lobby");
  await fox.open("rooms", "lobby");
  await fox.page.run(() => {
    globalThis.sawHeronGo = false;
    new MutationObserver(() => {
      const counts = [...document.querySelectorAll("#list-rooms .item")];
      const lobby = counts.find((item) => item.querySelector(".item-label").textContent === "lobby");
      if (lobby && lobby.querySelector(".item-note").textContent !== "2") globalThis.sawHeronGo = true;
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await heron.page.network(false);
  await heron.page.until("the heron notices", () => document.getElementById("state").dataset.state === "offline");
  const texts = ["One while you were away.", "Two while you were away.", "Three while you were away."];
  for (const text of texts) await fox.say(text);
  await heron.page.network(true);
  await heron.online();
  await heron.sees(texts.at(-1));
  const shown = await heron.page.run(() =>
    [...document.querySelectorAll("#messages .bubble")].map(({ textContent }) => textContent).filter((text) => text.endsWith("while you were away.")));
  if (shown.join() !== texts.join()) throw new Error(`after the network was away: ${JSON.stringify(shown)}`);
  if (await fox.page.run(() => globalThis.sawHeronGo)) throw new Error("the fox was told that the heron had gone");
}

/** What a link, a form of another page, or somebody who knows an id may do: nothing. */
async function strangers(url, fox) {
  const id = await fox.id();
  const status = (method, headers = {}) =>
    fetch(`${url}ws/offline?websocketId=${id}`, { method, headers }).then((answer) => answer.status);
  const statuses = [await status("GET"), await status("POST"), await status("POST", { Origin: "http://example.com" })];
  if (statuses.join() !== "405,403,403") throw new Error(`kicked by a stranger: ${statuses}`);
  const name = await fetch(`${url}ws/send-broadcast`, {
    method: "POST",
    body: new URLSearchParams({ websocketId: id, message: "I am the fox" }),
  });
  if (name.status !== 403) throw new Error(`a stranger writes as the fox: ${name.status}`);
  await fox.online();
}

/** Posts of one person arrive as they were sent; one that is sent again comes last, for its sender as well. */
async function order(heron, fox) {
  const texts = (person) => person.page.run(() =>
    [...document.querySelectorAll("#messages .bubble")].map(({ textContent }) => textContent).filter((text) => text.startsWith("No. ")));
  await heron.joinNew("posts");
  await fox.open("more", "posts");
  await heron.page.run(() => {
    for (let number = 1; number <= 10; number += 1) {
      document.getElementById("text").value = `No. ${number}`;
      document.getElementById("composer").requestSubmit();
    }
  });
  await fox.sees("No. 10");
  const expected = Array.from({ length: 10 }, (_, index) => `No. ${index + 1}`).join();
  if (String(await texts(fox)) !== expected) throw new Error(`they arrived as ${await texts(fox)}`);

  await heron.page.run(() => {
    window.realFetch = window.fetch;
    window.fetch = () => Promise.reject(new TypeError("no network"));
  });
  await heron.say("No. 11, late");
  await heron.seesState("failed");
  await heron.page.run(() => { window.fetch = window.realFetch; });
  await heron.say("No. 12");
  await heron.page.run(() => document.querySelector(".message-state .link").click());
  await fox.sees("No. 11, late");
  for (const person of [heron, fox]) {
    const last = (await texts(person)).slice(-2).join();
    if (last !== "No. 12,No. 11, late") throw new Error(`${person.nick} sees ${last}`);
    await person.page.click("#leave");
  }
  await heron.open("rooms", "lobby");
  await fox.open("rooms", "lobby");
}

async function kick(fox) {
  await fox.page.run(() => {
    const { me: { id, session } } = JSON.parse(sessionStorage.getItem("imcore.chat"));
    return fetch("/ws/offline", { method: "POST", body: new URLSearchParams({ websocketId: id, session }) });
  });
  await fox.page.until("the fox is told", () => document.getElementById("kicked-dialog").open);
  await fox.shot("kicked");
  const state = await fox.page.run(() => document.getElementById("state").dataset.state);
  if (state !== "kicked") throw new Error(`kicked, but the page is ${state}`);
  await fox.page.click("[data-action=reconnect]");
  await fox.online();
}

async function languages(fox) {
  await fox.page.click(".me [data-action=language]");
  await fox.page.until("Chinese", () => document.documentElement.lang === "zh-CN" && document.querySelector("#list-all .item-label").textContent === "所有人");
  await fox.shot("chinese");
  await fox.page.click(".me [data-action=language]");
  await fox.page.until("English", () => document.querySelector("#list-all .item-label").textContent === "Everyone");
}

/** The lobby as one would like to show it, and no pixel wider than a phone. */
async function pictures(browser, [url, otherUrl], heron, fox) {
  const owl = await Person.arrive(browser, url, "grey owl", DESKTOP);
  const newt = await Person.arrive(browser, otherUrl, "amber newt", DESKTOP);
  await owl.enter();
  await newt.enter();
  await owl.joinNew("design");
  await newt.joinNew("reading club");
  await heron.open("rooms", "lobby");
  await fox.open("rooms", "lobby");
  await heron.say("Rolling restart is done. Did anybody lose a connection?");
  await owl.open("rooms", "lobby");
  await owl.say("Lost it, and had it back before I could click anything.");
  await owl.say("Rooms were rejoined as well.");
  await fox.say("Same here, not a single click.");
  await newt.open("rooms", "lobby");
  await newt.open("members", "blue heron");
  await newt.say("Do you have a minute?");
  await heron.seesUnread("list-direct", "amber newt", 1);
  await heron.say("Then the demo is ready. Open it on your phones, too.");
  await fox.sees("Then the demo is ready. Open it on your phones, too.");
  await heron.seesCount("lobby", 4);
  await heron.shot("desktop");
  await heron.page.dark(true);
  await heron.shot("desktop-dark");
  await heron.page.dark(false);
  if (options.docs) await heron.page.screenshot(join(IMAGES, "chat-desktop.png"));

  await fox.page.resize(PHONE);
  await fox.page.until("fits a phone", () => document.documentElement.scrollWidth <= innerWidth);
  await fox.page.run(() => { document.getElementById("log").scrollTop = 1e6; });
  await fox.shot("phone-thread");
  if (options.docs) await fox.page.screenshot(join(IMAGES, "chat-phone.png"));
  await fox.page.click(".people-toggle");
  await fox.page.until("the drawer is open", () => document.getElementById("people").getBoundingClientRect().right <= innerWidth + 0.5);
  await fox.shot("phone-people");
  await fox.page.click(".people-close");
  await fox.page.click(".back");
  await fox.page.until("the list", () => document.body.dataset.pane === "list");
  await fox.page.click("#list-rooms .item", "lobby");
  await fox.page.until("the thread", () => document.body.dataset.pane === "thread");
  await fox.page.run(() => history.back());
  await fox.page.until("the list again", () => document.body.dataset.pane === "list");
  await heron.say("Unread on the phone.");
  await fox.seesUnread("list-rooms", "lobby", 1);
  await fox.page.until("people who can be written to", () =>
    [...document.querySelectorAll("#list-reachable .item")].some((item) => item.textContent.includes("grey owl") && item.checkVisibility()));
  await fox.page.until("the list fits a phone", () => document.documentElement.scrollWidth <= innerWidth);
  await fox.shot("phone-list");
  await fox.page.dark(true);
  await fox.shot("phone-list-dark");
  await fox.page.dark(false);
  await owl.page.close();
  await newt.page.close();
}

/** In both colours, on both sizes. */
async function isReadable(heron, fox) {
  for (const { nick, page } of [heron, fox]) {
    for (const dark of [false, true]) {
      await page.dark(dark);
      const pale = await page.pale();
      if (pale.length) throw new Error(`${nick}, ${dark ? "dark" : "light"}: ${pale.join("; ")}`);
    }
    await page.dark(false);
  }
}

async function reloadKeeps(heron) {
  await heron.page.send("Page.reload");
  await heron.page.until("reloaded", () => document.querySelectorAll("#messages .bubble").length > 3);
  await heron.online();
  await heron.seesCount("lobby", 2);
}

async function story(browser, demo) {
  const [url, otherUrl] = demo.urls;
  const heron = await Person.arrive(browser, url, "blue heron", DESKTOP);
  const fox = await Person.arrive(browser, otherUrl, "red fox", DESKTOP);
  await heron.page.until("the welcome", () => document.getElementById("welcome")?.checkVisibility() && document.activeElement.id === "nick");
  await heron.shot("welcome");
  const steps = [
    ["both enter", async () => { await heron.enter(); await fox.enter(); }],
    ["rooms and counts", () => roomsAndCounts(heron, fox)],
    ["text stays text", () => textStaysText(heron, fox)],
    ["private messages and receipts", () => privateMessages(browser, otherUrl, heron, fox)],
    ["broadcast", () => broadcast(heron, fox)],
    ["a page for the original", () => originalPage(fox)],
    ["restart of the server", () => restart(demo, heron, fox)],
    ["network away and back", () => networkAway(heron, fox)],
    ["messages while the network is away", () => missesNothing(heron, fox)],
    ["order of posts", () => order(heron, fox)],
    ["strangers", () => strangers(url, fox)],
    ["kick", () => kick(fox)],
    ["languages", () => languages(fox)],
    ["pictures", () => pictures(browser, demo.urls, heron, fox)],
    ["contrast", () => isReadable(heron, fox)],
    ["reload", () => reloadKeeps(heron)],
  ];
  for (const [name, step] of steps) {
    const began = Date.now();
    try {
      await step();
    } catch (error) {
      for (const person of Person.all) await person.shot(`failed-${person.nick.replace(" ", "-")}`).catch(() => {});
      throw new Error(`${name}: ${error.message}`);
    }
    console.log(`ok  ${name} (${Date.now() - began} ms)`);
  }
  const problems = [...heron.page.problems, ...fox.page.problems];
  if (problems.length) throw new Error(`the pages complained: ${problems.join("; ")}`);
}

async function main() {
  if (options.shots) await mkdir(options.shots, { recursive: true });
  if (options.docs) await mkdir(IMAGES, { recursive: true });
  const demo = await Demo.prepare(options.redis);
  const browser = await Browser.launch(process.env.CHROMIUM ?? "/usr/bin/chromium");
  try {
    await demo.start();
    await story(browser, demo);
    await demo.stop("SIGTERM");
    console.log("ok  clean end");
  } finally {
    await browser.close();
    await demo.stop("SIGKILL");
  }
}

main().catch((error) => {
  console.error(`FAILED  ${error.message}`);
  process.exitCode = 1;
});
