//! What a node tells of itself at one moment: the counters of all its threads, added up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use super::{
    calls::CallStats,
    counters::{Counters, REFUSALS},
    histogram::Times,
    table::counter_table,
};
use crate::{
    server::{
        readiness::NotReady,
        reasons::{CloseReason, NotResumed, TlsFailure},
    },
    wire::ReceiptStatus,
};

/// What a node has of the slots, by the table that it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotStats {
    /// Version of the table; rises by one with each change, and is the same on all nodes soon.
    pub version: u64,
    /// Slots that the node owns.
    pub owned: u64,
    /// Slots that it has given away and still has clients of.
    pub moving: u64,
    /// Slots that no node owns: their clients can connect nowhere.
    pub unowned: u64,
}

macro_rules! server_stats {
    (
        totals { $($total:ident = $name:literal, $help:literal;)* }
        each { $($each:ident: $of:ty, $all:path = $each_name:literal, $label:literal, $each_help:literal;)* }
    ) => {
        /// What the node has counted since it started, and how it is now.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ServerStats {
            $(#[doc = $help] pub $total: u64,)*
            $(
                #[doc = $each_help]
                #[doc = ""]
                #[doc = "All there are, always in the same order."]
                pub $each: Vec<($of, u64)>,
            )*
            /// Connections that are open now.
            pub connections: u64,
            /// Messages that were queued when their connection ended: the sum of `drops`.
            pub dropped: u64,
            /// Handshakes that were turned away: the sum of `refusals`.
            pub refused: u64,
            /// Handshakes under way.
            pub handshakes: u64,
            /// Clients that are away, are waited for, and count as online.
            pub parked: u64,
            /// When the certificate ends; `None` without TLS, or where it does not say so as others do.
            pub tls_expiry: Option<SystemTime>,
            /// Commands that wait for each reactor: a number that stays high means that it cannot keep up.
            pub inboxes: Vec<u64>,
            /// Openings and ends of connections that the broker does not know of yet.
            pub presence_waiting: u64,
            /// Receipts that wait to be sent.
            pub receipts_waiting: u64,
            /// How long messages took from their publication until the operating system had their last byte, each once a connection:
            /// of those whose number in a log says when they were published, by the clocks of Redis and node.
            pub publish_to_written: Times,
            /// The same of all others, from their arrival at the node.
            pub arrival_to_written: Times,
            /// How long the node's calls to the broker took.
            pub calls: Vec<CallStats>,
            /// Whether the node hears the broker.
            pub listening: bool,
            /// Time since that was last proven; `None` if it never was.
            pub heard_ago: Option<Duration>,
            /// Time that a message took through the broker when it was last proven.
            pub feed_lag: Option<Duration>,
            /// Whether the presence lease is held.
            pub lease_held: bool,
            /// Time since the lease was last renewed; `None` if there never was one.
            pub lease_age: Option<Duration>,
            /// Why clients cannot connect; `None` if they can.
            pub not_ready: Option<NotReady>,
            /// What the node has of the slots, where nodes come and go; `None` in a fixed list, and before it knows a table.
            pub slots: Option<SlotStats>,
            /// Time since the node started.
            pub uptime: Duration,
        }

        impl ServerStats {
            /// What the threads counted. Of what is handed to presence and publisher the sum is all that ever was;
            /// `pulse` takes off what is done.
            pub(crate) fn sum<'a>(parts: impl Iterator<Item = &'a Counters>) -> Self {
                let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let mut sum = ServerStats {
                    $($each: $all.iter().map(|one| (*one, 0)).collect(),)*
                    ..ServerStats::default()
                };
                for part in parts {
                    $(sum.$total += get(&part.$total);)*
                    $(
                        for ((_, count), counter) in sum.$each.iter_mut().zip(&part.$each) {
                            *count += get(counter);
                        }
                    )*
                    sum.handshakes += get(&part.handshakes);
                    sum.parked += get(&part.parked);
                    sum.publish_to_written.add(part.since_published.read());
                    sum.arrival_to_written.add(part.since_arrival.read());
                    sum.presence_waiting += get(&part.presence_queued);
                    sum.receipts_waiting += get(&part.receipts_queued);
                }
                let ended: u64 = sum.closed.iter().map(|(_, count)| count).sum();
                ServerStats {
                    connections: sum.opened.saturating_sub(ended),
                    dropped: sum.drops.iter().map(|(_, count)| count).sum(),
                    refused: sum.refusals.iter().map(|(_, count)| count).sum(),
                    ..sum
                }
            }
        }
    };
}

counter_table!(server_stats);
