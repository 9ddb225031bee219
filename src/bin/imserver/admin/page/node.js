// The node that answers, in detail.

import { dotted, named, rate, short, span, t, time, whole } from "./language.js";
import { fill, put } from "./show.js";

// Looks that rates are taken over.
const WINDOW = 5;
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
  if (all.length === 0) return [{ cells: [t("none.yet")], dull: true }];
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
  put("own-name", t("own.name", { node: stats.node }));
  put("own-connections", whole(connections.open));
  const parked = connections.parked && t("total.away", { count: whole(connections.parked) });
  const state = stats.ready ? t("node.ready") : t("node.not-ready", { why: named("why", stats.not_ready.split(":")[0]) });
  put("own-limit", dotted(t("own.limit", { limit: whole(connections.limit) }), parked, state, t("own.up", { span: span(stats.uptime_seconds) }), stats.version));
  put("own-delivered", rate(recent((s) => s.messages.delivered)));
  put("own-delivered-all", t("own.delivered", { count: whole(messages.delivered) }));
  put("own-dropped", whole(messages.dropped));
  put("own-handshakes", whole(connections.handshakes));
  put("own-opened", t("own.opened", { rate: rate(recent((s) => s.connections.opened)) }));
  fill("closed", ranked(connections.closed, (reason) => named("closed", reason)));
  fill("refused", ranked(connections.refused, (status) => `${status} ${named("refused", status)}`));
  showWaits(stats);
  showBroker(stats, then, passed);
}

function showWaits(stats) {
  const waits = [[t("waits.messages"), stats.messages.queued], [t("waits.presence"), stats.presence.waiting], [t("waits.receipts"), stats.receipts.waiting],
    ...stats.reactors.map((count, index) => [t("waits.reactor", { index }), count])];
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
  const ago = (seconds) => seconds == null ? t("feed.never") : t("feed.ago", { time: time(seconds) });
  fill("feed", [
    { cells: [t("feed.hears"), t(feed.listening ? "feed.yes" : "feed.no")], bad: !feed.listening },
    { cells: [t("feed.proven"), ago(feed.heard_age_seconds)] },
    { cells: [t("feed.way"), time(feed.lag_seconds)] },
    counted(t("feed.missed"), feed.lost, true),
    counted(t("feed.skipped"), feed.malformed),
    counted(t("feed.receipts"), receipts.dropped),
    { cells: [t("feed.lease"), t(lease.held ? "feed.held" : "feed.not-held")], bad: !lease.held },
    { cells: [t("feed.renewed"), ago(lease.age_seconds)] },
  ]);
}
