// Which language the page speaks, its words, and how numbers and moments are written in it. Touches the page only to fill in the
// elements that name their words.

import { WORDS } from "./words.js";

const REMEMBERED = "imserver.language";

/** What was chosen here before, else what the browser asks for first of what there is. */
function choose() {
  const wanted = [localStorage.getItem(REMEMBERED), ...navigator.languages].map((tag) => tag?.slice(0, 2).toLowerCase());
  return wanted.find((tag) => tag in WORDS) ?? "en";
}

const language = choose();
const PLAIN = { en: "en", zh: "zh-CN" }[language];
/** The reader's own kind of the language. */
const locale = navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? PLAIN;

/** The words for `key`, with `values` filled in. */
export function t(key, values = {}) {
  const words = WORDS[language][key] ?? key;
  return typeof words === "function" ? words(values) : words;
}

/** Likewise; what there are no words for, since a newer node told it, stays as it is. */
export function named(kind, name) {
  const key = `${kind}.${name}`;
  return key in WORDS[language] ? t(key) : name.replaceAll("_", " ");
}

/** Fills in all elements that name their words. */
function fillIn() {
  document.documentElement.lang = PLAIN;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const attribute of ["aria-label", "placeholder", "lang"]) {
    const source = `data-t-${attribute}`;
    for (const element of document.querySelectorAll(`[${source}]`)) element.setAttribute(attribute, t(element.getAttribute(source)));
  }
}

/** Speaks the other language from now on, here and next time: the page begins anew. */
function switchOver() {
  localStorage.setItem(REMEMBERED, language === "zh" ? "en" : "zh");
  location.reload();
}

fillIn();
document.getElementById("language").addEventListener("click", switchOver);

// --- Numbers and moments ---

const group = new Intl.NumberFormat(locale);
const compact = new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });
const few = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const clockTime = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const exactTime = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "short" });

export const whole = (value) => group.format(value);
export const short = (value) => compact.format(value);
export const clock = (at) => clockTime.format(at);
/** A moment of today, to the millisecond. */
export const exactly = (at) => exactTime.format(at);
/** A moment; with its day if that is another one. */
export const when = (at) => new Date(at).toDateString() === new Date().toDateString() ? clock(at) : `${day.format(at)} ${clock(at)}`;
/** So many of something: `many.` and the word. */
export const many = (count, word) => t(`many.${word}`, { n: count, count: whole(count) });
export const rate = (value) => value == null ? "–" : value >= 100 ? whole(Math.round(value)) : few.format(value);

/** A short time, in the unit that suits it. */
export function time(seconds) {
  if (seconds == null) return "–";
  const [value, unit] = seconds < 0.001 ? [Math.round(seconds * 1e6), "us"]
    : seconds < 0.01 ? [few.format(seconds * 1000), "ms"]
    : seconds < 1 ? [Math.round(seconds * 1000), "ms"]
    : [few.format(seconds), "s"];
  return `${value} ${t(`unit.${unit}`)}`;
}

/** A long time, in its two largest units. */
export function span(seconds) {
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return `0 ${t("unit.s")}`;
  let left = Math.floor(seconds);
  return units.slice(first, first + 2).map(([unit, size]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return count ? `${count} ${t(`unit.${unit}`)}` : "";
  }).filter(Boolean).join(" ");
}

/** Parts of a line. */
export const dotted = (...parts) => parts.filter(Boolean).join(" · ");
