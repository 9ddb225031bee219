// Webhooks: how delivery goes, on and off, and the messages that nobody took in time.

import { act, choice } from "./ask.js";
import { $, button, el, many, put, span, when, whole } from "./show.js";

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
  put("webhook-note", success ? `last success ${when(success)}` : "nothing was delivered yet");
  put("webhook-switch", on ? "Switch off …" : "Switch on");
  const [state, look, note] = stateOf(webhook);
  const pill = el("td", "", el("span", `pill ${look}`, state));
  if (note) pill.append(el("small", "", note));
  const tr = el("tr", "", el("td", "", url ?? "not set on this node"), pill);
  const cell = (label, className, text) => {
    const td = el("td", className, text);
    td.dataset.label = label;
    tr.append(td);
  };
  const oldest = groups.find(({ name }) => name === "@webhook")?.oldest_seconds;
  cell("node", node ? "" : "bad", node ?? "none");
  cell("waiting", waiting ? "" : "zero", whole(waiting));
  cell("oldest", oldest > 60 ? "warn" : oldest == null ? "zero" : "", oldest == null ? "–" : span(oldest));
  cell("missed", missed ? "bad" : "zero", whole(missed));
  cell("failures", failures ? "bad" : "zero", whole(failures));
  cell("dead letters", dead ? "bad" : "zero", `${whole(dead)}${dropped ? `, ${whole(dropped)} dropped` : ""}`);
  $("webhook").replaceChildren(tr);
  $("letters-part").hidden = !dead;
}

/** What its state is called, how it looks, and why. */
function stateOf({ on, off_reason: why, off_since_ms: since, node, failures, failing_since_ms: failing, last_failure: failure }) {
  if (!on) return ["off", "bad", `since ${when(since)}: ${why}`];
  if (!node) return ["nobody delivers", "bad", "no node that is set to it has the turn"];
  if (failures) return ["failing", "bad", `since ${when(failing)}: ${failure}`];
  return ["on", "good"];
}

/** Shows dead letters; those that stay keep their buttons. */
export function showLetters({ letters, total }) {
  const shown = total > letters.length ? `${letters.length} of ` : "";
  put("letters-note", `${shown}${many(total, "message")} that nobody took in time`);
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
    td.dataset.label = label;
    tr.append(td);
  };
  cell("events", events ? many(events, "event") : "events missed");
  tr.children[2].title = first ? `${first} to ${last}` : "";
  cell("attempts", whole(attempts));
  cell("put aside", when(ms));
  const again = button(replaying ? "Waiting" : "Replay", "plain", () => order("replay", [letter], "It is delivered once more."));
  again.disabled = replaying;
  const away = button("Discard …", "plain", () => discard([letter], "this message"));
  for (const [one, what] of [[again, "Replay"], [away, "Discard"]]) one.setAttribute("aria-label", `${what} ${letter}`);
  cell("", el("div", "buttons", again, away));
  return tr;
}

async function discard(letters, which) {
  if (await sure(`Discard ${which}?`, "Its events reach nobody any more.", "Discard")) await order("discard", letters, "Discarded.");
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

$("replay-all").addEventListener("click", () => order("replay", null, "All of them are delivered once more."));
$("discard-all").addEventListener("click", () => discard(null, many(seen.dead_letters, "message")));
$("webhook-switch").addEventListener("click", async () => {
  if (!seen.on) {
    await act("webhook", JSON.stringify({ do: "on" }), "Webhooks are on.");
  } else if (await sure("Switch webhooks off?", "On all nodes, until they are switched on again. Events wait meanwhile, as long as they are kept.", "Switch off")) {
    await act("webhook", JSON.stringify({ do: "off" }), "Webhooks are off.");
  }
});
