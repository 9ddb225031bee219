//! What the admin listener answers: who may ask, and what there is.

use std::{
    hint::black_box,
    net::{IpAddr, SocketAddr},
    sync::{PoisonError, RwLock},
};

use imcore::server::{PROMETHEUS_TYPE, ServerStats, Vitals, prometheus};
use serde_json::{Map, Value, json};

use super::http::{Request, Response};
use crate::process;

const PAGE: &str = include_str!("page.html");
const PLACES: &str = "there are /, /health/live, /health/ready, /metrics and /stats";

/// The node that is asked about, and who may ask.
pub(crate) struct Site {
    node: String,
    broker: String,
    connections: usize,
    vitals: Vitals,
    token: RwLock<Option<String>>,
    /// Whether only this machine can reach the listener.
    loopback: bool,
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
        let loopback = address.is_some_and(|address| address.ip().is_loopback());
        let token = RwLock::new(token);
        Site { node: node.to_owned(), broker, connections, vitals, token, loopback }
    }

    /// Asks for another token from now on; for none only where nobody else can ask.
    pub(crate) fn set_token(&self, token: Option<String>) {
        if token.is_some() || self.loopback {
            *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        }
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Response::line(405, "only GET and HEAD");
        }
        match request.path.as_str() {
            // Health checks and the page itself carry no token, and tell nothing but the state.
            "/health/live" => self.live(),
            "/health/ready" => self.ready(),
            "/" => Response {
                status: 200,
                content_type: "text/html; charset=utf-8",
                body: PAGE.to_owned(),
            },
            path => match self.refusal(request) {
                Some(refusal) => refusal,
                None if path == "/metrics" => Response {
                    status: 200,
                    content_type: PROMETHEUS_TYPE,
                    body: prometheus(&self.vitals.stats(), &self.node) + &process::metrics(),
                },
                None if path == "/stats" => Response {
                    status: 200,
                    content_type: "application/json",
                    body: self.stats().to_string(),
                },
                None => Response::line(404, PLACES),
            },
        }
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

    /// The answer to somebody who may not ask.
    fn refusal(&self, request: &Request) -> Option<Response> {
        match &*self.token.read().unwrap_or_else(PoisonError::into_inner) {
            Some(token) => {
                let given = request.bearer.as_deref().unwrap_or_default();
                let good = same(token.as_bytes(), given.as_bytes());
                (!good).then(|| Response::line(401, "give the token as Authorization: Bearer"))
            }
            // A page from elsewhere could have its own name lead here and read the answers.
            None => {
                let foreign = request.host.as_deref().is_some_and(|host| !is_local(host));
                let text = "without a token only under a name of this machine; set admin_token";
                foreign.then(|| Response::line(403, text))
            }
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

/// Whether two secrets are the same, in a time that does not tell how much of them is.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differing = secret.iter().enumerate().fold(0u8, |found, (at, byte)| {
        black_box(found | (byte ^ given.get(at).copied().unwrap_or(!byte)))
    });
    black_box(differing) == 0 && secret.len() == given.len()
}

/// Whether a `Host` header names this machine as only itself does.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_same_or_not() {
        assert!(same(b"0123456789abcdef", b"0123456789abcdef"));
        for given in [&b""[..], b"0123456789abcdeg", b"0123456789abcde", b"0123456789abcdef0"] {
            assert!(!same(b"0123456789abcdef", given));
        }
    }

    #[test]
    fn names_of_this_machine() {
        for host in
            ["localhost", "LOCALHOST:9001", "127.0.0.1:9001", "127.9.9.9", "[::1]:9001", "[::1]"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "", "0.0.0.0:9001"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
