// Looks at the slots on the admin page in a real browser, and drains a node there; `slots.rs` starts two nodes.
//
//   node tests/admin/slots.mjs URL

import assert from "node:assert/strict";
import { Browser } from "../demo/browser.mjs";

const browser = await Browser.launch(process.env.CHROMIUM ?? "chromium");
try {
  const page = await browser.open(process.argv[2], { width: 1280, height: 1000 });
  const says = (selector, words) => page.until(`${selector} says ${words}`,
    (wanted, holds) => document.querySelector(wanted)?.textContent.includes(holds), selector, words);
  const row = (index) => `#slots tr:nth-child(${index})`;
  await says("#slots-note", "8 slots");
  await says("#slots-note", "nothing moves");
  for (const [index, name] of ["im-0", "im-1"].entries()) await says(row(index + 1), `${name}serves4`);
  await page.click(`${row(2)} button`, "Drain");
  await says("#ask-drain-what", "gives its 4 slots away");
  await page.click("#ask-drain button[value=drain]");
  await says("#done.shown", "im-1 gives its slots away.");
  await says(row(1), "im-0serves80–7");
  await says(row(2), "im-1drains–");
  // Nobody is left to give anything to.
  await page.until("no button", (wanted) => !document.querySelector(wanted), `${row(1)} button`);
  assert.deepEqual(await page.pale(), []);
  await page.click(`${row(2)} button`, "Take back");
  await says(row(2), "im-1serves4");
  assert.deepEqual(page.problems, []);
} finally {
  await browser.close();
}
