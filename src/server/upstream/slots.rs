//! The thread of slots: keeps this node in the broker's table, takes and gives what is its share, and tells everybody in the
//! node who owns whom. There only where slots are served.
//!
//! Everything follows from the table as it is now: what to take, what to give, who is to be sent on. So it does not matter what
//! was missed while the broker was away, or the process stopped. It also hands on what reactors got for clients of other
//! nodes.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    broker::SlotChange,
    error::Result,
    placement::Placement,
    server::{
        heartbeat,
        inbox::Reactors,
        message::{Command, Onward, SlotNews},
        node::Node,
        ownership::Ownership,
        stats::snapshot::SlotStats,
    },
    slots::{SlotNode, SlotTable},
    wire::Envelope,
};

/// Between two looks at the table.
const LOOK: Duration = Duration::from_secs(1);
/// The same while something is on its way.
const LOOK_OFTEN: Duration = Duration::from_millis(50);
/// How long a node stands in the table before it takes anything from the living: until then everybody who sends knows that it
/// is there.
const KNOWN: Duration = Duration::from_secs(2);
/// Between two times that it says of itself what another said otherwise: a twin of the same name says it again and again.
const SAID_AGAIN: Duration = Duration::from_secs(1);
/// Changes made in one look.
const CHANGES: usize = 512;

/// What the thread works with.
pub(crate) struct Slots {
    node: Arc<Node>,
    reactors: Reactors,
    news: Receiver<SlotNews>,
    /// When it first stood in the table, by its present session: one that was taken for dead has to be known anew.
    stands: Option<Instant>,
    /// When it last said something of itself there.
    said_at: Option<Instant>,
    session: Option<String>,
    /// The version that reactors were told of, and what they were told.
    told: u64,
    ownership: Option<Arc<Ownership>>,
    /// Whether it has said why it gets nothing.
    has_said: bool,
}

/// What is to be done.
enum Step<'a> {
    Change(SlotChange<'a>),
    /// Nothing now; whether something is on its way.
    Rest {
        busy: bool,
    },
}

impl Slots {
    pub(crate) fn new(node: &Arc<Node>, reactors: Reactors, news: Receiver<SlotNews>) -> Self {
        Slots {
            node: Arc::clone(node),
            reactors,
            news,
            stands: None,
            said_at: None,
            session: None,
            told: 0,
            ownership: None,
            has_said: false,
        }
    }

    /// Runs until the feed and the reactors have ended.
    pub(crate) fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut look_at = Instant::now();
        loop {
            let wait = look_at.saturating_duration_since(Instant::now());
            match heartbeat::wait(|| self.news.recv_timeout(wait)) {
                Ok(SlotNews::Onward(first)) => {
                    self.hand_on(first);
                    continue;
                }
                Ok(SlotNews::Changed) => {
                    // Of several changes the last counts.
                    look_at = look_at.min(Instant::now() + Duration::from_millis(2));
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            match self.look() {
                Ok(busy) => {
                    backoff.works(Instant::now());
                    look_at = Instant::now() + if busy { LOOK_OFTEN } else { LOOK };
                }
                Err(error) => {
                    if backoff.is_news(&error) {
                        log::warn!(reason:% = error; "the table of slots cannot be looked at: {error}");
                    }
                    look_at = Instant::now() + LOOK;
                }
            }
        }
        self.forget();
    }

    /// Looks at the table, and does what is to be done; whether there is more of it soon.
    fn look(&mut self) -> Result<bool> {
        let node = Arc::clone(&self.node);
        let (broker, name) = (&node.broker, &*node.name);
        for _ in 0..CHANGES {
            let table = heartbeat::call(|| broker.slot_table())?;
            if let Some(table) = &table {
                self.tell(table);
            }
            // As long as presence has no session nothing can be changed.
            let Some(session) = node.session() else { return Ok(true) };
            if self.session.as_ref() != Some(&session) {
                (self.session, self.stands) = (Some(session.clone()), None);
            }
            let living = heartbeat::call(|| broker.living())?;
            let version = table.as_ref().map_or(0, |table| table.version);
            let said = self.said(table.as_ref(), &living);
            let change = match &table {
                Some(table) if table.node(name) == Some(&said) => match self.step(table, &living) {
                    Step::Change(change) => change,
                    Step::Rest { busy } => return Ok(busy || said.joining),
                },
                _ if self.said_at.is_some_and(|at| at.elapsed() < SAID_AGAIN) => return Ok(true),
                _ => SlotChange::Stand { said: &said, count: node.config.slots },
            };
            let is_stand = matches!(change, SlotChange::Stand { .. });
            let call = || broker.change_slots(&session, name, version, &change);
            // Another was faster, or the lease does not stand at this moment: a little later.
            if !heartbeat::call(call)? {
                return Ok(true);
            }
            self.stands.get_or_insert_with(Instant::now);
            if is_stand {
                self.said_at = Some(Instant::now());
            }
        }
        Ok(true)
    }

    /// What the node says of itself in the table.
    fn said(&self, table: Option<&SlotTable>, living: &[String]) -> SlotNode {
        let (config, name) = (&self.node.config, &*self.node.name);
        let is_known = self.stands.is_some_and(|since| since.elapsed() >= KNOWN);
        let stood = table.and_then(|table| table.node(name));
        let owns = table.is_some_and(|table| table.slots_of(name).next().is_some());
        let others_own = table.is_some_and(|table| {
            let mut owners = (0..table.count()).filter_map(|slot| table.owner(slot));
            owners.any(|owner| owner != name && living.iter().any(|alive| alive == owner))
        });
        // What an operator has said of it holds until its process ends.
        let is_told = self.stands.is_some() && stood.is_some_and(|stood| stood.draining);
        SlotNode {
            address: config.address.clone().unwrap_or_else(|| name.to_owned()),
            weight: table.and_then(|table| table.ordered_weight(name)).unwrap_or(config.weight),
            draining: is_told || self.node.stopping.drains(),
            // Who sends knows a node that owns something.
            joining: others_own && !owns && !is_known,
            listed: false,
        }
    }

    /// What is to be done next in a table in which the node stands.
    fn step<'a>(&self, table: &'a SlotTable, living: &[String]) -> Step<'a> {
        let name = &*self.node.name;
        let is_alive = |node: &str| node == name || living.iter().any(|alive| alive == node);
        if let Some(slot) = table.take(name, is_alive) {
            return Step::Change(SlotChange::Take { slot });
        }
        let left = self.node.departures.left(table.version);
        let is_over = |slot: &usize| left.as_ref().is_some_and(|left| !left.contains_key(slot));
        if let Some(slot) = table.leaving(name).find(is_over) {
            return Step::Change(SlotChange::Left { slot });
        }
        if let Some((slot, to)) = table.give(name, is_alive) {
            // The next when few are left: clients are sent on all the time, at the pace that is set.
            let few = self.node.config.limits.moves_per_second / 4;
            return match left.is_some_and(|left| left.values().sum::<usize>() <= few) {
                true => Step::Change(SlotChange::Give { slot, to }),
                false => Step::Rest { busy: true },
            };
        }
        let is_over = |node: &&str| !is_alive(node) && table.slots_of(node).next().is_none();
        if let Some(node) = table.nodes().map(|(node, _)| node).find(is_over) {
            return Step::Change(SlotChange::Forget { node });
        }
        Step::Rest { busy: table.leaving(name).next().is_some() }
    }

    /// Everybody in the node goes by this table.
    fn tell(&mut self, table: &SlotTable) {
        if table.version == self.told {
            return;
        }
        self.say_why_it_waits(table);
        self.told = table.version;
        self.node.pulse.slots(self.stats(table));
        let table = Arc::new(table.clone());
        self.node.set_placement(Placement::slots(Arc::clone(&table)));
        let before = self.ownership.as_deref();
        let ownership = Arc::new(Ownership::new(table, &self.node.name, before));
        self.ownership = Some(Arc::clone(&ownership));
        for reactor in self.reactors.all() {
            let _ = reactor.push(Command::Own(Arc::clone(&ownership)));
        }
    }

    /// That it gets nothing yet, if that is so.
    fn say_why_it_waits(&mut self, table: &SlotTable) {
        let (name, count) = (&*self.node.name, table.count());
        let listed: Vec<_> = table.listed().collect();
        let waits = !listed.is_empty() && table.slots_of(name).next().is_none();
        if waits && !std::mem::replace(&mut self.has_said, waits) {
            let listed = listed.join(", ");
            log::warn!(
                "node {name} gets no slots before these, which serve a fixed list still, are started anew with --slots {count}: {listed}"
            );
        }
    }

    fn stats(&self, table: &SlotTable) -> SlotStats {
        let name = &*self.node.name;
        SlotStats {
            version: table.version,
            owned: table.slots_of(name).count() as u64,
            moving: table.leaving(name).count() as u64,
            unowned: (0..table.count()).filter(|slot| table.owner(*slot).is_none()).count() as u64,
        }
    }

    /// Hands a message on to the node that has its receiver.
    fn hand_on(&self, onward: Onward) {
        let Onward { node, message, receiver, receipt } = onward;
        let mut message = message.message.to(vec![receiver]);
        if let Envelope::Direct { receipt: wanted, id, .. } = &mut message
            && !receipt
        {
            // Nor is the business told there that it was not delivered.
            (*wanted, *id) = (false, None);
        }
        let message = Envelope::Forwarded(Box::new(message));
        if let Err(error) = heartbeat::call(|| self.node.broker.publish(&[(&node, message)])) {
            log::warn!(reason:% = error; "a message for a client of node {node} is lost: {error}");
        }
    }

    /// The node stands in the table no more, if it owns nothing.
    fn forget(&self) {
        let forget = || -> Result<()> {
            let Some(session) = self.node.session() else { return Ok(()) };
            let broker = &self.node.broker;
            let name = &*self.node.name;
            let version = broker.slot_table()?.map_or(0, |table| table.version);
            broker
                .change_slots(&session, name, version, &SlotChange::Forget { node: name })
                .map(drop)
        };
        let _ = heartbeat::call(forget);
    }
}
