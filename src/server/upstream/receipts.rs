//! The thread that sends receipts for the reactors: whatever queued up during its last round trip as one batch. Before it
//! tells senders, it has the business told what was not delivered.
//!
//! Ends when its queue has no sender any more.

use std::{sync::Arc, time::Instant};

use super::{
    allowance::Allowance,
    batch::{LONG, Work, collect},
};
use crate::{
    backoff::Backoff,
    broker::{Telling, Undelivered},
    error::{ErrorKind, Result},
    id::ClientId,
    server::{
        connection::receipt::{DueNotices, Notice},
        node::Node,
        stats::{
            calls::Call,
            counters::{Counters, add},
        },
    },
    throttle::Throttle,
    wire::ReceiptStatus,
};

/// Bytes of receipts that are published at once, at least one whole receipt.
const PUBLISH_BYTES: usize = 256 << 10;
/// How often a full broker is asked to take receipts; it waits 2 s each time before it says so.
const PUBLISH_ATTEMPTS: u32 = 5;

/// What the receipts thread works with.
pub(crate) struct Receipts {
    node: Arc<Node>,
    due: DueNotices,
    counters: Arc<Counters>,
    /// How many batches it had sent, or given up.
    told: u64,
    undelivered: Allowance,
    backoff: Backoff,
}

impl Receipts {
    pub(crate) fn new(node: &Arc<Node>, due: DueNotices) -> Self {
        let counters = node.pulse.new_counters();
        let (node, undelivered) = (Arc::clone(node), Allowance::new(Instant::now()));
        Receipts { node, due, counters, told: 0, undelivered, backoff: Backoff::default() }
    }

    /// Sends receipts until the reactors have ended.
    pub(crate) fn run(mut self) {
        let mut waiting = Vec::new();
        loop {
            match collect(&self.due.queue, &mut waiting, LONG) {
                Work::Batch => {}
                Work::Idle => continue,
                Work::Ended => return,
            }
            while !waiting.is_empty() {
                let batch = waiting.drain(..within(&waiting, PUBLISH_BYTES)).collect();
                let ends = !self.send(batch);
                if ends || self.node.stopping.calls_end() {
                    let left = waiting.len() + self.due.queue.try_iter().count();
                    return self.count(left, true);
                }
            }
        }
    }

    /// Sends one batch. What the log tells of is tried until the broker takes it: told then, and not twice. All else is
    /// counted and dropped, if it cannot be sent. False if the node stops before the broker is back.
    fn send(&mut self, mut batch: Vec<Notice>) -> bool {
        self.told += 1;
        let (now, allowance) = (Instant::now(), &mut self.undelivered);
        let undelivered = batch.iter().filter_map(|notice| {
            let missed = notice.undelivered()?;
            let is_admitted = allowance.admits(missed.client, now);
            is_admitted.then(|| (missed.client.clone(), missed.id.to_owned(), notice.status()))
        });
        let undelivered: Vec<_> = undelivered.collect();
        let mut is_told = undelivered.is_empty();
        while !batch.is_empty() {
            let told = match is_told {
                true => Ok(()),
                false => self.tell_undelivered(&undelivered),
            };
            is_told |= told.is_ok();
            let Err(error) = told.and_then(|()| self.publish(&batch)) else {
                self.backoff.reset();
                self.done(&batch, false);
                return true;
            };
            let keeps = |notice: &Notice| error.is_retryable() && notice.settles().is_some();
            let (kept, dropped): (Vec<_>, _) = batch.into_iter().partition(keeps);
            batch = kept;
            if self.backoff.is_news(&error) {
                let (waiting, dropped) = (batch.len(), dropped.len());
                log::warn!(
                    waiting, dropped, reason:% = error;
                    "receipts wait until the broker is back, or are dropped if no log has their message: {error}"
                );
            }
            self.done(&dropped, true);
            let stopping = &self.node.stopping;
            if stopping.calls_end() || stopping.retries_end() {
                self.done(&batch, true);
                return false;
            }
            if !batch.is_empty() {
                self.backoff.sleep(|| stopping.retries_end());
            }
        }
        true
    }

    /// These are done with: sent, or dropped because the broker fails.
    fn done(&self, notices: &[Notice], failing: bool) {
        self.count(notices.len(), failing);
        self.due.done(notices, failing);
    }

    /// Counts what is done with.
    fn count(&self, count: usize, dropped: bool) {
        add(&self.node.pulse.receipts_done, count as u64);
        if dropped {
            add(&self.counters.receipts_dropped, count as u64);
        }
    }

    /// Has the business told. What the broker refuses costs the event, not the receipts.
    fn tell_undelivered(&self, undelivered: &[(ClientId, String, ReceiptStatus)]) -> Result<()> {
        let all = undelivered.iter().map(|(client, id, status)| Undelivered {
            client,
            id,
            reason: status.label(),
        });
        let all: Vec<_> = all.collect();
        match self.node.broker.tell_undelivered(&self.node.name, &all) {
            Err(error) if !error.is_retryable() => {
                static REFUSED: Throttle = Throttle::new();
                if let Some(more) = REFUSED.admit("undelivered") {
                    log::warn!(reason:% = error; "what was not delivered is told to nobody: {error}{more}");
                }
                Ok(())
            }
            told => told,
        }
    }

    /// Publishes one batch, and has it remembered of which messages senders were told, lest a process that reads the log
    /// anew tells them again. A broker that is full is only asked again: it has taken nothing, and lives.
    fn publish(&self, notices: &[Notice]) -> Result<()> {
        let Node { broker, pulse, name, epoch, .. } = &*self.node;
        let placement = self.node.placement();
        // A sender that nobody serves is not there to be told.
        let receipts = notices.iter().filter(|notice| notice.is_receipt()).filter_map(|notice| {
            let owner = placement.owner(notice.sender()).ok()?;
            Some((owner, notice.envelope()))
        });
        let receipts: Vec<_> = receipts.collect();
        let settled: Vec<_> = notices.iter().filter_map(Notice::settles).collect();
        let telling =
            Telling { by: epoch, number: self.told, receipts: &receipts, settled: &settled };
        let mut attempts = 1..PUBLISH_ATTEMPTS;
        loop {
            let result = pulse.time(Call::Publish, || broker.tell(name, &telling));
            match result {
                Err(error)
                    if error.kind() == ErrorKind::Overloaded && attempts.next().is_some() => {}
                result => return result,
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
