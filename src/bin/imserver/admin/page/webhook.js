// Webhooks: how delivery goes, on and off, and the messages that nobody took in time.

import { act, choice } from "./ask.js";
import { many, span, t, when, whole } from "./language.js";
import { $, button, el, put } from "./show.js";

/** How delivery went when it was told last. */
let seen = null;

/** Whether there are dead letters to ask for. */
export const hasLetters = () => Boolean(seen?.dead_letters);

/** Shows how delivery goes, if there are webhooks; `groups` are the readers of events, of which delivery is one. */
export function showWebhook({ webhook, groups }) {
  seen = webhook;
  $("webhook-card").hidden = !webhook;
  if (!webhook) return;
  const { url, on, node, waiting, failures, missed, dead_letters: dead, dropped, last_success_ms: success } = webhook;
  put("webhook-note", success ? t("webhook.success", { when: when(success) }) : t("webhook.nothing"));
  put("webhook-switch", t(on ? "webhook.switch.off" : "webhook.switch.on"));
  const [state, look, note] = stateOf(webhook);
  const pill = el("td", "", el("span", `pill ${look}`, state));
  if (note) pill.append(el("small", "", note));
  const tr = el("tr", "", el("td", "", url ?? t("webhook.unset")), pill);
  const cell = (label, className, text) => {
    const td = el("td", className, text);
    td.dataset.label = label && t(`col.${label}`);
    tr.append(td);
  };
  const oldest = groups.find(({ name }) => name === "@webhook")?.oldest_seconds;
  cell("node", node ? "" : "bad", node ?? t("webhook.none"));
  cell("waiting", waiting ? "" : "zero", whole(waiting));
  cell("oldest", oldest > 60 ? "warn" : oldest == null ? "zero" : "", oldest == null ? "–" : span(oldest));
  cell("missed", missed ? "bad" : "zero", whole(missed));
  cell("failures", failures ? "bad" : "zero", whole(failures));
  cell("letters", dead ? "bad" : "zero", dropped ? t("webhook.dropped", { dead: whole(dead), dropped: whole(dropped) }) : whole(dead));
  $("webhook").replaceChildren(tr);
  $("letters-part").hidden = !dead;
}

/** What its state is called, how it looks, and why. */
function stateOf({ on, off_reason: why, off_since_ms: since, node, failures, failing_since_ms: failing, last_failure: failure }) {
  if (!on) return [t("webhook.off"), "bad", t("webhook.since", { when: when(since), why })];
  if (!node) return [t("webhook.idle"), "bad", t("webhook.idle.why")];
  if (failures) return [t("webhook.failing"), "bad", t("webhook.since", { when: when(failing), why: failure })];
  return [t("webhook.on"), "good"];
}

/** Shows dead letters; those that stay keep their buttons. */
export function showLetters({ letters, total }) {
  put("letters-note", t("letters.note", { messages: many(total, "message"), shown: total > letters.length && letters.length }));
  const body = $("letters"), rows = body.rows;
  while (rows.length > letters.length) body.deleteRow(-1);
  letters.forEach((letter, index) => {
    const is = `${letter.letter} ${letter.replaying}`;
    if (rows[index]?.dataset.letter === is) return;
    const row = letterRow(letter);
    row.dataset.letter = is;
    if (rows[index]) rows[index].replaceWith(row);
    else body.append(row);
  });
}

function letterRow({ letter, events, reason, attempts, ms, replaying, first_event: first, last_event: last }) {
  const tr = el("tr", "", el("td", "", letter), el("td", "", reason));
  const cell = (label, ...children) => {
    const td = el("td", "", ...children);
    td.dataset.label = label && t(`col.${label}`);
    tr.append(td);
  };
  cell("events", events ? many(events, "event") : t("letters.missed"));
  tr.children[2].title = first ? t("letters.from-to", { first, last }) : "";
  cell("attempts", whole(attempts));
  cell("aside", when(ms));
  const again = button(t(replaying ? "letters.replaying" : "letters.replay"), "plain", () => order("replay", [letter], t("letters.replayed")));
  again.disabled = replaying;
  const away = button(t("letters.discard"), "plain", () => discard([letter], t("letters.discard.this")));
  again.setAttribute("aria-label", t("letters.replay.one", { letter }));
  away.setAttribute("aria-label", t("letters.discard.one", { letter }));
  cell("", el("div", "buttons", again, away));
  return tr;
}

async function discard(letters, question) {
  if (await sure(question, t("letters.discard.what"), t("letters.discard.do"))) await order("discard", letters, t("letters.discarded"));
}

/** Asks whether something is meant. */
async function sure(title, what, verb) {
  put("ask-webhook-title", title);
  put("ask-webhook-what", what);
  put("ask-webhook-do", verb);
  return await choice("ask-webhook") === "do";
}

/** What is to become of these letters; without any, of all. */
function order(verb, letters, done) {
  return act("webhook", JSON.stringify(letters ? { do: verb, letters } : { do: verb, all: true }), done);
}

$("replay-all").addEventListener("click", () => order("replay", null, t("letters.replayed-all")));
$("discard-all").addEventListener("click", () => discard(null, t("letters.discard.these", { messages: many(seen.dead_letters, "message") })));
$("webhook-switch").addEventListener("click", async () => {
  if (!seen.on) {
    await act("webhook", JSON.stringify({ do: "on" }), t("webhook.switched.on"));
  } else if (await sure(t("webhook.sure"), t("webhook.sure.what"), t("webhook.sure.do"))) {
    await act("webhook", JSON.stringify({ do: "off" }), t("webhook.switched.off"));
  }
});
