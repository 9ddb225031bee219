//! What the admin listener answers: who may ask, and what there is.

use std::{net::SocketAddr, time::Duration};

use imcore::server::{PROMETHEUS_TYPE, ServerStats, Vitals, prometheus};
use serde_json::{Map, Value, json};

use crate::web::{self, Access, CHALLENGE, Limits, Request, Response};

const PAGE: &str = include_str!("page.html");
/// What the page may do: it is whole in itself and asks only here.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
                           script-src 'unsafe-inline'; connect-src 'self'; img-src data:";
const PLACES: &str = "there are /, /health/live, /health/ready, /metrics and /stats";

/// The node that is asked about, and who may ask.
pub(crate) struct Site {
    node: String,
    broker: String,
    connections: usize,
    vitals: Vitals,
    access: Access,
}

impl Site {
    /// A site for the node called `node`, which takes up to `connections` and whose broker is `broker`.
    pub(crate) fn new(
        node: &str,
        broker: String,
        connections: usize,
        vitals: Vitals,
        token: Option<String>,
        address: Option<SocketAddr>,
    ) -> Site {
        let access = Access::new("admin_token", token, address);
        Site { node: node.to_owned(), broker, connections, vitals, access }
    }

    /// Who may ask.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    fn live(&self) -> Response {
        match self.vitals.failure() {
            None => Response::line(200, "live"),
            Some(why) => Response::line(503, &format!("failed: {why}")),
        }
    }

    fn ready(&self) -> Response {
        match self.vitals.not_ready() {
            None => Response::line(200, "ready"),
            Some(why) => Response::line(503, &why.to_string()),
        }
    }

    fn stats(&self) -> Value {
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
        let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
        json!({
            "node": self.node,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": stats.uptime.as_secs_f64(),
            "ready": stats.not_ready.is_none(),
            "not_ready": stats.not_ready.map(|why| why.to_string()),
            "connections": connections(&stats, self.connections),
            "messages": {
                "offered": stats.offered,
                "delivered": stats.delivered,
                "dropped": stats.dropped,
                "queued": stats.offered.saturating_sub(stats.delivered + stats.dropped),
            },
            "receipts": { "dropped": stats.receipts_dropped, "waiting": stats.receipts_waiting },
            "presence": { "waiting": stats.presence_waiting },
            "reactors": stats.inboxes,
            "feed": {
                "listening": stats.listening,
                "heard_age_seconds": seconds(stats.heard_ago),
                "lag_seconds": seconds(stats.feed_lag),
                "malformed": stats.malformed,
                "lost": stats.lost,
            },
            "lease": { "held": stats.lease_held, "age_seconds": seconds(stats.lease_age) },
            "broker": { "address": self.broker, "calls": calls.collect::<Map<_, _>>() },
        })
    }
}

impl web::Site for Site {
    fn limits(&self) -> Limits {
        // Probes and scrapers come once in a while: nothing is kept for them.
        Limits {
            connections: 32,
            head: 8 << 10,
            body: 0,
            request: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            idle: Duration::ZERO,
        }
    }

    fn admit(&self, request: &Request) -> Result<(), Response> {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Err(Response::line(405, "only GET and HEAD").with("Allow", "GET, HEAD"));
        }
        // Health checks and the page itself carry no token, and tell nothing but the state.
        if matches!(request.path.as_str(), "/" | "/health/live" | "/health/ready") {
            return Ok(());
        }
        self.access.check(request).map_err(|denied| {
            let response = Response::line(denied.status, &denied.why);
            if denied.status == 401 { response.with(CHALLENGE.0, CHALLENGE.1) } else { response }
        })
    }

    fn answer(&self, request: &Request) -> Response {
        match request.path.as_str() {
            "/health/live" => self.live(),
            "/health/ready" => self.ready(),
            "/" => Response::new(200, "text/html; charset=utf-8", PAGE)
                .with("Content-Security-Policy", PAGE_POLICY)
                .with("X-Frame-Options", "DENY"),
            "/metrics" => {
                Response::new(200, PROMETHEUS_TYPE, prometheus(&self.vitals.stats(), &self.node))
            }
            "/stats" => Response::new(200, "application/json", self.stats().to_string()),
            _ => Response::line(404, PLACES),
        }
    }
}

fn connections(stats: &ServerStats, limit: usize) -> Value {
    let closed =
        stats.closed.iter().map(|(reason, count)| (reason.text().to_owned(), json!(count)));
    let refused = stats.refusals.iter().map(|(status, count)| (status.to_string(), json!(count)));
    json!({
        "open": stats.connections,
        "limit": limit,
        "opened": stats.opened,
        "closed": closed.collect::<Map<_, _>>(),
        "handshakes": stats.handshakes,
        "refused": refused.collect::<Map<_, _>>(),
    })
}
