//! The feed thread: what the broker says, split by reactor, in order.
//!
//! The only thread that reads the subscription. It encodes each message once and waits when a reactor's
//! inbox is full, which leaves the backlog to the broker; reactors never wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    broker::{FeedEvent, Subscription},
    id::ClientId,
    server::{
        connection::{frame::Frame, receipt::Inquiry},
        heartbeat,
        inbox::Reactors,
        kicks::Kicks,
        message::Command,
        readiness::Readiness,
        stats::{
            counters::{Counters, add},
            vitals::Pulse,
        },
    },
    throttle::Throttle,
    wire::{Envelope, ReceiptText},
};

/// How long the thread may overlook that it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// What the feed thread works with.
pub(crate) struct Feed {
    pub(crate) node: String,
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) reactors: Reactors,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) kicks: Arc<Kicks>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Bytes of content that a receipt may hold.
    pub(crate) receipt_content: usize,
    /// Lines about what comes: each kind once a minute, however much comes.
    pub(crate) said: Throttle,
}

/// The reactors have ended.
struct Ended;

impl Feed {
    /// Runs until told to stop or until the reactors have ended.
    pub(crate) fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.stop.load(Ordering::Acquire) {
            match heartbeat::call(|| self.subscription.next(STOP_CHECK)) {
                Ok(event) => {
                    if backoff.works(Instant::now()) {
                        let node = self.node.as_str();
                        log::info!(node; "node {node} listens again");
                    }
                    self.pulse.heard(self.subscription.last_echo());
                    if event.is_some_and(|event| self.on_event(event).is_err()) {
                        return;
                    }
                }
                Err(error) => {
                    self.readiness.listening.store(false, Ordering::Release);
                    if backoff.is_news(&error) {
                        let node = self.node.as_str();
                        log::warn!(node, reason:% = error; "node {node} hears nothing until the broker is back: {error}");
                    }
                    backoff.sleep(|| self.stop.load(Ordering::Acquire));
                }
            }
        }
    }

    fn on_event(&mut self, event: FeedEvent) -> Result<(), Ended> {
        match event {
            FeedEvent::Message(envelope) => return self.route(envelope),
            FeedEvent::Channels { client, channels } => {
                return self.to_owner(client, Command::Channels { client, channels });
            }
            FeedEvent::Listening => self.readiness.listening.store(true, Ordering::Release),
            FeedEvent::Forgotten => {
                self.reactors
                    .all()
                    .iter()
                    .try_for_each(|door| door.push(Command::Rejoin).map_err(|_| Ended))?;
            }
            FeedEvent::Lost(count) => {
                add(&self.counters.lost, count);
                let node = self.node.as_str();
                if let Some(more) = self.said.admit("lost") {
                    log::warn!(node, count; "{count} messages were sent to node {node} while it could not hear{more}");
                }
            }
            FeedEvent::Malformed(why) => {
                add(&self.counters.malformed, 1);
                let node = self.node.as_str();
                // A broken publisher must not fill the disk.
                if let Some(more) = self.said.admit(why) {
                    log::warn!(node, reason = why; "skipped what came for node {node}: {why}{more}");
                }
            }
            FeedEvent::DuplicateNode => {
                if let Some(more) = self.said.admit("duplicate") {
                    log::error!(
                        "another process serves as node {}: every message reaches both; give each its \
                         own server name{more}",
                        self.node
                    );
                }
            }
        }
        Ok(())
    }

    fn route(&self, envelope: Envelope) -> Result<(), Ended> {
        match envelope {
            Envelope::Direct { sender, receivers, content, receipt, id } => {
                let frame = Frame::text(&content);
                let wanted = receipt && !sender.is_system();
                let receipt = wanted.then(|| {
                    let text = ReceiptText::new(&content, id.as_deref(), self.receipt_content);
                    Arc::new(Inquiry::new(sender, text))
                });
                self.to_owners(receivers, |receivers| Command::Direct {
                    sender,
                    receivers,
                    frame: frame.clone(),
                    receipt: receipt.clone(),
                })
            }
            Envelope::Channel { sender, channel, content } => {
                let frame = Frame::text(&content);
                let channel: Option<Arc<str>> = channel.map(Into::into);
                self.reactors.all().iter().try_for_each(|door| {
                    let (channel, frame) = (channel.clone(), frame.clone());
                    door.push(Command::Channel { sender, channel, frame }).map_err(|_| Ended)
                })
            }
            Envelope::ForceOffline { client } => {
                self.kicks.note(client, Instant::now());
                self.to_owner(client, Command::ForceOffline(client))
            }
            // The subscription keeps its probes to itself.
            Envelope::Probe { .. } => Ok(()),
        }
    }

    fn to_owner(&self, client: ClientId, command: Command) -> Result<(), Ended> {
        self.reactors.all()[self.reactors.index_of(client)].push(command).map_err(|_| Ended)
    }

    /// Splits `receivers` by reactor; most messages have one receiver, or there is one reactor.
    fn to_owners(
        &self,
        receivers: Vec<ClientId>,
        command: impl Fn(Vec<ClientId>) -> Command,
    ) -> Result<(), Ended> {
        match receivers[..] {
            [] => return Ok(()),
            [only] => return self.to_owner(only, command(receivers)),
            [first, ..] if self.reactors.len() == 1 => {
                return self.to_owner(first, command(receivers));
            }
            _ => {}
        }
        let mut parts = vec![Vec::new(); self.reactors.len()];
        for receiver in receivers {
            parts[self.reactors.index_of(receiver)].push(receiver);
        }
        for (door, part) in self.reactors.all().iter().zip(parts) {
            if !part.is_empty() {
                door.push(command(part)).map_err(|_| Ended)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind, Result};

    /// Listens, hears something and is turned out at once, each time; after so many times it ends the feed.
    struct TurnedOut {
        left: u32,
        calls: u32,
        stop: Arc<AtomicBool>,
    }

    impl Subscription for TurnedOut {
        fn next(&mut self, _: Duration) -> Result<Option<FeedEvent>> {
            self.calls += 1;
            match self.calls % 3 {
                1 => return Ok(Some(FeedEvent::Listening)),
                2 => return Ok(Some(FeedEvent::Malformed("too much"))),
                _ => {}
            }
            self.left -= 1;
            self.stop.store(self.left == 0, Ordering::Release);
            Err(Error::new(ErrorKind::Rejected, "no permission"))
        }
    }

    #[test]
    fn a_broker_that_turns_us_out_at_once_is_left_alone_for_longer_and_longer() {
        let stop = Arc::new(AtomicBool::default());
        let subscription = TurnedOut { left: 5, calls: 0, stop: Arc::clone(&stop) };
        let feed = Feed {
            node: "n".into(),
            subscription: Box::new(subscription),
            reactors: Reactors::new(Vec::new()),
            readiness: Arc::default(),
            kicks: Arc::default(),
            counters: Arc::default(),
            pulse: Arc::default(),
            stop,
            receipt_content: 0,
            said: Throttle::new(),
        };
        let start = Instant::now();
        feed.run();
        // Four pauses of at least 25, 50, 100 and 200 ms; without growth they are 200 ms at most.
        assert!(start.elapsed() >= Duration::from_millis(300));
    }
}
