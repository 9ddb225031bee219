//! The thread that sends receipts for the reactors: whatever queued up during its last round trip as one batch.
//!
//! Ends when its queue has no sender any more.

use std::sync::Arc;

use super::batch::{LONG, Work, collect};
use crate::{
    backoff::Reasons,
    error::{ErrorKind, Result},
    server::{
        connection::receipt::{DueNotices, Notice},
        node::Node,
        stats::{
            calls::Call,
            counters::{Counters, add},
        },
    },
    throttle::Throttle,
};

/// Bytes of receipts that are published at once, at least one whole receipt.
const PUBLISH_BYTES: usize = 1 << 20;
/// How often a full broker is asked to take receipts; it waits 2 s each time before it says so.
const PUBLISH_ATTEMPTS: u32 = 5;

/// What the receipts thread works with.
pub(crate) struct Receipts {
    node: Arc<Node>,
    due: DueNotices,
    counters: Arc<Counters>,
}

impl Receipts {
    pub(crate) fn new(node: &Arc<Node>, due: DueNotices) -> Self {
        Receipts { node: Arc::clone(node), due, counters: node.pulse.new_counters() }
    }

    /// Sends receipts until the reactors have ended. What cannot be sent is counted and dropped: it would be stale
    /// after an outage.
    pub(crate) fn run(self) {
        let mut batch = Vec::new();
        let mut reasons = Reasons::default();
        loop {
            match collect(&self.due.queue, &mut batch, LONG) {
                Work::Batch => {}
                Work::Idle => continue,
                Work::Ended => return,
            }
            let mut rest = &batch[..];
            while !rest.is_empty() {
                let (notices, others) = rest.split_at(within(rest, PUBLISH_BYTES));
                rest = others;
                let failing = !self.send(notices, &mut reasons);
                let stopping = &self.node.stopping;
                if stopping.calls_end() || (failing && stopping.retries_end()) {
                    let left = rest.len() + self.due.queue.try_iter().count();
                    return self.count(left, true);
                }
            }
            batch.clear();
        }
    }

    /// Sends some or drops them; whether they were sent.
    fn send(&self, notices: &[Notice], reasons: &mut Reasons) -> bool {
        let result = self.publish(notices);
        self.count(notices.len(), result.is_err());
        self.due.done(notices, result.is_err());
        match &result {
            Ok(()) => {
                reasons.clear();
                self.settle(notices);
            }
            Err(error) if reasons.are_new(error) => {
                log::warn!("receipts are dropped until the broker is back: {error}");
            }
            Err(_) => {}
        }
        result.is_ok()
    }

    /// Counts what is done with.
    fn count(&self, count: usize, dropped: bool) {
        add(&self.node.pulse.receipts_done, count as u64);
        if dropped {
            add(&self.counters.receipts_dropped, count as u64);
        }
    }

    /// Sends one batch. A broker that is full is only asked again: it has taken nothing, and lives.
    fn publish(&self, notices: &[Notice]) -> Result<()> {
        let Node { broker, placement, pulse, .. } = &*self.node;
        let outgoing: Vec<_> = notices
            .iter()
            .map(|notice| (placement.owner(notice.sender()), notice.envelope()))
            .collect();
        let mut attempts = 1..PUBLISH_ATTEMPTS;
        loop {
            let result = pulse.time(Call::Publish, || broker.publish(&outgoing));
            match result {
                Err(error)
                    if error.kind() == ErrorKind::Overloaded && attempts.next().is_some() => {}
                result => return result,
            }
        }
    }

    /// Remembers of which messages senders were told, lest a process that reads the log anew tells them again. Behind the
    /// receipts: one may rather come twice than never, if this process is killed in between.
    fn settle(&self, notices: &[Notice]) {
        let Node { broker, name, pulse, .. } = &*self.node;
        let settled: Vec<_> = notices.iter().filter_map(Notice::settles).collect();
        if settled.is_empty() {
            return;
        }
        if let Err(error) = pulse.time(Call::Publish, || broker.settle(name, &settled)) {
            static FAILED: Throttle = Throttle::new();
            if let Some(more) = FAILED.admit("settle") {
                log::warn!(reason:% = error; "receipts may come again after a restart: {error}{more}");
            }
        }
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
