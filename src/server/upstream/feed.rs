//! The feed thread: what the broker says, split by reactor, in order.
//!
//! The only thread that reads the subscription. It encodes each message once and waits when a reactor's
//! inbox is full, which leaves the backlog to the broker; reactors never wait for it.

use std::{
    collections::HashSet,
    sync::{Arc, mpsc::SyncSender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    broker::{FeedEvent, FeedStart, Subscription},
    error::Error,
    id::{ClientId, IdKind},
    placement::Placement,
    server::{
        ServerConfig,
        connection::{place::Hole, prepared::Prepared, receipt::Inquiry},
        follow::{Sighting, What},
        heartbeat,
        inbox::Reactors,
        message::{Command, Onward, Original, SlotNews},
        node::Node,
        stats::counters::{Counters, add},
    },
    throttle::Throttle,
    wire::{Envelope, Position, ReceiptText},
};

/// How long the thread may overlook that it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// Between two looks whether it is known where to begin.
const HERITAGE_CHECK: Duration = Duration::from_millis(10);

/// What the feed thread works with.
pub(crate) struct Feed {
    node: Arc<Node>,
    /// `None` until it is known where to begin.
    subscription: Option<Box<dyn Subscription>>,
    reactors: Reactors,
    counters: Arc<Counters>,
    /// The thread of slots, where they are served.
    news: Option<SyncSender<SlotNews>>,
    order: Order,
    /// Of the messages that a former process has handed on: which, to whom, their senders know of. Until the past is over.
    settled: HashSet<(u64, ClientId)>,
    /// While what a former process has not handed on is read: who owns whom. Clients that are elsewhere have had it, or have it
    /// there.
    past_owners: Option<Placement>,
    /// Lines about what comes: each kind once a minute, however much comes.
    said: Throttle,
}

/// The order of the node's messages, in which each has a position.
struct Order {
    epoch: Arc<str>,
    position: Position,
    /// Whether a log numbers them.
    is_logged: bool,
    /// Whether the subscription has ever stood.
    has_begun: bool,
}

impl Order {
    /// Without a log, for a start.
    fn new(epoch: Arc<str>) -> Self {
        Order { epoch, position: Position::default(), is_logged: false, has_begun: false }
    }

    /// A log says that all above `from` follows; whether something may be missing before that. It is behind everything
    /// that was told: who has come that far may miss what the log does not have.
    fn goes_on(&mut self, epoch: String, from: u64) -> bool {
        let (hole, from) = (self.is_logged, Position { number: from, sub: 0 });
        let is_behind = from > self.position || *epoch != *self.epoch;
        self.position = if is_behind { from } else { self.position.next(None) };
        self.epoch = epoch.into();
        self.is_logged = true;
        hole
    }

    /// The position of the next message.
    fn next(&mut self, number: Option<u64>) -> Position {
        let number = match self.is_logged {
            true => number,
            false => Some(self.position.number + 1),
        };
        self.position = self.position.next(number);
        self.position
    }
}

/// Who wants to be told what becomes of a message to clients, if anybody does.
pub(super) fn inquiry(
    config: &ServerConfig,
    sender: &ClientId,
    content: &str,
    receipt: bool,
    id: Option<&str>,
    acknowledge: bool,
    number: Option<u64>,
) -> Option<Arc<Inquiry>> {
    let has_receipts = receipt && !sender.is_system();
    let named = id.filter(|_| config.undelivered);
    if !has_receipts && named.is_none() {
        return None;
    }
    let limit = if has_receipts { config.limits.receipt_content_bytes } else { 0 };
    let text = ReceiptText::new(content, id, limit);
    let inquiry = Inquiry::new(sender.clone(), text, acknowledge, number);
    Some(Arc::new(match named {
        Some(id) => inquiry.named(id, has_receipts),
        None => inquiry,
    }))
}

/// The reactors have ended.
struct Ended;

/// What comes after a turn.
#[derive(PartialEq)]
enum Turn {
    Again,
    /// The broker is away, or turns us out: it is left alone for a while.
    Pause,
    Ended,
}

impl Feed {
    pub(crate) fn new(
        node: &Arc<Node>,
        reactors: Reactors,
        news: Option<SyncSender<SlotNews>>,
    ) -> Self {
        Feed {
            node: Arc::clone(node),
            subscription: None,
            reactors,
            counters: node.pulse.new_counters(),
            news,
            order: Order::new(Arc::clone(&node.epoch)),
            settled: HashSet::new(),
            past_owners: None,
            said: Throttle::new(),
        }
    }

    /// Runs until told to stop or until the reactors have ended.
    pub(crate) fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.node.stopping.feed_ends() {
            let turn = match self.subscription {
                None => self.subscribe(&mut backoff),
                Some(_) => self.turn(&mut backoff, Instant::now),
            };
            match turn {
                Turn::Again => {}
                Turn::Pause => backoff.sleep(|| self.node.stopping.feed_ends()),
                Turn::Ended => return,
            }
        }
    }

    /// Subscribes once presence has said what the node goes on with; else waits a moment.
    fn subscribe(&mut self, backoff: &mut Backoff) -> Turn {
        let Node { name, broker, origin, watchlist, .. } = &*self.node;
        let Some(heritage) = origin.heritage() else {
            heartbeat::wait(|| thread::sleep(HERITAGE_CHECK));
            return Turn::Again;
        };
        if heritage.feed == FeedStart::Log {
            match heartbeat::call(|| broker.settled(name)) {
                Ok(settled) => self.settled = settled,
                Err(error) => return self.failed(backoff, &error),
            }
            if self.news.is_some() {
                match heartbeat::call(|| broker.slot_table()) {
                    Ok(table) => self.past_owners = table.map(Placement::slots),
                    Err(error) => return self.failed(backoff, &error),
                }
            }
        }
        self.subscription = Some(broker.subscribe(name, Arc::clone(watchlist), heritage.feed));
        Turn::Again
    }

    /// Hears one event, or waits for one; the time is that at which the broker has answered.
    fn turn(&mut self, backoff: &mut Backoff, clock: impl FnOnce() -> Instant) -> Turn {
        // What was sent to their channels while they were not in them was for them, and did not come.
        if let Some(hole) = self.node.absence.take()
            && self.tell_of_hole(hole).is_err()
        {
            return Turn::Ended;
        }
        let Some(subscription) = &mut self.subscription else { return Turn::Again };
        match heartbeat::call(|| subscription.next(STOP_CHECK)) {
            Ok(event) => {
                if backoff.works(clock()) {
                    let node = &*self.node.name;
                    log::info!(node; "node {node} listens again");
                }
                self.node.pulse.heard(subscription.last_echo());
                match event.map(|event| self.on_event(event)) {
                    Some(Err(Ended)) => Turn::Ended,
                    _ => Turn::Again,
                }
            }
            Err(error) => self.failed(backoff, &error),
        }
    }

    fn failed(&self, backoff: &mut Backoff, error: &Error) -> Turn {
        self.node.pulse.readiness.set_listening(false);
        if backoff.is_news(error) {
            let node = &*self.node.name;
            log::warn!(node, reason:% = error; "node {node} hears nothing until the broker is back: {error}");
        }
        Turn::Pause
    }

    fn on_event(&mut self, event: FeedEvent) -> Result<(), Ended> {
        match event {
            FeedEvent::Message { envelope, .. } if !self.admits(&envelope) => {
                self.skip("an id is a text, which the setting ids does not admit");
            }
            FeedEvent::Message { envelope, number } => {
                let position = self.order.next(number);
                return self.route(envelope, position, number, true);
            }
            FeedEvent::Channels { client, channels } => {
                let reactor = self.reactors.index_of(&client);
                return self.to_reactor(reactor, Command::Channels { client, channels });
            }
            FeedEvent::Members { channel, clients } => return self.to_each(channel, clients),
            FeedEvent::Log { epoch, from } => {
                let hole = self.order.goes_on(epoch, from);
                return self.tell_position(hole.then_some(Hole::Messages));
            }
            FeedEvent::Listening => {
                // Without a log nobody knows what was sent while it did not stand.
                let hole = self.order.has_begun && !self.order.is_logged;
                self.order.has_begun = true;
                (self.settled, self.past_owners) = (HashSet::new(), None);
                match hole {
                    true => self.tell_of_hole(Hole::Messages)?,
                    false => self.tell_position(None)?,
                }
                self.node.pulse.readiness.set_listening(true);
            }
            FeedEvent::Forgotten => {
                self.to_all(|| Command::Rejoin)?;
                // A join that was never read here is restored by nobody.
                return self.tell_of_hole(Hole::Channels);
            }
            FeedEvent::Lost(count) => {
                add(&self.counters.lost, count);
                let node = &*self.node.name;
                if let Some(more) = self.said.admit("lost") {
                    log::warn!(node, count; "{count} messages were sent to node {node} while it could not hear{more}");
                }
            }
            FeedEvent::Malformed(why) => self.skip(why),
            FeedEvent::DuplicateNode => {
                if let Some(more) = self.said.admit("duplicate") {
                    log::error!(
                        "another process serves as node {}: every message reaches both; give each its \
                         own server name{more}",
                        self.node.name
                    );
                }
            }
        }
        Ok(())
    }

    /// Whether no client of the message is another kind of text than this deployment has: to .NET that is none.
    fn admits(&self, envelope: &Envelope) -> bool {
        self.node.ids() == IdKind::Text || !envelope.names_texts()
    }

    fn skip(&self, why: &'static str) {
        add(&self.counters.malformed, 1);
        let node = &*self.node.name;
        // A broken publisher must not fill the disk.
        if let Some(more) = self.said.admit(why) {
            log::warn!(node, reason = why; "skipped what came for node {node}: {why}{more}");
        }
    }

    /// Tells all reactors that something may be missing, behind everything before.
    fn tell_of_hole(&mut self, hole: Hole) -> Result<(), Ended> {
        self.order.next(None);
        self.tell_position(Some(hole))
    }

    /// Tells all reactors how far the order is; with a `hole`, that something before that may be missing.
    fn tell_position(&self, hole: Option<Hole>) -> Result<(), Ended> {
        let Order { epoch, position, .. } = &self.order;
        self.to_all(|| Command::Positions { epoch: Arc::clone(epoch), position: *position, hole })
    }

    fn to_all(&self, command: impl Fn() -> Command) -> Result<(), Ended> {
        self.reactors.all().iter().try_for_each(|door| door.push(command()).map_err(|_| Ended))
    }

    fn route(
        &self,
        envelope: Envelope,
        position: Position,
        number: Option<u64>,
        may_go_on: bool,
    ) -> Result<(), Ended> {
        let may_go_on = may_go_on && self.past_owners.is_none();
        match envelope {
            direct @ Envelope::Direct { .. } => self.direct(direct, position, number, may_go_on),
            Envelope::Channel { sender, channel, content, trace } => {
                let since = self.node.pulse.clock.since(number);
                let message = Prepared::text(&content, position).under_way(since);
                let channel: Option<Arc<str>> = channel.map(Into::into);
                self.log_trace(trace.as_deref(), position, None);
                if let Some(followers) = self.node.follows.now() {
                    let (channel, bytes) = (channel.clone(), Some(message.len()));
                    let traceparent = trace.map(Arc::from);
                    let sighting =
                        Sighting { channel, bytes, traceparent, ..Sighting::new(What::Received) };
                    followers.came(&sighting.at_position(position), &[], &content);
                }
                self.to_all(|| {
                    let (sender, channel) = (sender.clone(), channel.clone());
                    Command::Channel { sender, channel, message: message.clone() }
                })
            }
            Envelope::ForceOffline { client } => {
                self.node.kicks.note(client.clone(), Instant::now());
                if may_go_on {
                    self.hand_kick_on(&client, number.is_some());
                }
                self.to_reactor(self.reactors.index_of(&client), Command::ForceOffline(client))
            }
            // The subscription keeps its probes to itself, and hands on what is inside.
            Envelope::Probe { .. } | Envelope::Volatile(_) => Ok(()),
            Envelope::Forwarded(message) => self.route(*message, position, None, false),
            Envelope::Slots { version, given, from } => {
                if let Some((slot, to)) = given {
                    let (to, from): (Arc<str>, Option<Arc<str>>) = (to.into(), from.map(Arc::from));
                    self.to_all(|| {
                        let (slot, to, from) = (slot as usize, Arc::clone(&to), from.clone());
                        Command::Given { slot, to, version, position, from }
                    })?;
                }
                if let Some(news) = &self.news {
                    let _ = news.try_send(SlotNews::Changed);
                }
                Ok(())
            }
        }
    }

    /// A message for single clients.
    fn direct(
        &self,
        message: Envelope,
        position: Position,
        number: Option<u64>,
        may_go_on: bool,
    ) -> Result<(), Ended> {
        // Whoever gets it may have to hand it on.
        let is_logged = number.is_some();
        let origin = (may_go_on && self.news.is_some())
            .then(|| Arc::new(Original { message: message.clone(), is_logged }));
        let Envelope::Direct {
            sender,
            mut receivers,
            content,
            receipt,
            id,
            acknowledge,
            about,
            trace,
        } = message
        else {
            return Ok(());
        };
        if let Some(owners) = &self.past_owners {
            let name = &*self.node.name;
            receivers.retain(|client| owners.owner(client).is_ok_and(|node| node == name));
        }
        let message = match about {
            true => Prepared::receipt(&content, position),
            false => Prepared::text(&content, position),
        }
        .under_way(self.node.pulse.clock.since(number));
        let id = id.as_deref();
        self.log_trace(trace.as_deref(), position, id);
        if let Some(followers) = self.node.follows.now() {
            let sighting = Sighting {
                id: id.map(Arc::from),
                traceparent: trace.map(Arc::from),
                bytes: Some(message.len()),
                count: Some(receivers.len() as u64),
                ..Sighting::new(What::Received)
            };
            followers.came(&sighting.at_position(position), &receivers, &content);
        }
        let receipt =
            inquiry(&self.node.config, &sender, &content, receipt, id, acknowledge, number);
        let hand_on = |receivers, receipt: Option<Arc<Inquiry>>| {
            self.to_owners(receivers, |receivers| {
                let (sender, origin) = (sender.clone(), origin.clone());
                let (message, receipt) = (message.clone(), receipt.clone());
                Command::Direct { sender, receivers, message, receipt, origin }
            })
        };
        let is_settled = |receiver: &ClientId| {
            number.is_some_and(|number| self.settled.contains(&(number, receiver.clone())))
        };
        if receipt.is_none() || self.settled.is_empty() {
            return hand_on(receivers, receipt);
        }
        let (settled, receivers): (Vec<_>, Vec<_>) = receivers.into_iter().partition(is_settled);
        hand_on(settled, None)?;
        hand_on(receivers, receipt)
    }

    /// A message with a trace has come: that is in the log, for whoever follows the trace through services.
    fn log_trace(&self, traceparent: Option<&str>, position: Position, id: Option<&str>) {
        let Some(traceparent) = traceparent else { return };
        let (Position { number, sub }, node) = (position, &*self.node.name);
        let id = id.unwrap_or_default();
        log::debug!(
            traceparent, node, position = number, id;
            "message traceparent={traceparent} position={number}.{sub} id={id:?} came to node {node}"
        );
    }

    /// Where another node may have connections of the client too, it is to close them.
    fn hand_kick_on(&self, client: &ClientId, is_logged: bool) {
        let Some(news) = &self.news else { return };
        let (placement, name) = (self.node.placement(), &*self.node.name);
        let Some(node) = placement.other(client, name) else { return };
        if is_logged && placement.has_gone_from(client, name) {
            return;
        }
        let (receiver, message) =
            (client.clone(), Envelope::ForceOffline { client: client.clone() });
        let message = Arc::new(Original { message, is_logged });
        let onward = Onward { node: node.to_owned(), message, receiver, receipt: false };
        let _ = news.try_send(SlotNews::Onward(onward));
    }

    fn to_reactor(&self, index: usize, command: Command) -> Result<(), Ended> {
        self.reactors.all()[index].push(command).map_err(|_| Ended)
    }

    /// Tells every reactor which of its clients are in a channel, also that none is.
    fn to_each(&self, channel: String, clients: Vec<ClientId>) -> Result<(), Ended> {
        let channel: Arc<str> = channel.into();
        let parts = self.parts(clients);
        self.reactors.all().iter().zip(parts).try_for_each(|(door, clients)| {
            let channel = Arc::clone(&channel);
            door.push(Command::Members { channel, clients }).map_err(|_| Ended)
        })
    }

    /// Clients by reactor.
    fn parts(&self, clients: Vec<ClientId>) -> Vec<Vec<ClientId>> {
        let mut parts = vec![Vec::new(); self.reactors.len()];
        for client in clients {
            parts[self.reactors.index_of(&client)].push(client);
        }
        parts
    }

    /// Splits `receivers` by reactor; most messages have one receiver, or there is one reactor.
    fn to_owners(
        &self,
        receivers: Vec<ClientId>,
        command: impl Fn(Vec<ClientId>) -> Command,
    ) -> Result<(), Ended> {
        let alone = match &receivers[..] {
            [] => return Ok(()),
            [only] => Some(self.reactors.index_of(only)),
            _ => (self.reactors.len() == 1).then_some(0),
        };
        if let Some(reactor) = alone {
            return self.to_reactor(reactor, command(receivers));
        }
        for (door, part) in self.reactors.all().iter().zip(self.parts(receivers)) {
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
    use crate::{
        broker::MemoryBroker,
        error::{ErrorKind, Result},
        server::config::ServerConfig,
    };

    /// Listens, hears something and is turned out at once, each time.
    struct TurnedOut {
        calls: u32,
    }

    impl Subscription for TurnedOut {
        fn next(&mut self, _: Duration) -> Result<Option<FeedEvent>> {
            self.calls += 1;
            match self.calls % 3 {
                1 => Ok(Some(FeedEvent::Listening)),
                2 => Ok(Some(FeedEvent::Malformed("too much"))),
                _ => Err(Error::new(ErrorKind::Rejected, "no permission")),
            }
        }
    }

    #[test]
    fn a_hole_is_behind_all_that_was_told() {
        let mut order = Order::new("own".into());
        assert!(!order.goes_on("log".into(), 5), "where it begins");
        assert_eq!(order.position, Position { number: 5, sub: 0 });
        order.next(Some(7));
        let told = order.next(None);
        assert!(order.goes_on("log".into(), 7));
        assert!(order.position > told, "what no log has may be missing right behind that");
        assert!(order.goes_on("log".into(), 9) && order.goes_on("another".into(), 3));
        assert_eq!(order.position, Position { number: 3, sub: 0 });
    }

    #[test]
    fn a_broker_that_turns_us_out_at_once_is_left_alone_for_longer_and_longer() {
        let config = ServerConfig::default();
        let bound = config.listen;
        let node = Node::new(config, bound, None, Arc::new(MemoryBroker::new())).unwrap();
        let mut feed = Feed::new(&node, Reactors::new(Vec::new()), None);
        feed.subscription = Some(Box::new(TurnedOut { calls: 0 }));
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..15 {
            if feed.turn(&mut backoff, || now) == Turn::Pause {
                pauses.push(backoff.next());
            }
        }
        // Each drawn from the upper half of 50, 100, 200, 400 and 800 ms.
        assert_eq!(pauses.len(), 5);
        assert!(pauses[4] >= Duration::from_millis(400), "{pauses:?}");
    }
}
