// Looks at the admin page of a running cluster in a real browser; `page.rs` starts the cluster and keeps
// it busy.
//
//   node tests/admin/page.mjs URL TOKEN CLIENT [FOLDER]
//
// Says on standard output what is to happen on the other side, and goes on when a line comes back. With
// FOLDER it waits until there is something to see and leaves pictures there. CHROMIUM names another
// program than the default one.

import assert from "node:assert/strict";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Browser } from "../demo/browser.mjs";

const [url, token, client, folder] = process.argv.slice(2);
const hostile = "<img src=x onerror='hacked = 1'>";
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function step(what) {
  console.log(what);
  assert.ok(!(await answers.next()).done, `nobody did: ${what}`);
}

const browser = await Browser.launch(process.env.CHROMIUM ?? "chromium");
const page = await browser.open(url, { width: 1280, height: 1000 });
const text = (selector) => page.run((wanted) => document.querySelector(wanted).textContent, selector);
const says = (selector, words) => page.until(`${selector} says ${words}`,
  (wanted, holds) => document.querySelector(wanted)?.textContent.includes(holds), selector, words);

/** A wrong token is asked for again, the right one shows the cluster. */
async function getIn() {
  await page.until("asks for the token", () => document.getElementById("ask-token")?.open);
  await page.fill("#token", "not-the-token-of-this-node");
  await page.press("Enter");
  await says("#ask-token-why", "That was not it.");
  await page.until("asks again", () => document.getElementById("ask-token").open);
  await page.fill("#token", token);
  await page.press("Enter");
  await page.until("all ready", () => document.getElementById("state")?.textContent === "3 nodes ready");
}

/** The address in a node's start line brings its token along, which does not stay there. */
async function getInByAddress() {
  const other = await browser.open(`${url}#token=${token}`, { width: 800, height: 600 });
  await other.until("all ready", () => document.getElementById("state")?.textContent === "3 nodes ready");
  assert.equal(await other.run(() => location.hash), "");
}

async function seeTheCluster() {
  await page.until("three nodes", () => document.querySelectorAll("#nodes tr").length === 3);
  for (const [index, name] of ["im-0this node", "im-1", "im-2"].entries()) {
    const row = `#nodes tr:nth-child(${index + 1})`;
    assert.equal(await text(`${row} td:first-child`), name);
    assert.equal(await text(`${row} .pill`), "ready");
  }
  // The total is the sum of the rows, and there is a rate once a status has come twice.
  await page.until("totals", () => {
    const number = (element) => Number(element.firstChild.textContent.replaceAll(",", ""));
    const rows = [...document.querySelectorAll("#nodes td[data-label=connections]")].map(number);
    const total = number(document.getElementById("connections"));
    return total > 20 && rows.every((count) => count > 0) && total === rows.reduce((sum, count) => sum + count);
  });
  await page.until("a rate", () => Number(document.getElementById("delivered").textContent.replaceAll(",", "")) > 1);
  await page.until("a line", () => document.querySelectorAll("#chart-messages path").length >= 6);
  await page.until("small lines", () => document.querySelectorAll("#nodes .spark path").length === 3);
  await says("#channels li:first-child", "announcements128");
  await says("#channels", hostile);
  await says("#channels-note", "channels, ");
  await says("#limit", "of 240");
}

async function seeTheClient() {
  await page.fill("#client-id", client);
  await page.press("Enter");
  await says("#found .who", `${client}onlinelives on im-2`);
  await says("#found", "3 connections");
  await says("#found .devices", "Pixel 9");
  await says("#found .chips", "群聊1");
}

/** What clients and channels are called stays text. */
async function seeTheHostileClient() {
  await page.fill("#client-id", "4711");
  await page.press("Enter");
  await says("#found .devices", `<script>hacked = 1</script>\">${hostile}`);
  await says("#found .chips", hostile);
  await page.click(`#channels li:has([title*=hacked]) button`, "Send");
  await says("#ask-message-title", hostile);
  await page.click("#ask-message button", "Cancel");
  assert.equal(await page.run(() => document.querySelectorAll("main :is(script, img), dialog img").length + Number("hacked" in window)), 0);
}

/** Nobody takes webhooks, so there are dead letters; what is done about them is said. */
async function steerTheWebhook() {
  await says("#webhook tr:first-child", "http://127.0.0.1:1/hook?..");
  await says("#webhook .pill", "failing");
  await says("#webhook td:nth-child(2) small", "connection refused");
  await says("#letters-note", "that nobody took in time");
  await says("#letters tr:first-child td:nth-child(2)", "connection refused");
  await says("#groups", "@webhook");
  await picture("admin-webhook");
  await page.click("#letters tr:first-child button", "Replay");
  await says("#done.shown", "It is delivered once more.");
  const first = await text("#letters tr:first-child td:first-child");
  await page.click("#letters tr:first-child button", "Discard");
  await says("#ask-webhook-title", "Discard this message?");
  await page.click("#ask-webhook button", "Cancel");
  assert.equal(await text("#letters tr:first-child td:first-child"), first);
  await page.click("#letters tr:first-child button", "Discard");
  await page.click("#ask-webhook button[value=do]");
  await says("#done.shown", "Discarded.");
  await page.until("it is gone", (gone) => !document.getElementById("letters").textContent.includes(gone), first);
  await page.click("#webhook-switch");
  await says("#ask-webhook-title", "Switch webhooks off?");
  await page.click("#ask-webhook button[value=do]");
  await says("#done.shown", "Webhooks are off.");
  await says("#webhook .pill", "off");
  await says("#webhook td:nth-child(2) small", "by an operator");
  await page.click("#discard-all");
  await page.click("#ask-webhook button[value=do]");
  await page.until("no letters", () => document.getElementById("letters-part").hidden);
  await page.click("#webhook-switch");
  await says("#done.shown", "Webhooks are on.");
}

/** Who is in a channel, and from there to one of them. */
async function seeTheChannel() {
  await page.click("#channels .link", "announcements");
  await says("#found .who", "announcementschannel");
  await says("#found", "100 of 128 members");
  await says("#found .chips", "(offline)");
  await page.click("#channels .link", "lobby");
  await page.click("#found .chips a", client);
  await says("#found .who", `${client}online`);
}

/** What becomes of a channel's messages, and who may be followed here. */
async function followLive() {
  await page.click("#channels .link", "lobby");
  await says("#found .who", "lobby");
  await page.click("#found button", "Follow");
  await says("#follow-note", "as im-0 sees it, for 120 s; what messages say is not shown");
  await write("#found button", '"seen"', "Sent to channel lobby.");
  await says("#followed", "received");
  await says("#followed", "channel lobby");
  await says("#followed", "written");
  await page.run(() => document.getElementById("followed").scrollIntoView());
  await picture("admin-follow");
  await page.click("#follow-stop");
  await says("#follow-note", "it is over");
  await page.fill("#follow-what", client);
  await page.run(() => { document.getElementById("follow-kind").value = "client"; });
  await page.click("#follow button");
  await says("#follow-note", "lives on node im-2: follow it there");
}

/** What goes nowhere is told as that. */
async function writeToNobody() {
  await page.fill("#client-id", "4242424242");
  await page.press("Enter");
  await says("#found .who", "4242424242offline");
  await page.click("#found button", "Send");
  await page.until("asks for the message", () => document.getElementById("ask-message").open);
  await page.click("#ask-message button[value=send]");
  await says("#done.shown", "is offline: the message went nowhere");
}

/** What the page says is found in nobody's name, note or error; `spoken` is what may not be in it. */
const foreign = "script, #about, #language, #calls td:first-child, #channels button, .who b, .who .dim, .meta, .chips a, .chips li, #trouble, "
  + "#nodes td:first-child, td[data-label='版本'], #nodes small, #groups td, #webhook td, #letters td, #events span";
const spokenIn = (spoken) => page.run((foreign, spoken) => {
  const said = [];
  for (const node of document.querySelectorAll("body *")) {
    if (node.closest(foreign)) continue;
    const own = [...node.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map((child) => child.textContent);
    said.push(...own, ...["aria-label", "placeholder", "data-label"].map((name) => node.getAttribute(name) ?? ""));
  }
  // What has no translation: names of things, units.
  const words = /\b(im-[0-9]|imserver|broker|reactor|slot|webhook|WebSocket|GUID|JSON|id|ms|UTF|ping)\b/gi;
  return said.map((text) => text.replace(words, "")).filter((text) => new RegExp(spoken).test(text));
}, foreign, spoken);
const LATIN = "[A-Za-z]{2,}", CHINESE = "[\\u4e00-\\u9fff]";

/** Everything is said in the language of the browser, or the one that was chosen. */
async function speaksBoth() {
  const chinese = await browser.open("about:blank", { width: 390, height: 844, phone: true });
  await chinese.send("Emulation.setUserAgentOverride", { userAgent: "test", acceptLanguage: "zh-CN,en" });
  await chinese.send("Page.navigate", { url: `${url}#token=${token}` });
  await chinese.until("三个节点就绪", () => document.getElementById("state")?.textContent === "3 个节点就绪");
  assert.equal(await chinese.run(() => document.documentElement.lang), "zh-CN");

  assert.equal(await page.run(() => document.documentElement.lang), "en");
  assert.deepEqual(await spokenIn(CHINESE), []);
  await page.click("#language", "中文");
  await page.until("三个节点就绪", () => document.getElementById("state")?.textContent === "3 个节点就绪");
  await says("#found .who", "在线");
  await says("#webhook .pill", "正在失败");
  await page.click("nav a", "本节点");
  await says("#closed", "被踢下线");
  await page.until("a rate", () => document.getElementById("own-delivered").textContent !== "–");
  assert.deepEqual(await spokenIn(LATIN), []);
  await picture("admin-node-chinese");
  await page.click("nav a", "集群");
  await says("#found .who", "在线");
  assert.deepEqual(await spokenIn(LATIN), []);
  await fitsEverywhere("本节点", "集群");
  await page.dark(true);
  assert.deepEqual(await page.pale(), []);
  await page.dark(false);
  if (folder) await takePictures("-chinese");
  // It is remembered.
  await page.send("Page.reload");
  await page.until("三个节点就绪", () => document.getElementById("state")?.textContent === "3 个节点就绪");
  await page.click("#language", "English");
  await page.until("all ready", () => document.getElementById("state")?.textContent === "3 nodes ready");
}

async function isReadable() {
  for (const dark of [false, true]) {
    await page.dark(dark);
    assert.deepEqual(await page.pale(), [], dark ? "dark" : "light");
  }
  await page.dark(false);
}

async function seeNobody() {
  await page.fill("#client-id", "no id");
  await page.press("Enter");
  await says("#found", "is not a client id");
}

async function write(button, message, done) {
  await page.click(button, "Send");
  await page.until("asks for the message", () => document.getElementById("ask-message").open);
  await page.fill("#message", message);
  await page.click("#ask-message button[value=send]");
  await says("#done.shown", done);
}

async function kick() {
  await page.click("#found button", "Kick");
  await says("#ask-kick-what", "Closes 3 connections with code 4001");
  await picture("admin-kick");
  await page.click("#ask-kick button", "Cancel");
  await says("#found .who", "online");
  await page.click("#found button", "Kick");
  await page.click("#ask-kick button[value=kick]");
  await says("#done.shown", `Client ${client} was kicked.`);
}

async function seeThisNode() {
  await page.click("nav a", "This node");
  await says("#own-name", "Connections of im-0");
  await says("#closed", "kicked");
  for (const call of ["tickets", "report", "renew", "publish"]) await says("#calls", call);
  await page.until("a rate", () => document.getElementById("own-delivered").textContent !== "–");
  await picture("admin-node");
  await page.until("the lease", () => /Presence lease\s*held/.test(document.getElementById("feed").textContent));
  await page.click("nav a", "Cluster");
}

async function picture(name) {
  if (folder) await page.screenshot(join(folder, `${name}.png`));
}

async function takePictures(language = "") {
  const desktop = { width: 1280, height: 1000 };
  await page.run(() => document.activeElement.blur());
  await page.resize({ ...desktop, height: await page.run(() => document.documentElement.scrollHeight) });
  await picture(`admin${language}`);
  await page.dark(true);
  await picture(`admin-dark${language}`);
  await page.resize({ width: 390, height: 1200, phone: true, scale: 2 });
  await page.run(() => scrollTo(0, 0));
  await picture(`admin-phone-dark${language}`);
  await page.dark(false);
  await picture(`admin-phone${language}`);
  await page.resize(desktop);
}

async function fitsEverywhere(...views) {
  for (const width of [360, 700, 1000]) {
    await page.resize({ width, height: 800, phone: width < 500 });
    for (const view of views) {
      await page.click("nav a", view);
      const wide = await page.run(() => document.documentElement.scrollWidth > window.innerWidth);
      assert.ok(!wide, `${view} is wider than a window of ${width}`);
    }
  }
  await page.resize({ width: 1280, height: 1000 });
}

try {
  await getIn();
  await getInByAddress();
  await seeTheCluster();
  await seeTheClient();
  if (folder) {
    await page.run(() => new Promise((next) => setTimeout(next, 120_000)));
    await takePictures();
  }
  await speaksBoth();
  await seeTheHostileClient();
  await seeNobody();
  await steerTheWebhook();
  await seeTheChannel();
  await followLive();
  await writeToNobody();
  await seeTheClient();
  await isReadable();
  await write("#found button", '{"id": 9007199254740993, "text": "from the page"}', `Sent to client ${client}.`);
  await step("sent to the client");
  await write("#channels li:has([title='lobby']) button", "plain <b>text</b> for $1", "Sent to channel lobby.");
  await step("sent to the channel");
  await seeThisNode();
  await page.click("#found button", "Refresh");
  await kick();
  await step("kicked");
  await says("#found .who", "offline");
  await says("#found", "in no channel");
  await fitsEverywhere("This node", "Cluster");
  await step("quiet");

  await step("kill");
  await says("#state", "2 of 3 nodes ready");
  await says("#nodes tr:nth-child(2) td:nth-child(2)", "silentnot heard since ");
  // Also to whoever opens the page now.
  await page.send("Page.reload");
  await says("#nodes tr:nth-child(2) td:nth-child(2)", "silentnot heard since ");
  await says("#nodes tr:nth-child(2) td:nth-child(2)", "every client whose remainder by 3 nodes is 1 cannot connect");
  await says("#events", "im-1 fell silent; it had ");
  await says("#events", `kicked client ${client}`);
  await picture("admin-silent");
  await isReadable();
  await step("redis hangs");
  await page.until("says that the broker hangs", () => /This node works, the broker does not/.test(document.getElementById("trouble").textContent));
  await says("#state", "broker away");
  assert.equal(await text("#nodes tr:first-child td:first-child"), "im-0this node");
  assert.notEqual(await text("#nodes tr:first-child td:nth-child(3)"), "–");
  await says("#nodes tr:nth-child(3) td:nth-child(2)", "not known");
  await picture("admin-hangs");
  await step("redis goes on");
  await page.until("goes on", () => document.getElementById("trouble").hidden);
  await step("redis away");
  await page.until("says that the broker is away", () => /the broker does not: broker unavailable/.test(document.getElementById("trouble").textContent));
  await says("#state", "broker away");
  await isReadable();
  await picture("admin-away");
  await step("redis back");
  await page.until("goes on", () => document.getElementById("trouble").hidden);
  await says("#state", "2 of 3 nodes ready");
  assert.deepEqual(page.problems, []);
} finally {
  await browser.close();
  // Otherwise it would be waited for.
  process.stdin.destroy();
}
