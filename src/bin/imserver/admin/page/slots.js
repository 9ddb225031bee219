// Slots, where nodes come and go: which node has which, what moves and is to move, and draining a node.

import { ask, choice } from "./ask.js";
import { $, announce, button, el, many, put, whole } from "./show.js";

/** Shows the table; nothing where nodes are a fixed list. */
export function showSlots(table) {
  $("slots-card").hidden = !table;
  if (!table) return;
  const { nodes, count, version, to_come: toCome } = table;
  const moving = nodes.reduce((sum, { leaving }) => sum + leaving.length, 0);
  const owned = nodes.reduce((sum, { slots }) => sum + slots.length, 0);
  const parts = [`${many(count, "slot")}, version ${whole(version)}`, moving || toCome ? `${moving} moving, ${toCome} to come` : "nothing moves"];
  if (owned < count) parts.push(`${count - owned} without a node`);
  put("slots-note", parts.join(" · "));
  $("slots-note").className = owned < count ? "bad" : "dim";
  $("slots").replaceChildren(...nodes.map((node) => row(node, nodes)));
}

function row({ server, address, weight, draining, joining, slots, leaving }, nodes) {
  const tr = el("tr", "", el("td", "", server));
  const cell = (label, className, ...children) => {
    const td = el("td", className, ...children);
    td.dataset.label = label;
    tr.append(td);
  };
  const [state, look] = draining ? ["drains", "warn"] : joining ? ["joins", "warn"] : ["serves", "good"];
  cell("state", "", el("span", `pill ${look}`, state));
  const list = (numbers) => numbers.length ? [whole(numbers.length), el("small", "", ranges(numbers))] : ["–"];
  cell("owns", slots.length ? "" : "zero", ...list(slots));
  cell("leaving", leaving.length ? "warn" : "zero", ...list(leaving));
  cell("weight", "", whole(weight));
  cell("address", "", address);
  const others = nodes.some((node) => node.server !== server && !node.draining && node.weight > 0);
  const act = draining ? button("Take back", "plain", () => drain(server, false)) : button("Drain …", "danger", () => askDrain(server, slots.length));
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
  put("ask-drain-title", `Drain ${server}?`);
  put("ask-drain-what", `It gives its ${many(count, "slot")} away at its pace and goes on running. Its clients are sent on with code 4302 and connect to the other nodes.`);
  if (await choice("ask-drain") === "drain") await drain(server, true);
}

async function drain(server, draining) {
  try {
    await ask("drain", JSON.stringify({ server, draining }));
    announce(draining ? `${server} gives its slots away.` : `${server} takes its share.`);
  } catch (error) {
    announce(error.message, true);
  }
}
