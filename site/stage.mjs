// Lays the Markdown of this repository out as pages of the site: `node site/stage.mjs FOLDER`, which scripts/site calls.
//
// Which pages there are is what docs/README.md leads to. Documents stay as they read best in the repository; what differs on
// the site is done here: where pages are, where links lead, and pages in English where there are none in Chinese. How pages
// look is config.mjs.

import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const INDEX = "docs/README.md";
const CHINESE = "zh-CN";
const CHINESE_LETTER = /\p{Script=Han}/u;
const ONLY_ENGLISH = "*本页只有英文。*";

const read = (file) => readFileSync(join(ROOT, file), "utf8");
const inChinese = (file) => file.replace(/\.md$/, `.${CHINESE}.md`);
const inEnglish = (file) => file.replace(`.${CHINESE}.md`, ".md");

/** The address of the project's sources, which stands in one place. */
const repository = read("Cargo.toml").match(/^repository = "(.*)"$/m)[1];

/** Calls `replace` with the target of each link outside of code, and puts what it answers in its place. */
function relink(text, replace) {
  let isCode = false;
  return text.split("\n").map((line) => {
    const isFence = line.trim().startsWith("```");
    if (isFence) isCode = !isCode;
    if (isCode || isFence) return line;
    const spans = [];
    return line
      .replace(/`[^`]*`/g, (span) => `\0${spans.push(span) - 1}\0`)
      .replace(/\]\(([^)]*)\)/g, (_, target) => `](${replace(target)})`)
      .replace(/\0(\d+)\0/g, (_, at) => spans[at]);
  }).join("\n");
}

/** The file that a link in `file` leads to, from the root; nothing for addresses elsewhere and places in the page itself. */
function destination(file, target) {
  const path = target.split("#")[0];
  return path && !path.includes("://") ? normalize(join(dirname(file), path)) : undefined;
}

/** The pages in English, in the order of the index: file from the root → name on the site. */
function findPages() {
  const files = ["README.md", INDEX];
  relink(read(INDEX), (target) => {
    const file = destination(INDEX, target);
    if (file?.endsWith(".md") && !file.includes(CHINESE)) files.push(file);
    return target;
  });
  const name = (file) => {
    if (file === "README.md") return "index";
    if (file === INDEX) return "contents";
    return file.replace(/^docs\//, "").replace(/(\/README)?\.md$/, "").replaceAll("/", "-").toLowerCase();
  };
  return new Map(files.map((file) => [file, name(file)]));
}

const pages = findPages();
const stage = process.argv[2] ?? join(ROOT, "target/site/source");
const title = (text) => text.match(/^# (.*)$/m)[1].replaceAll("`", "");

/** The page of `file` as it stands on the site, for readers of `language` (nothing: English). */
function page(file, language) {
  const locale = file.endsWith(`.${CHINESE}.md`) ? `/${CHINESE}` : "";
  let text = relink(read(file), (target) => {
    const found = destination(file, target);
    if (!found) return target;
    const place = target.includes("#") ? target.slice(target.indexOf("#")) : "";
    const name = pages.get(inEnglish(found));
    if (name) return `${locale}/${name}.md${place}`;
    if (!existsSync(join(ROOT, found))) throw new Error(`${file}: there is no ${target}`);
    if (/\.(png|svg)$/.test(found)) {
      cpSync(join(ROOT, found), join(stage, "public/images", basename(found)));
      return `/images/${basename(found)}`;
    }
    return `${repository}/${statSync(join(ROOT, found)).isDirectory() ? "tree" : "blob"}/main/${found}${place}`;
  });
  // The line of languages is a menu here, and a fence names one language alone.
  text = text.replace(/^(?:English|\[English\]\(.*\)) · .*简体中文.*\n\n/m, "").replace(/^(\s*```\w+),\w+$/gm, "$1");
  if (language && !locale && !CHINESE_LETTER.test(title(text))) text = text.replace(/^# .*\n/m, `$&\n${ONLY_ENGLISH}\n`);
  return text;
}

rmSync(stage, { recursive: true, force: true });
const menus = {};
for (const language of ["", CHINESE]) {
  mkdirSync(join(stage, language), { recursive: true });
  menus[language] = [];
  for (const [english, name] of pages) {
    const file = language && existsSync(join(ROOT, inChinese(english))) ? inChinese(english) : english;
    const text = page(file, language);
    writeFileSync(join(stage, language, `${name}.md`), text);
    menus[language].push({ text: title(text), link: `${language && `/${language}`}/${name === "index" ? "" : name}` });
  }
}
cpSync(join(ROOT, "examples/chat/page/icon.svg"), join(stage, "public/icon.svg"));
for (const part of ["config.mjs", "theme"]) {
  cpSync(join(ROOT, "site", part), join(stage, ".vitepress", part), { recursive: true });
}
writeFileSync(join(stage, ".vitepress/pages.json"), JSON.stringify({ repository, menus }));
