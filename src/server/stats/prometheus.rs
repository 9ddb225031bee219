//! What a node counts, as Prometheus text. Pure.
//!
//! Names follow the customs of Prometheus: one prefix, base units (seconds), `_total` for what only
//! grows, labels in snake_case. A name or label that was once published stays: dashboards and alerts are built on them.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    time::{Duration, UNIX_EPOCH},
};

use super::{calls::CallStats, histogram::Times, snapshot::ServerStats, table::counter_table};
use crate::{
    server::reasons::{CloseReason, NotResumed, TlsFailure},
    wire::ReceiptStatus,
};

/// The media type of [`prometheus`]' result.
pub const PROMETHEUS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of the node named `node` in the text exposition format of Prometheus.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
/// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
/// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
/// use imcore::server::{PROMETHEUS_TYPE, prometheus};
///
/// let body = prometheus(&node.vitals().stats(), node.server());
/// assert!(body.contains("# TYPE imcore_connections gauge"));
/// println!("Content-Type: {PROMETHEUS_TYPE}\r\n\r\n{body}");
/// # Ok::<(), imcore::Error>(())
/// ```
pub fn prometheus(stats: &ServerStats, node: &str) -> String {
    let mut page = Page::default();
    node_metrics(&mut page, stats, node);
    counted(&mut page, stats);
    connection_metrics(&mut page, stats);
    queue_metrics(&mut page, stats);
    slot_metrics(&mut page, stats);
    broker_metrics(&mut page, stats);
    page.0
}

macro_rules! counted {
    (
        totals { $($total:ident = $name:literal, $help:literal;)* }
        each { $($each:ident: $of:ty, $all:path = $each_name:literal, $label:literal, $each_help:literal;)* }
    ) => {
        /// What the loops counted.
        fn counted(page: &mut Page, stats: &ServerStats) {
            $(page.single(concat!("imcore_", $name), Kind::Counter, $help, stats.$total);)*
            $(
                let name = concat!("imcore_", $each_name);
                page.family(name, Kind::Counter, $each_help);
                for (one, count) in &stats.$each {
                    page.sample(name, &[($label, &one.label())], count);
                }
            )*
        }
    };
}

counter_table!(counted);

/// What a number is counted by, as the value of a label.
trait Labelled {
    fn label(&self) -> Cow<'static, str>;
}

impl Labelled for CloseReason {
    fn label(&self) -> Cow<'static, str> {
        CloseReason::label(*self).into()
    }
}

impl Labelled for TlsFailure {
    fn label(&self) -> Cow<'static, str> {
        TlsFailure::label(*self).into()
    }
}

impl Labelled for NotResumed {
    fn label(&self) -> Cow<'static, str> {
        NotResumed::label(*self).into()
    }
}

impl Labelled for ReceiptStatus {
    fn label(&self) -> Cow<'static, str> {
        ReceiptStatus::label(*self).into()
    }
}

impl Labelled for u16 {
    fn label(&self) -> Cow<'static, str> {
        self.to_string().into()
    }
}

fn node_metrics(page: &mut Page, stats: &ServerStats, node: &str) {
    page.family("imcore_node_info", Kind::Gauge, "Always 1; says which node and version this is.");
    let version = env!("CARGO_PKG_VERSION");
    page.sample("imcore_node_info", &[("node", node), ("version", version)], 1);
    let up = stats.uptime.as_secs_f64();
    page.single("imcore_uptime_seconds", Kind::Gauge, "Time since the node started.", up);
    let ready = u8::from(stats.not_ready.is_none());
    let help = "Whether clients can connect: the feed is heard and the lease held.";
    page.single("imcore_ready", Kind::Gauge, help, ready);
}

fn connection_metrics(page: &mut Page, stats: &ServerStats) {
    let help = "Connections that are open now.";
    page.single("imcore_connections", Kind::Gauge, help, stats.connections);
    let help = "Clients that are away, are waited for, and count as online.";
    page.single("imcore_parked", Kind::Gauge, help, stats.parked);
    let help = "Handshakes under way.";
    page.single("imcore_handshakes", Kind::Gauge, help, stats.handshakes);
    let help = "When the certificate ends, in seconds since 1970; NaN without TLS.";
    let at = seconds(stats.tls_expiry.and_then(|expiry| expiry.duration_since(UNIX_EPOCH).ok()));
    page.single("imcore_tls_certificate_expiry_timestamp_seconds", Kind::Gauge, help, at);
}

fn queue_metrics(page: &mut Page, stats: &ServerStats) {
    for (name, help, times) in [
        (
            "imcore_publish_to_written_seconds",
            "Time from the publication of a message that a log has until the operating system had its last byte, once a \
             connection; by the clocks of Redis and node.",
            &stats.publish_to_written,
        ),
        (
            "imcore_arrival_to_written_seconds",
            "The same of all other messages, from their arrival at the node.",
            &stats.arrival_to_written,
        ),
    ] {
        page.family(name, Kind::Histogram, help);
        let Times { count, total, buckets } = times;
        page.histogram(name, &[], *count, *total, buckets);
    }
    let help = "Messages that wait for a slow client: offered, but neither delivered nor dropped.";
    let queued = stats.offered.saturating_sub(stats.delivered + stats.dropped);
    page.single("imcore_messages_queued", Kind::Gauge, help, queued);
    let name = "imcore_reactor_inbox_commands";
    page.family(name, Kind::Gauge, "Commands that wait for a reactor.");
    for (index, waiting) in stats.inboxes.iter().enumerate() {
        page.sample(name, &[("reactor", &index.to_string())], waiting);
    }
    let help = "Openings and ends of connections that the broker does not know of yet.";
    page.single("imcore_presence_changes_waiting", Kind::Gauge, help, stats.presence_waiting);
    let help = "Receipts that wait to be sent.";
    page.single("imcore_receipts_waiting", Kind::Gauge, help, stats.receipts_waiting);
}

/// Nothing where nodes are a fixed list.
fn slot_metrics(page: &mut Page, stats: &ServerStats) {
    let Some(slots) = stats.slots else { return };
    let name = "imcore_slots";
    let help = "Slots of the node: those that it owns, and those that it has given away and still has clients of.";
    page.family(name, Kind::Gauge, help);
    for (state, count) in [("owned", slots.owned), ("moving", slots.moving)] {
        page.sample(name, &[("state", state)], count);
    }
    let help = "Slots that no node owns, as this one knows.";
    page.single("imcore_slots_unowned", Kind::Gauge, help, slots.unowned);
    let help = "Version of the table of slots that the node goes by.";
    page.single("imcore_slot_table_version", Kind::Gauge, help, slots.version);
}

fn broker_metrics(page: &mut Page, stats: &ServerStats) {
    let help = "Whether the node hears the broker.";
    page.single("imcore_feed_listening", Kind::Gauge, help, u8::from(stats.listening));
    let help = "Time since the feed was last proven; NaN before the first time.";
    page.single("imcore_feed_heard_age_seconds", Kind::Gauge, help, seconds(stats.heard_ago));
    let help = "Time that a message took through the broker when the feed was last proven.";
    page.single("imcore_feed_lag_seconds", Kind::Gauge, help, seconds(stats.feed_lag));
    let help = "Whether the presence lease is held.";
    page.single("imcore_lease_held", Kind::Gauge, help, u8::from(stats.lease_held));
    let help = "Time since the presence lease was last renewed; NaN before the first time.";
    page.single("imcore_lease_age_seconds", Kind::Gauge, help, seconds(stats.lease_age));
    let name = "imcore_broker_call_seconds";
    page.family(name, Kind::Histogram, "How long calls to the broker took, failed ones included.");
    for call in &stats.calls {
        let CallStats { count, total, buckets, .. } = call;
        page.histogram(name, &[("call", call.call)], *count, *total, buckets);
    }
    let name = "imcore_broker_call_errors_total";
    page.family(name, Kind::Counter, "Calls to the broker that failed.");
    for call in &stats.calls {
        page.sample(name, &[("call", call.call)], call.errors);
    }
}

fn seconds(age: Option<std::time::Duration>) -> f64 {
    age.map_or(f64::NAN, |age| age.as_secs_f64())
}

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Default)]
struct Page(String);

// Writing to a `String` cannot fail.
impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    _ => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        count: u64,
        total: Duration,
        buckets: &[(Duration, u64)],
    ) {
        let (bucket, mut all) = (format!("{name}_bucket"), labels.to_vec());
        for (bound, count) in buckets {
            let bound = bound.as_secs_f64().to_string();
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        all.push(("le", "+Inf"));
        self.sample(&bucket, &all, count);
        self.sample(&format!("{name}_sum"), labels, total.as_secs_f64());
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::server::stats::snapshot::SlotStats;

    /// A sample: name, labels, value.
    type Sample = (String, BTreeMap<String, String>, f64);

    /// Reads a sample line as Prometheus does.
    fn parse(line: &str) -> Sample {
        let name_end = line.find(['{', ' ']).unwrap();
        let (name, mut rest) = line.split_at(name_end);
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while !rest.starts_with('}') {
                let (label, after) = rest.trim_start_matches(',').split_once("=\"").unwrap();
                let mut value = String::new();
                let mut chars = after.char_indices();
                let end = loop {
                    match chars.next().unwrap() {
                        (at, '"') => break at,
                        (_, '\\') => value.push(match chars.next().unwrap().1 {
                            'n' => '\n',
                            c => c,
                        }),
                        (_, c) => value.push(c),
                    }
                };
                labels.insert(label.to_owned(), value);
                rest = &after[end + 1..];
            }
            rest = &rest[1..];
        }
        (name.to_owned(), labels, rest.trim().parse().unwrap())
    }

    fn stats() -> ServerStats {
        let buckets = vec![(Duration::from_micros(500), 1), (Duration::from_millis(5), 3)];
        let total = Duration::from_millis(1500);
        let calls = vec![CallStats { call: "renew", count: 4, errors: 1, total, buckets }];
        ServerStats {
            connections: 2,
            offered: 10,
            delivered: 7,
            dropped: 1,
            closed: vec![(CloseReason::Kicked, 3)],
            refusals: vec![(401, 5)],
            tls_failures: vec![(TlsFailure::Rejected, 4)],
            tls_expiry: Some(UNIX_EPOCH + Duration::from_secs(2_000_000_000)),
            inboxes: vec![0, 6],
            calls,
            lease_age: Some(Duration::from_millis(250)),
            slots: Some(SlotStats { version: 9, owned: 12, moving: 2, unowned: 1 }),
            ..ServerStats::default()
        }
    }

    #[test]
    fn every_line_can_be_read_back_and_follows_the_customs() {
        let text = prometheus(&stats(), "a\"b\\c\nd");
        let mut types = BTreeMap::new();
        let mut samples: Vec<Sample> = Vec::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split_once(' ').unwrap().0.to_owned();
                assert!(!types.contains_key(&family), "{family} comes twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
                types.insert(name.to_owned(), kind.to_owned());
            } else {
                let sample = parse(line);
                assert!(sample.0.starts_with(&family) && sample.0.starts_with("imcore_"), "{line}");
                samples.push(sample);
            }
        }
        let value = |name: &str, label: &str| {
            let found = samples.iter().find(|(other, labels, _)| {
                other == name && (label.is_empty() || labels.values().any(|value| value == label))
            });
            found.unwrap_or_else(|| panic!("{name} {label}")).2
        };
        assert_eq!(value("imcore_node_info", "a\"b\\c\nd"), 1.0);
        assert_eq!(value("imcore_connections", ""), 2.0);
        assert_eq!(value("imcore_messages_queued", ""), 2.0);
        assert_eq!(value("imcore_connections_closed_total", "kicked"), 3.0);
        assert_eq!(value("imcore_handshakes_refused_total", "401"), 5.0);
        assert_eq!(value("imcore_tls_handshake_failures_total", "rejected_by_client"), 4.0);
        assert_eq!(value("imcore_tls_certificate_expiry_timestamp_seconds", ""), 2e9);
        assert_eq!(value("imcore_reactor_inbox_commands", "1"), 6.0);
        assert_eq!(value("imcore_broker_call_seconds_bucket", "0.0005"), 1.0);
        assert_eq!(value("imcore_broker_call_seconds_bucket", "+Inf"), 4.0);
        assert_eq!(value("imcore_broker_call_seconds_sum", "renew"), 1.5);
        assert_eq!(value("imcore_lease_age_seconds", ""), 0.25);
        assert_eq!((value("imcore_slots", "owned"), value("imcore_slots", "moving")), (12.0, 2.0));
        assert_eq!(value("imcore_slots_unowned", ""), 1.0);
        assert_eq!(value("imcore_slot_table_version", ""), 9.0);
        assert!(!prometheus(&ServerStats::default(), "n").contains("slot"), "in a fixed list");
        assert!(value("imcore_feed_heard_age_seconds", "").is_nan());
        assert_eq!(types["imcore_broker_call_seconds"], "histogram");
    }
}
