// Looks at the admin page of a running node in a real browser; `tests/admin.rs` starts the node and
// keeps it busy.
//
//   node tests/admin_page.mjs URL TOKEN [FOLDER]
//
// With FOLDER it waits until there is something to see and leaves pictures there. CHROMIUM names another
// program than the default one.

import assert from "node:assert/strict";
import { join } from "node:path";
import { Browser } from "./demo/browser.mjs";

const [url, token, folder] = process.argv.slice(2);
const browser = await Browser.launch(process.env.CHROMIUM ?? "chromium");
try {
  const page = await browser.open(url, { width: 1240, height: 968 });
  const text = (id) => page.run((wanted) => document.getElementById(wanted).textContent, id);

  // A wrong token is asked for again, the right one shows the node.
  await page.until("asks for the token", () => document.getElementById("ask")?.open);
  await page.fill("#token", "not-the-token-of-this-node");
  await page.press("Enter");
  await page.until("refuses a wrong one", () => document.getElementById("ask-why").textContent === "That was not it.");
  await page.until("asks again", () => document.getElementById("ask").open);
  await page.fill("#token", token);
  await page.press("Enter");
  await page.until("ready", () => document.getElementById("state").textContent === "ready");
  assert.equal(await text("node"), "im-1");

  await page.until("connections", () => Number(document.getElementById("connections").textContent) > 10);
  await page.until("a rate", () => Number(document.getElementById("delivered").textContent.replace(",", "")) > 1);
  await page.until("a line", () => document.querySelectorAll("#chart-messages path").length >= 6);
  await page.until("kicks", () => document.getElementById("closed").textContent.includes("kicked"));
  await page.until("refusals", () => document.getElementById("refused").textContent.includes("401 token"));
  for (const call of ["tickets", "report", "renew", "publish"]) assert.match(await text("calls"), new RegExp(call));
  assert.match(await text("feed"), /Presence lease\s*held/);

  if (folder) {
    for (let seen = 0; seen < 110; seen = await page.run(() => points.length)) await page.run(() => new Promise((next) => setTimeout(next, 500)));
    await page.screenshot(join(folder, "admin.png"));
    await page.dark(true);
    await page.screenshot(join(folder, "admin-dark.png"));
    await page.dark(false);
    await page.resize({ width: 390, height: 1860, phone: true });
    await page.screenshot(join(folder, "admin-phone.png"));
  }
  await page.resize({ width: 390, height: 1860, phone: true });
  const wide = await page.run(() => document.documentElement.scrollWidth > window.innerWidth);
  assert.ok(!wide, "nothing is wider than the window");
  assert.deepEqual(page.problems, []);
} finally {
  await browser.close();
}
