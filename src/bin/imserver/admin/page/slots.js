// Slots, where nodes come and go: which node has which, what moves and is to move, and draining a node.

import { ask, choice } from "./ask.js";
import { dotted, many, t, whole } from "./language.js";
import { $, announce, button, el, put } from "./show.js";

/** Shows the table; nothing where nodes are a fixed list. */
export function showSlots(table) {
  $("slots-card").hidden = !table;
  if (!table) return;
  const { nodes, count, version, to_come: toCome } = table;
  const moving = nodes.reduce((sum, { leaving }) => sum + leaving.length, 0);
  const owned = nodes.reduce((sum, { slots }) => sum + slots.length, 0);
  put("slots-note", dotted(
    t("slots.version", { slots: many(count, "slot"), version: whole(version) }),
    moving || toCome ? t("slots.moving", { moving, toCome }) : t("slots.rest"),
    owned < count && t("slots.unowned", { count: count - owned })));
  $("slots-note").className = owned < count ? "bad" : "dim";
  $("slots").replaceChildren(...nodes.map((node) => row(node, nodes)));
}

function row({ server, address, weight, draining, joining, slots, leaving }, nodes) {
  const tr = el("tr", "", el("td", "", server));
  const cell = (label, className, ...children) => {
    const td = el("td", className, ...children);
    td.dataset.label = label && t(`col.${label}`);
    tr.append(td);
  };
  const [state, look] = draining ? ["drains", "warn"] : joining ? ["joins", "warn"] : ["serves", "good"];
  cell("state", "", el("span", `pill ${look}`, t(`slots.${state}`)));
  const list = (numbers) => numbers.length ? [whole(numbers.length), el("small", "", ranges(numbers))] : ["–"];
  cell("owns", slots.length ? "" : "zero", ...list(slots));
  cell("leaving", leaving.length ? "warn" : "zero", ...list(leaving));
  cell("weight", "", whole(weight));
  cell("address", "", address);
  const others = nodes.some((node) => node.server !== server && !node.draining && node.weight > 0);
  const act = draining ? button(t("slots.take-back"), "plain", () => drain(server, false)) : button(t("slots.drain"), "danger", () => askDrain(server, slots.length));
  cell("", "", ...(draining || others ? [act] : []));
  return tr;
}

/** `0–3, 7`. */
function ranges(numbers) {
  const found = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  return found.map(([from, to]) => from === to ? `${from}` : `${from}–${to}`).join(", ");
}

async function askDrain(server, count) {
  put("ask-drain-title", t("slots.drain.title", { server }));
  put("ask-drain-what", t("slots.drain.what", { slots: many(count, "slot") }));
  if (await choice("ask-drain") === "drain") await drain(server, true);
}

async function drain(server, draining) {
  try {
    await ask("drain", JSON.stringify({ server, draining }));
    announce(t(draining ? "slots.drained" : "slots.taken-back", { server }));
  } catch (error) {
    announce(error.message, true);
  }
}
