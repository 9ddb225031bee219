// The cluster: what all nodes come to, each node, and the channels.

import { lookInto, write } from "./client.js";
import { dotted, many, named, rate, short, span, t, time, when, whole } from "./language.js";
import { $, button, el, fullness, meter, plot, put, spark } from "./show.js";

// Looks that are kept, one every two seconds; the shortest and the longest time of a chart; the looks of a small line.
const KEEP = 150, SHORTEST_MS = 60_000, LONGEST_MS = 3_600_000, SMALL = 40;
const COUNTERS = ["opened", "offered", "delivered", "dropped"];

/** Server and a number for twins -> what was heard of it: last status, when, rates, history of deliveries. */
const known = new Map();
const looks = [];
/** What the node that answers remembers: points every ten seconds, and events. */
let history = { since: null, points: [], events: [] };

/** What the new status of a node comes to, beside what was known of it. */
function learn(node, key, now) {
  const memory = known.get(key) ?? { rates: {}, delivered: [] };
  known.set(key, memory);
  const { status } = node;
  if (!status) return memory;
  const before = memory.status;
  const passed = before ? status.uptime_seconds - before.uptime_seconds : 0;
  if (before && passed < 0) memory.rates = {};
  if (passed > 0) {
    for (const name of COUNTERS) memory.rates[name] = Math.max(0, (status[name] - before[name]) / passed);
    memory.delivered.push(memory.rates.delivered);
    if (memory.delivered.length > SMALL) memory.delivered.shift();
  }
  if (!before || passed !== 0) memory.heard = now;
  memory.status = status;
  return memory;
}

/** Shows all nodes as they are told of. */
export function showNodes({ node: own, broker, nodes, groups, trouble }) {
  const now = Date.now();
  const seen = new Map();
  const rows = nodes.map((node) => {
    const twin = seen.get(node.server) ?? 0;
    seen.set(node.server, twin + 1);
    return { ...node, own: node.server === own, memory: learn(node, `${twin} ${node.server}`, now) };
  });
  for (const row of rows) row.twin = seen.get(row.server) > 1;
  const heard = rows.filter((row) => row.status);
  // Without the broker the others count as they were.
  const counted = trouble ? rows.map((row) => ({ ...row, status: row.status ?? row.memory.status })).filter((row) => row.status) : heard;
  const sum = (pick) => counted.reduce((total, row) => total + (pick(row) ?? 0), 0);
  const rated = heard.some((row) => row.memory.rates.offered != null);
  const rates = Object.fromEntries(COUNTERS.map((name) => [name, rated ? sum((row) => row.memory.rates[name]) : null]));
  if (!trouble) looks.push({ at: now, connections: sum((row) => row.status.connections), ...rates });
  if (looks.length > KEEP) looks.shift();

  const ready = heard.filter((row) => row.status.not_ready == null).length;
  const all = ready === rows.length;
  put("state", t(trouble ? "state.broker" : all ? "state.ready" : "state.some-ready", { nodes: many(rows.length, "node"), ready: whole(ready) }));
  $("state").className = `pill ${all && !trouble ? "good" : "bad"}`;
  put("about", t("about", { node: own, broker }));
  showTotals(sum, rates);
  showCharts(now);
  put("nodes-note", heard.length === rows.length || trouble ? "" : t("nodes.silent", { count: whole(rows.length - heard.length) }));
  $("nodes").replaceChildren(...rows.map((row) => nodeRow({ ...row, trouble }, now)));
  showGroups(groups ?? []);
}

/** Shows how far those are who read events, if there are any. */
function showGroups(groups) {
  $("groups-card").hidden = !groups.length;
  const alone = groups.filter((group) => !group.readers_count).length;
  put("groups-note", alone ? t("groups.alone", { groups: many(alone, "group") }) : "");
  $("groups").replaceChildren(...groups.map((group) => {
    const { waiting, unacknowledged, missed, oldest_seconds: oldest, readers, readers_count: count } = group;
    const tr = el("tr", "", el("td", "", group.name));
    const cell = (label, className, text) => {
      const td = el("td", className, text);
      td.dataset.label = t(`col.${label}`);
      tr.append(td);
    };
    const told = readers.map(({ name, unacknowledged: open, idle_seconds: idle }) =>
      `${name}${open ? `: ${whole(open)}` : ""}${idle > 10 ? t("groups.silent", { span: span(idle) }) : ""}`);
    const more = count > told.length ? t("groups.more", { count: whole(count - told.length) }) : "";
    cell("readers", count ? "" : "bad", count ? dotted(...told) + more : t("groups.nobody"));
    cell("waiting", waiting ? "" : "zero", whole(waiting));
    cell("unacknowledged", unacknowledged ? "" : "zero", whole(unacknowledged));
    cell("missed", missed ? "bad" : "zero", whole(missed));
    cell("oldest", oldest > 60 ? "warn" : oldest == null ? "zero" : "", oldest == null ? "–" : span(oldest));
    return tr;
  }));
}

function showTotals(sum, rates) {
  const connections = sum((row) => row.status.connections), limit = sum((row) => row.status.connections_limit);
  document.title = `${short(connections)} · imserver`;
  put("connections", whole(connections));
  const parked = sum((row) => row.status.parked ?? 0);
  put("limit", dotted(t("total.limit", { limit: whole(limit) }), parked && t("total.away", { count: whole(parked) })));
  fullness($("full"), connections / limit);
  put("delivered", rate(rates.delivered));
  put("delivered-all", t("total.delivered", { count: whole(sum((row) => row.status.delivered)) }));
  put("opened", rate(rates.opened));
  put("handshakes", t("total.handshakes", { count: whole(sum((row) => row.status.handshakes)), refused: whole(sum((row) => row.status.refused)) }));
  const dropped = sum((row) => row.status.dropped), lost = sum((row) => row.status.lost), receipts = sum((row) => row.status.receipts_dropped);
  put("undelivered", whole(dropped + lost + receipts));
  put("undelivered-why", t("total.undelivered", { dropped: short(dropped), lost: short(lost), receipts: many(receipts, "receipt") }));
}

/** Takes in what the node remembers, and shows what happened. */
export function showHistory(answer) {
  history = answer;
  showCharts(Date.now());
  const items = answer.events.toReversed().map((event) =>
    el("li", event.bad ? "bad" : "", el("time", "dim", when(event.at * 1000)), el("span", "", happened(event))));
  $("events").replaceChildren(...items);
  put("events-note", items.length ? t("events.note", { span: span(Date.now() / 1000 - answer.since) }) : t("events.none", { when: when(answer.since * 1000) }));
}

/** What happened, in words; as the node tells it where a newer one tells of something else. */
function happened({ event, what, ...about }) {
  const words = t(`event.${event}`, { ...about, why: event === "not_ready" ? named("why", about.why) : about.why, had: about.connections != null && many(about.connections, "connection") });
  return words === `event.${event}` ? what : words;
}

/** The points of the charts: what this page saw, and before that what the node remembers. */
function series(now) {
  const first = looks[0]?.at ?? now;
  const remembered = history.points.map((point) => ({ ...point, at: point.at * 1000 })).filter(({ at }) => at < first);
  return [...remembered, ...looks].filter(({ at }) => at > now - LONGEST_MS);
}

function showCharts(now) {
  const all = series(now);
  const begin = Math.min(now - SHORTEST_MS, all[0]?.at ?? now);
  const line = (name, kind) => ({ kind, points: all.filter((point) => point[name] != null).map((point) => [(point.at - begin) / (now - begin), point[name]]) });
  put("top-connections", t("chart.highest", { value: whole(plot("chart-connections", [line("connections")])) }));
  const dropped = line("dropped", "bad");
  // A red line along zero would look like an alarm.
  const drops = dropped.points.some(([, value]) => value > 0);
  $("key-dropped").hidden = !drops;
  const messages = [line("offered"), line("delivered", "second"), ...(drops ? [dropped] : [])];
  put("top-messages", t("chart.highest.rate", { value: rate(plot("chart-messages", messages)) }));
  for (const since of document.querySelectorAll(".since")) since.textContent = t("chart.last", { span: span(Math.round((now - begin) / 10_000) * 10) });
}

/** What a node's state is called, how it looks, and a note where there is more to say. */
function stateOf({ status, index, slots, last, hurt, trouble }, now) {
  if (status?.not_ready === "stopping") return [t("node.stopping"), "warn"];
  if (status?.not_ready) return [t("node.not-ready", { why: named("why", status.not_ready) }), "bad"];
  if (status) return [t("node.ready"), index == null && slots == null ? "warn" : "good"];
  const had = last && { connections: many(last.connections, "connection"), ago: span(last.seconds_ago) };
  if (trouble) return [t("node.unknown"), "", last ? t("node.unknown.had", had) : ""];
  if (last) return [t(last.stopping ? "node.stopped" : "node.silent"), "bad", t("node.silent.since", { ...had, when: when(now - last.seconds_ago * 1000), hurt })];
  return [t("node.none"), "bad", t("node.none.why", { hurt })];
}

function nodeRow(row, now) {
  const { status, memory } = row;
  const [state, look, note] = stateOf(row, now);
  const name = el("td", "", row.server);
  if (row.own) name.append(el("span", "tag", t("node.own")));
  if (row.slots != null) name.append(el("span", "tag", many(row.slots, "slot")));
  else if (row.index == null) name.append(el("span", "tag bad", t("node.foreign")));
  if (row.twin) name.append(el("span", "tag bad", t("node.twin")));
  const pill = el("td", "", el("span", `pill ${look}`, state));
  if (note) pill.append(el("small", "", note));
  const tr = el("tr", status ? "" : "absent", name, pill);
  const cell = (label, className, ...children) => {
    const td = el("td", className, ...children);
    td.dataset.label = t(`col.${label}`);
    tr.append(td);
  };
  if (!status) {
    for (const label of ["connections", "connects.short", "delivered.short", "dropped", "waiting", "lag", "uptime", "version"]) cell(label, "zero", "–");
    return tr;
  }
  const waiting = status.inboxes + status.presence_waiting + Math.max(0, status.offered - status.delivered - status.dropped);
  cell("connections", "", whole(status.connections), meter(status.connections / status.connections_limit));
  cell("connects.short", "", rate(memory.rates.opened));
  cell("delivered.short", "", rate(memory.rates.delivered), spark(memory.delivered, SMALL));
  cell("dropped", memory.rates.dropped > 0 ? "bad" : status.dropped ? "" : "zero", whole(status.dropped));
  cell("waiting", waiting ? "" : "zero", whole(waiting));
  cell("lag", status.feed_lag_seconds > 1 ? "warn" : "", time(status.feed_lag_seconds));
  cell("uptime", "", span(status.uptime_seconds));
  cell("version", "", status.version);
  return tr;
}

/** Shows the largest channels. */
export function showChannels({ count, members, largest }) {
  const all = many(count, "channel");
  const channels = count > largest.length ? t("some.of", { shown: largest.length, all }) : all;
  put("channels-note", count ? t("channels.note", { channels, memberships: many(members, "membership") }) : t("channels.none"));
  const most = Math.max(1, largest[0]?.members ?? 0);
  const list = $("channels"), rows = list.children;
  while (rows.length > largest.length) list.lastChild.remove();
  largest.forEach(({ name, members: size }, index) => {
    if (rows[index]?.dataset.channel === name) {
      if (rows[index].children[1].textContent !== whole(size)) rows[index].children[1].textContent = whole(size);
      fullness(rows[index].querySelector("i"), size / most);
      return;
    }
    const send = button(t("message.send"), "plain", () => write({ channel: name }));
    send.setAttribute("aria-label", t("channel.send", { name }));
    const title = button(name, "link", () => lookInto(name));
    title.title = name;
    const row = el("li", "", title, el("span", "", whole(size)), send, meter(size / most));
    row.dataset.channel = name;
    if (rows[index]) rows[index].replaceWith(row);
    else list.append(row);
  });
}
