// Asks again and again, and shows what is answered: the cluster always, the rest while it is looked at.

import { ask } from "./ask.js";
import { lookUp } from "./client.js";
import { showHistory, showNodes, showChannels } from "./cluster.js";
import { span, t } from "./language.js";
import { showNode } from "./node.js";
import { $, put } from "./show.js";
import { hasLetters, showLetters, showWebhook } from "./webhook.js";
import { showSlots } from "./slots.js";

const LONGEST_PAUSE_MS = 15_000;

/** What goes wrong now, by path, and with the broker; a banner tells one of them. */
const troubles = new Map();

function showTroubles() {
  // The root of it: without the node nothing is known of the broker, and without the broker nothing of channels.
  const trouble = troubles.get("cluster") ?? troubles.get("broker") ?? troubles.values().next().value;
  $("trouble").hidden = !trouble;
  const stale = troubles.has("cluster");
  document.body.classList.toggle("stale", stale);
  if (stale) {
    put("state", t("state.silent"));
    $("state").className = "pill bad";
  }
  if (trouble) put("trouble", trouble.text ?? t("trouble.silent", { span: span((Date.now() - trouble.heard) / 1000), why: trouble.why }));
}

/** The node answers; whether it could ask the broker is in its answer. */
function showCluster(answer) {
  const { trouble, age_seconds: age } = answer;
  if (trouble) troubles.set("broker", { text: t("trouble.broker", { why: trouble, age: age == null ? "" : span(age) }) });
  else troubles.delete("broker");
  showNodes(answer);
  showWebhook(answer);
}

/** Asks for `path` while `wanted`, every so many milliseconds, and less often while it fails. */
async function follow(path, every, wanted, show) {
  let pause = every, heard = Date.now();
  for (;;) {
    if (!wanted()) {
      troubles.delete(path);
    } else if (!document.hidden) {
      try {
        const answer = await ask(path);
        [heard, pause] = [Date.now(), every];
        troubles.delete(path);
        show(answer);
        document.body.classList.remove("waiting");
      } catch (error) {
        troubles.set(path, { heard, why: error.message });
        pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
      }
      showTroubles();
    }
    await rest(pause);
  }
}

const sleepers = new Set();

/** Waits, but not when the tab or the view is come back to. */
function rest(milliseconds) {
  return new Promise((next) => {
    const wake = () => {
      clearTimeout(timer);
      sleepers.delete(wake);
      next();
    };
    const timer = setTimeout(wake, milliseconds);
    sleepers.add(wake);
  });
}

function rouse() {
  for (const wake of [...sleepers]) wake();
}

const view = () => location.hash === "#node" ? "node" : "cluster";

/** Shows the view that the address names: `#cluster`, `#node`, or `#client=ID`. */
function turn() {
  for (const name of ["cluster", "node"]) {
    $(`view-${name}`).hidden = name !== view();
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === view()) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const id = new URLSearchParams(location.hash.slice(1)).get("client");
  if (id) {
    $("client-id").value = id;
    lookUp(id);
  }
  rouse();
}

$("look-up").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = `#${new URLSearchParams({ client: $("client-id").value.trim() })}`;
  if (location.hash === wanted) turn();
  else location.hash = wanted;
});
addEventListener("hashchange", turn);
document.addEventListener("visibilitychange", rouse);

follow("cluster", 2000, () => true, showCluster);
follow("history", 10_000, () => view() === "cluster", showHistory);
follow("slots", 2000, () => view() === "cluster", showSlots);
follow("channels", 5000, () => view() === "cluster", showChannels);
follow("letters", 2000, () => view() === "cluster" && hasLetters(), showLetters);
follow("stats", 2000, () => view() === "node", showNode);
turn();
