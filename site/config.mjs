// The site: menus, both languages and the search. VitePress reads it; the pages are laid out by stage.mjs.

import { readFileSync } from "node:fs";
import { defineConfig } from "vitepress";

const { repository, menus } = JSON.parse(readFileSync(new URL("pages.json", import.meta.url)));

const CHINESE = /[\p{Script=Han}，。；：、！？（）“”…]/u;
const base = process.env.SITE_BASE ?? "/";

/** Names of headings as GitHub makes them, so that one link holds in the repository and on the site. */
function slugify(heading) {
  return heading.trim().toLowerCase().replace(/[^\p{Alphabetic}\p{N} _-]/gu, "").replaceAll(" ", "-");
}

/**
 * The words of a text for the search. Chinese has no blanks between words: each two letters that stand side by side are one.
 * The browser runs this too, from its text: it must not name anything outside of itself.
 */
function tokenize(text) {
  const isChinese = /\p{Script=Han}/u;
  const runs = text.match(/\p{Script=Han}+|[^\p{Script=Han}\p{Z}\p{P}\p{S}\p{C}]+/gu) ?? [];
  return runs.flatMap((run) => {
    if (!isChinese.test(run) || run.length < 3) return [run];
    return Array.from({ length: run.length - 1 }, (_, at) => run.slice(at, at + 2));
  });
}

const chinese = {
  outline: { level: [2, 3], label: "本页目录" },
  docFooter: { prev: "上一页", next: "下一页" },
  darkModeSwitchLabel: "外观",
  lightModeSwitchTitle: "切换到浅色模式",
  darkModeSwitchTitle: "切换到深色模式",
  sidebarMenuLabel: "目录",
  returnToTopLabel: "回到顶部",
  langMenuLabel: "切换语言",
  skipToContentLabel: "跳到正文",
  notFound: { title: "没有这个页面", quote: "它可能换了地方，请试试搜索。", linkText: "回到首页" },
};
const chineseSearch = {
  button: { buttonText: "搜索", buttonAriaLabel: "搜索" },
  modal: {
    displayDetails: "显示详细内容",
    resetButtonTitle: "清除",
    backButtonTitle: "关闭搜索",
    noResultsText: "没有找到",
    footer: { selectText: "打开", navigateText: "切换", closeText: "关闭" },
  },
};

export default defineConfig({
  title: "imcore",
  description: "A push server for chat, live rooms, comment streams and games",
  base,
  head: [["link", { rel: "icon", href: `${base}icon.svg`, type: "image/svg+xml" }]],
  outDir: "../pages",
  cacheDir: "../cache",
  // The documents show addresses of nodes on the own machine; every other link to nowhere fails the build.
  ignoreDeadLinks: "localhostLinks",
  // Documents write `{index}` and `<name>` as text: nothing but Markdown is read out of them.
  markdown: {
    html: false,
    attrs: { disable: true },
    theme: { light: "github-light-high-contrast", dark: "github-dark-high-contrast" },
    anchor: { slugify },
    config(markdown) {
      markdown.disable("emoji");
      // A line that ends within a Chinese sentence is no blank.
      markdown.renderer.rules.softbreak = (tokens, at) => {
        const [before, after] = [tokens[at - 1], tokens[at + 1]].map((token) => token?.content ?? "");
        return CHINESE.test(before.at(-1)) && CHINESE.test(after.at(0)) ? "" : "\n";
      };
    },
  },
  themeConfig: {
    logo: "/icon.svg",
    socialLinks: [{ icon: "git", link: repository }],
    outline: { level: [2, 3] },
    search: {
      provider: "local",
      options: {
        locales: { "zh-CN": { translations: chineseSearch } },
        miniSearch: { options: { tokenize } },
      },
    },
  },
  locales: {
    root: { label: "English", lang: "en", themeConfig: { sidebar: menus[""] } },
    "zh-CN": {
      label: "简体中文",
      lang: "zh-CN",
      description: "面向聊天、直播间、弹幕评论和游戏的推送服务器",
      themeConfig: { ...chinese, sidebar: menus["zh-CN"] },
    },
  },
});
