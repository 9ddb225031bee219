//! Every number that the loops of a node count: one row each, from which the counter, its sum, its place in `ServerStats` and
//! its Prometheus family follow.
//!
//! A new number is a row here and an `add` where it happens. Totals are numbers; what is counted by reason or status has one
//! number for each of a list. The columns: name in Rust, name in Prometheus after `imcore_`, what it says.

macro_rules! counter_table {
    ($then:ident) => {
        $then! {
            totals {
                opened = "connections_opened_total",
                    "Connections that were opened.";
                offered = "messages_offered_total",
                    "Messages for connections: one message to three connections counts three. Always the sum of those that \
                     were delivered, were dropped or are queued.";
                delivered = "messages_delivered_total",
                    "Messages whose last byte the operating system took.";
                resumed = "connections_resumed_total",
                    "Clients that came back and were given all that they had missed.";
                replayed = "messages_replayed_total",
                    "Messages that were offered again to a client that came back: they had been written to its former socket.";
                receipts_dropped = "receipts_dropped_total",
                    "Receipts that could not be sent, nor kept until the broker is back.";
                lost = "feed_lost_total",
                    "Messages that were sent to this node while it could not hear, by the count of their senders.";
                malformed = "feed_malformed_total",
                    "Payloads from the broker that were skipped.";
            }
            each {
                closed: CloseReason, CloseReason::ALL = "connections_closed_total", "reason",
                    "Connections that ended, by reason.";
                not_resumed: NotResumed, NotResumed::ALL = "connections_not_resumed_total", "reason",
                    "Clients that came back, or were here, and were told to load their state anew, by reason.";
                drops: CloseReason, CloseReason::ALL = "messages_dropped_total", "reason",
                    "Messages that were queued when their connection ended, by the reason for which it did.";
                receipts: ReceiptStatus, ReceiptStatus::ALL = "receipts_total", "status",
                    "Receipts that are told to senders, by what became of the message.";
                refusals: u16, REFUSALS = "handshakes_refused_total", "status",
                    "Handshakes that were turned away, by HTTP status.";
                tls_failures: TlsFailure, TlsFailure::ALL = "tls_handshake_failures_total", "reason",
                    "TLS handshakes that came to nothing, by reason.";
            }
        }
    };
}

pub(super) use counter_table;
