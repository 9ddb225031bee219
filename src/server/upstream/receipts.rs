//! The thread that sends receipts for the reactors: whatever queued up during its last round trip as one batch.
//!
//! Ends when its queue has no sender any more.

use super::{
    batch::{LONG, Work, collect},
    patience::Patience,
};
use crate::{
    backoff::Reasons,
    broker::Broker,
    error::{ErrorKind, Result},
    placement::Placement,
    server::{
        connection::receipt::{DueNotices, Notice},
        stats::{
            calls::Call,
            counters::{Counters, add},
            vitals::Pulse,
        },
    },
};

/// Bytes of receipts that are published at once, at least one whole receipt.
const PUBLISH_BYTES: usize = 1 << 20;
/// How often a full broker is asked to take receipts; it waits 2 s each time before it says so.
const PUBLISH_ATTEMPTS: u32 = 5;

/// Sends receipts. What cannot be sent is counted and dropped: it would be stale after an outage.
pub(crate) fn run_publisher(
    broker: &dyn Broker,
    due: &DueNotices,
    placement: &Placement,
    counters: &Counters,
    pulse: &Pulse,
    give_up: &Patience,
) {
    let mut batch = Vec::new();
    let mut reasons = Reasons::default();
    loop {
        match collect(&due.queue, &mut batch, LONG) {
            Work::Batch => {}
            Work::Idle => continue,
            Work::Ended => return,
        }
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let (notices, others) = rest.split_at(within(rest, PUBLISH_BYTES));
            rest = others;
            let result = publish(broker, notices, placement, pulse);
            add(&pulse.receipts_done, notices.len() as u64);
            due.done(notices, result.is_err());
            if let Err(error) = &result {
                add(&counters.receipts_dropped, notices.len() as u64);
                if reasons.are_new(error) {
                    log::warn!("receipts are dropped until the broker is back: {error}");
                }
            }
            let failing = result.is_err();
            if !failing {
                reasons.clear();
            }
            if give_up.is_over() || (failing && give_up.is_short()) {
                let left = (rest.len() + due.queue.try_iter().count()) as u64;
                add(&pulse.receipts_done, left);
                add(&counters.receipts_dropped, left);
                return;
            }
        }
        batch.clear();
    }
}

/// How many of `notices`, at least one, have `bytes` together.
fn within(notices: &[Notice], bytes: usize) -> usize {
    let mut sum = 0;
    let fitting = notices.iter().take_while(|notice| {
        sum += notice.len();
        sum <= bytes
    });
    fitting.count().max(1)
}

/// Sends one batch. A broker that is full is only asked again: it has taken nothing, and lives.
fn publish(
    broker: &dyn Broker,
    notices: &[Notice],
    placement: &Placement,
    pulse: &Pulse,
) -> Result<()> {
    let outgoing: Vec<_> = notices
        .iter()
        .map(|notice| (placement.owner(notice.sender()), notice.envelope()))
        .collect();
    let mut attempts = 1..PUBLISH_ATTEMPTS;
    loop {
        let result = pulse.time(Call::Publish, || broker.publish(&outgoing));
        match result {
            Err(error) if error.kind() == ErrorKind::Overloaded && attempts.next().is_some() => {}
            result => return result,
        }
    }
}
