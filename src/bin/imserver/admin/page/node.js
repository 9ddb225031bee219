// The node that answers, in detail.

import { fill, put, rate, short, span, time, whole } from "./show.js";

// Looks that rates are taken over.
const WINDOW = 5;
const REFUSALS = {
  400: "not a WebSocket request", 401: "token missing, unknown, used or expired", 403: "origin", 404: "path",
  405: "method", 408: "too slow", 421: "client of another node", 426: "no upgrade", 429: "too many from one address",
  431: "head too large", 503: "full, stopping or without broker",
};
const looks = [];

/** The time below which a share of the calls between two moments lay: the bound of its bucket. */
function quantile(now, before, share) {
  const count = now.count - before.count;
  if (count <= 0) return "–";
  const found = now.buckets.find(([, upTo], index) => upTo - before.buckets[index][1] >= share * count);
  return found ? `≤ ${time(found[0])}` : `> ${time(now.buckets.at(-1)[0])}`;
}

function ranked(counts, name) {
  const all = Object.entries(counts).filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a);
  if (all.length === 0) return [{ cells: ["none yet"], dull: true }];
  return all.map(([key, count]) => ({ cells: [name(key), whole(count)], bar: count / all[0][1] }));
}

/** Shows the counters of the node that answers. */
export function showNode(stats) {
  // A node that was restarted counts from the start again.
  if (looks.length && stats.uptime_seconds < looks.at(-1).uptime_seconds) looks.length = 0;
  looks.push(stats);
  if (looks.length > WINDOW + 1) looks.shift();
  const then = looks[0];
  const passed = Math.max(0.001, stats.uptime_seconds - then.uptime_seconds);
  const recent = (pick) => looks.length > 1 ? Math.max(0, (pick(stats) - pick(then)) / passed) : null;
  const { connections, messages } = stats;
  put("own-name", `Connections of ${stats.node}`);
  put("own-connections", whole(connections.open));
  const parked = connections.parked ? `${whole(connections.parked)} away and waited for · ` : "";
  put("own-limit", `of ${whole(connections.limit)} · ${parked}${stats.ready ? "ready" : stats.not_ready} · up ${span(stats.uptime_seconds)} · ${stats.version}`);
  put("own-delivered", rate(recent((s) => s.messages.delivered)));
  put("own-delivered-all", `${whole(messages.delivered)} since the start`);
  put("own-dropped", whole(messages.dropped));
  put("own-handshakes", whole(connections.handshakes));
  put("own-opened", `${rate(recent((s) => s.connections.opened))} connects a second`);
  fill("closed", ranked(connections.closed, (reason) => reason.replaceAll("_", " ")));
  fill("refused", ranked(connections.refused, (status) => `${status} ${REFUSALS[status] ?? ""}`));
  showWaits(stats);
  showBroker(stats, then, passed);
}

function showWaits(stats) {
  const waits = [["Messages for slow clients", stats.messages.queued], ["Presence changes", stats.presence.waiting], ["Receipts", stats.receipts.waiting],
    ...stats.reactors.map((count, index) => [`Commands for reactor ${index}`, count])];
  const longest = Math.max(1, ...waits.map(([, count]) => count));
  fill("waits", waits.map(([name, count]) => ({ cells: [name, whole(count)], bar: count / longest, dull: count === 0 })));
}

function showBroker({ broker, feed, lease, receipts }, then, passed) {
  fill("calls", Object.entries(broker.calls).map(([name, call]) => {
    const before = then.broker.calls[name];
    return {
      cells: [name, rate((call.count - before.count) / passed), quantile(call, before, 0.5), quantile(call, before, 0.99), short(call.count), short(call.errors)],
      bad: call.errors > before.errors,
    };
  }));
  const counted = (name, count, bad) => ({ cells: [name, whole(count)], dull: count === 0, bad: bad && count > 0 });
  const ago = (seconds) => seconds == null ? "never" : `${time(seconds)} ago`;
  fill("feed", [
    { cells: ["The node hears the broker", feed.listening ? "yes" : "no"], bad: !feed.listening },
    { cells: ["Proven", ago(feed.heard_age_seconds)] },
    { cells: ["Way through the broker", time(feed.lag_seconds)] },
    counted("Messages missed while deaf", feed.lost, true),
    counted("Payloads skipped", feed.malformed),
    counted("Receipts dropped", receipts.dropped),
    { cells: ["Presence lease", lease.held ? "held" : "not held"], bad: !lease.held },
    { cells: ["Renewed", ago(lease.age_seconds)] },
  ]);
}
