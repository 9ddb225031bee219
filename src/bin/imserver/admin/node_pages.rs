//! What a node tells of itself without asking its broker: health, metrics and all of its counters.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use imcore::server::{CloseReason, PROMETHEUS_TYPE, ServerStats, Vitals, prometheus};
use serde_json::{Map, Value, json};

use crate::{
    api::Api,
    logging, process,
    web::{Access, Response},
    webhook::Desk,
};

/// What is known of the node without asking its broker.
pub(super) struct NodePages {
    pub(super) name: String,
    /// Where its broker is, without secrets.
    pub(super) broker: String,
    /// Connections that it takes at most.
    pub(super) connections: usize,
    pub(super) vitals: Vitals,
    /// The API, where there is one.
    pub(super) api: Option<Arc<Api>>,
    pub(super) webhook: Desk,
}

impl NodePages {
    pub(super) fn live(&self) -> Response {
        match (self.vitals.failure(), self.vitals.stalled()) {
            (None, None) => Response::line(200, "live"),
            (Some(why), _) => Response::line(503, &format!("failed: {why}")),
            (None, Some(why)) => Response::line(503, &format!("stalled: {why}")),
        }
    }

    pub(super) fn ready(&self) -> Response {
        match self.vitals.not_ready() {
            None => Response::line(200, "ready"),
            Some(why) => Response::line(503, &why.to_string()),
        }
    }

    /// `access` is that of the admin listener; `events` is what was seen last of those that read or deliver events.
    pub(super) fn metrics(&self, access: &Access, events: &str) -> Response {
        let node = prometheus(&self.vitals.stats(), &self.name);
        let api = self.api.as_ref().map_or_else(String::new, |api| api.prometheus());
        let webhook = self.webhook.prometheus();
        let listeners = [access].into_iter().chain(self.api.as_ref().map(|api| api.access()));
        let refused = Access::prometheus(listeners);
        Response::new(
            200,
            PROMETHEUS_TYPE,
            node + &api + &webhook + events + &refused + &logging::metrics() + &process::metrics(),
        )
    }

    pub(super) fn stats(&self) -> Response {
        let stats = self.vitals.stats();
        let calls = stats.calls.iter().map(|call| {
            let buckets: Vec<_> = call
                .buckets
                .iter()
                .map(|(bound, count)| json!([bound.as_secs_f64(), count]))
                .collect();
            let value = json!({
                "count": call.count,
                "errors": call.errors,
                "seconds": call.total.as_secs_f64(),
                "buckets": buckets,
            });
            (call.call.to_owned(), value)
        });
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let text = json!({
            "node": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": stats.uptime.as_secs_f64(),
            "ready": stats.not_ready.is_none(),
            "not_ready": stats.not_ready.map(|why| why.to_string()),
            "connections": connections(&stats, self.connections),
            "tls": tls(&stats),
            "messages": {
                "offered": stats.offered,
                "delivered": stats.delivered,
                "dropped": stats.dropped,
                "drops": by_reason(&stats.drops),
                "queued": stats.offered.saturating_sub(stats.delivered + stats.dropped),
                "replayed": stats.replayed,
            },
            "receipts": receipts(&stats),
            "presence": { "waiting": stats.presence_waiting },
            "reactors": stats.inboxes,
            "feed": {
                "listening": stats.listening,
                "heard_age_seconds": seconds(stats.heard_ago),
                "lag_seconds": seconds(stats.feed_lag),
                "malformed": stats.malformed,
                "lost": stats.lost,
            },
            "slots": stats.slots.map(|slots| json!({
                "version": slots.version,
                "owned": slots.owned,
                "moving": slots.moving,
                "unowned": slots.unowned,
            })),
            "lease": { "held": stats.lease_held, "age_seconds": seconds(stats.lease_age) },
            "broker": { "address": self.broker, "calls": calls.collect::<Map<_, _>>() },
        });
        Response::new(200, "application/json", text.to_string())
    }
}

fn connections(stats: &ServerStats, limit: usize) -> Value {
    let refused = stats.refusals.iter().map(|(status, count)| (status.to_string(), json!(count)));
    let not_resumed =
        stats.not_resumed.iter().map(|(why, count)| (why.label().to_owned(), json!(count)));
    json!({
        "open": stats.connections,
        "limit": limit,
        "parked": stats.parked,
        "resumed": stats.resumed,
        "not_resumed": not_resumed.collect::<Map<_, _>>(),
        "opened": stats.opened,
        "closed": by_reason(&stats.closed),
        "handshakes": stats.handshakes,
        "refused": refused.collect::<Map<_, _>>(),
    })
}

fn receipts(stats: &ServerStats) -> Value {
    let told =
        stats.receipts.iter().map(|(status, count)| (status.label().to_owned(), json!(count)));
    json!({
        "told": told.collect::<Map<_, _>>(),
        "dropped": stats.receipts_dropped,
        "waiting": stats.receipts_waiting,
    })
}

fn by_reason(counts: &[(CloseReason, u64)]) -> Map<String, Value> {
    counts.iter().map(|(reason, count)| (reason.label().to_owned(), json!(count))).collect()
}

fn tls(stats: &ServerStats) -> Value {
    let failures =
        stats.tls_failures.iter().map(|(why, count)| (why.label().to_owned(), json!(count)));
    let ends = stats.tls_expiry.and_then(|expiry| expiry.duration_since(UNIX_EPOCH).ok());
    json!({
        "certificate_ends": ends.map(|since| since.as_secs()),
        "failures": failures.collect::<Map<_, _>>(),
    })
}
