//! The barrier of a feed: probes, and what they let pass.
//!
//! Second part of `RedisFeed`, which says what a barrier is for. Works on the data connection.

use std::time::{Duration, Instant};

use redis::Value;

use super::{Link, RedisFeed};
use crate::{
    broker::{
        contract::FeedEvent,
        ordered::IDLE_CHUNK,
        redis::link::{error, reply},
    },
    error::{Error, ErrorKind, Result},
    wire::Envelope,
};

/// A probe under way.
pub(super) struct Probe {
    pub(super) number: u64,
    /// How many of the waiting messages were received before it was sent.
    pub(super) covers: usize,
    pub(super) sent: Instant,
    /// For how long nothing at all was heard since.
    pub(super) waited: Duration,
    /// Messages counted by their senders when it was published, if it was read.
    pub(super) published: Option<u64>,
}

impl RedisFeed {
    /// Publishes a probe, with `count` in one transaction with a look at what was published before it.
    pub(super) fn send_probe(&mut self, link: &mut Link, now: Instant, count: bool) -> Result<()> {
        self.probes += 1;
        let number = self.probes;
        let origin = self.origin.unwrap_or_default();
        let payload = Envelope::Probe { origin, number }.encode();
        let address = &self.backend.connector.address;
        let mut pipeline = redis::pipe();
        if count {
            pipeline.atomic();
            pipeline.cmd("HGET").arg(self.backend.layout.published_key()).arg(&self.node);
        }
        pipeline.cmd("PUBLISH").arg(&self.topic).arg(payload);
        // Within a transaction each command is answered twice: MULTI, two QUEUED, then the replies.
        let answers = if count { 4 } else { 1 };
        // That the data connection answers proves that tracking is still on.
        let packed = pipeline.get_packed_pipeline();
        let mut replies = link
            .data
            .exchange(&packed, answers, self.backend.connector.call_deadline())
            .map_err(|error| error::call_failed(address, error))?;
        if let Some(error) = replies.iter().find_map(|reply| error::of_reply(address, reply)) {
            return Err(error);
        }
        let mut last = replies.pop().unwrap_or(Value::Nil);
        let mut published = None;
        if count {
            let mut results = reply::items(last).into_iter();
            published = results.next().map(|count| reply::number(count).max(0) as u64);
            last = results.next().unwrap_or(Value::Nil);
        }
        if reply::number(last) == 0 {
            let detail = format!("Redis at {address} no longer knows the node's subscription");
            return Err(Error::new(ErrorKind::Unavailable, detail));
        }
        link.last_probe = now;
        let covers = self.waiting.len();
        link.probe = Some(Probe { number, covers, sent: now, waited: Duration::ZERO, published });
        Ok(())
    }

    /// The barrier has passed for the first `covered` of the waiting messages.
    pub(super) fn release(&mut self, link: &mut Link, covered: usize) -> Result<()> {
        if covered > 0 {
            // Watched before the message was published, possibly after the last look.
            self.watched.apply(&self.watchlist);
            self.reread(link, usize::MAX)?;
            link.refreshed = Instant::now();
        }
        link.proven = true;
        let covered = self.waiting.drain(..covered).map(FeedEvent::Message);
        self.ready.extend(covered);
        while self.waiting.front().is_some_and(|envelope| !needs_barrier(envelope)) {
            self.ready.extend(self.waiting.pop_front().map(FeedEvent::Message));
        }
        Ok(())
    }

    /// Reads and reports the channels of up to `limit` dirty clients, in pipelines of bounded size.
    pub(super) fn reread(&mut self, link: &mut Link, limit: usize) -> Result<()> {
        match std::mem::take(&mut link.doubtful) {
            true => {
                self.check_memory(&mut link.data)?;
                // After `FLUSHALL` too the mark must be there, lest the next reconnect mistake it.
                self.mark_count(&mut link.data)?;
            }
            false => self.tell_forgotten(false),
        }
        let address = &self.backend.connector.address;
        let mut left = limit;
        while left > 0 {
            let clients = self.watched.take_dirty(left.min(IDLE_CHUNK));
            if clients.is_empty() {
                break;
            }
            left -= clients.len();
            let mut pipeline = redis::pipe();
            for client in &clients {
                pipeline.cmd("HKEYS").arg(self.backend.layout.client_key(*client));
            }
            let packed = pipeline.get_packed_pipeline();
            let replies = link
                .data
                .exchange(&packed, clients.len(), self.backend.connector.call_deadline())
                .map_err(|error| error::call_failed(address, error))?;
            for reply in &replies {
                // A key of a foreign type holds no channels; it must not deafen the node for ever.
                if let Some(error) = error::of_reply(address, reply)
                    && !error::is_wrong_type(reply)
                {
                    return Err(error);
                }
            }
            for (client, names) in clients.into_iter().zip(replies) {
                let channels = reply::texts(names);
                self.ready.push_back(FeedEvent::Channels { client, channels });
            }
        }
        Ok(())
    }

    /// Nothing was left to hear within `wait`: a probe for which was waited too long will not come back.
    /// Counted in waits and not by the clock: a process that was stopped, or suspended with its machine, has
    /// not waited meanwhile.
    pub(super) fn check_overdue(&self, link: &mut Link, wait: Duration) -> Result<()> {
        let limit = self.backend.options.probe_timeout;
        let Some(probe) = &mut link.probe else { return Ok(()) };
        probe.waited += wait;
        if probe.waited < limit {
            return Ok(());
        }
        let address = &self.backend.connector.address;
        let detail = format!("the node's subscription at Redis {address} was deaf for {limit:?}");
        Err(Error::new(ErrorKind::Unavailable, detail))
    }
}

/// Only messages whose receivers follow from channels depend on joins and leaves before them.
pub(super) fn needs_barrier(envelope: &Envelope) -> bool {
    matches!(envelope, Envelope::Channel { channel: Some(_), .. })
}
