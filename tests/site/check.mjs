// The site that scripts/site has built: every link leads somewhere, and people find things in both languages.
//
//   scripts/site && node tests/site/check.mjs [--shots DIRECTORY]
//
// --shots keeps pictures of what was looked at. CHROMIUM names another program than the default one.

import { readFileSync, readdirSync, statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Browser } from "../demo/browser.mjs";

const SITE = fileURLToPath(new URL("../../target/site/pages/", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png" };
const DESKTOP = { width: 1440, height: 900 };
const PHONE = { width: 360, height: 720, phone: true, scale: 2 };
const { values: options } = parseArgs({ options: { shots: { type: "string" } } });

/** The file of the site that an address within it leads to. */
function fileOf(path) {
  const file = join(SITE, decodeURIComponent(path));
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) return join(file, "index.html");
  return extname(file) ? file : `${file}.html`;
}

const files = readdirSync(SITE, { recursive: true }).filter((file) => file.endsWith(".html") && file !== "404.html");
const texts = new Map(files.map((file) => [join(SITE, file), readFileSync(join(SITE, file), "utf8")]));

/** Pages that show Markdown instead of what it means: in Chinese, bold words may need a blank behind them. */
function rawMarks() {
  const shown = (text) => text.replace(/<(script|style|pre|code)\b.*?<\/\1>|<[^>]*>/gs, "");
  return [...texts].flatMap(([file, text]) => {
    return (shown(text).match(/.{0,20}\*\*.{0,20}/g) ?? []).map((found) => `${file.slice(SITE.length)}: ${found}`);
  });
}

/** All links within the site that lead to no page, or to no place in one. */
function lostLinks() {
  const lost = [];
  let links = 0;
  for (const [file, text] of texts) {
    const address = new URL(file.slice(SITE.length), "http://site/");
    for (const [, written] of text.matchAll(/ (?:href|src)="([^"]*)"/g)) {
      const { host, pathname, hash } = new URL(written.replaceAll("&amp;", "&"), address);
      if (host !== "site") continue;
      links += 1;
      const target = fileOf(pathname);
      const isThere = statSync(target, { throwIfNoEntry: false })?.isFile();
      const place = decodeURIComponent(hash.slice(1));
      const isPlace = !place || texts.get(target)?.includes(` id="${place}"`);
      if (!isThere || !isPlace) lost.push(`${address.pathname}: ${written}`);
    }
  }
  if (links < 1000) throw new Error(`only ${links} links were found in ${files.length} pages`);
  return lost;
}

/** Serves the site to this machine. */
async function serve() {
  const server = createServer((request, response) => {
    const file = fileOf(new URL(request.url, "http://site/").pathname);
    const isThere = statSync(file, { throwIfNoEntry: false })?.isFile();
    response.writeHead(isThere ? 200 : 404, { "content-type": TYPES[extname(file)] ?? "text/plain" });
    response.end(isThere ? readFileSync(file) : "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** What is too wide for the screen: nothing but what scrolls by itself may be. */
const isTooWide = () => document.documentElement.scrollWidth > document.documentElement.clientWidth;

async function shot(page, name) {
  if (options.shots) await page.screenshot(join(options.shots, `${name}.png`));
}

/** Looks for `words` as a reader does, until a section called `title` is the first of what is found. */
async function find(page, words, title) {
  // The button is there before it does anything.
  await page.until("the search opens", () => {
    const isOpen = document.querySelector("#localsearch-input");
    if (!isOpen) document.querySelector(".VPNavBarSearch button").click();
    return isOpen !== null;
  });
  await page.fill("#localsearch-input", words);
  await page.until(`${words} is found in ${title}`, (wanted) => {
    return document.querySelector(".VPLocalSearchBox .results li a")?.textContent.includes(wanted);
  }, title);
}

const lost = lostLinks();
if (lost.length) throw new Error(`links that lead nowhere:\n${lost.join("\n")}`);
const raw = rawMarks();
if (raw.length) throw new Error(`Markdown that is shown as it is written:\n${raw.join("\n")}`);

if (options.shots) await mkdir(options.shots, { recursive: true });
const site = await serve();
const browser = await Browser.launch(process.env.CHROMIUM ?? "chromium");
try {
  for (const [screen, size] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    for (const [path, words, title, where] of [
      ["/", "two processes one name", "Two processes under one name", "operating"],
      ["/zh-CN/", "哨兵故障切换", "哨兵", "redis"],
    ]) {
      const name = (what) => `${screen}${path.replaceAll("/", "-")}${what}`;
      const page = await browser.open(`${site.url}${path}`, size);
      await page.until("the page is alive", () => document.querySelector(".VPNavBarSearch button"));
      await shot(page, name("home"));
      await find(page, words, title);
      await shot(page, name("search"));
      await page.press("Enter");
      await page.until(
        "what was found is open",
        (where) => location.pathname.includes(where) && document.querySelector("main h1")?.textContent.includes("imserver"),
        where,
      );
      await shot(page, name("found"));
      for (const other of ["operating", "redis", "comparison", "performance", "protocol", "reliability"]) {
        await page.send("Page.navigate", { url: `${site.url}${path}${other}.html` });
        await page.until(`${other} is shown`, (wanted) => location.pathname.includes(wanted) && document.querySelector("main h1"), other);
        if (await page.run(isTooWide)) throw new Error(`${path}${other} is wider than a ${screen}`);
        const pale = await page.pale();
        if (pale.length) throw new Error(`${path}${other} is hard to read: ${pale.join(", ")}`);
        await shot(page, name(other));
      }
      if (page.problems.length || page.missing.length) throw new Error(JSON.stringify({ problems: page.problems, missing: page.missing }));
      await page.close();
    }
  }
} finally {
  await browser.close();
  site.close();
}
console.log("the site is whole: every link leads somewhere, and both languages are searched");
