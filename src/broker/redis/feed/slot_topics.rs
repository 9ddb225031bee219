//! Which topics of slots a feed hears, and which of what comes there is for its node: what .NET helpers send, whose servers
//! list has slots in place of nodes.
//!
//! Pure; owned by one feed, and stepped by `slots`. Two rules make it exact, whoever owns what meanwhile.
//!
//! **For single clients**: on the topic of a slot its owner says that it hears, by a notice with the version of the table
//! that made it so. From there on in the order of the topic, which is the same for all who hear it, the one with the newest notice acts,
//! and the former one no longer. So the former one acts until the other hears, and each message is acted on once.
//!
//! **For channels and everybody**: such a message comes on the topics of all slots, one after the other. Every node hears that of
//! the first slot, whoever owns it, and takes it from there alone. So it comes once to each node, and at one place in the order of messages on
//! all of them; copies that are counted could not promise that of a client whose slot moves between two of them.

use std::{collections::HashMap, mem};

use crate::{broker::redis::layout::Layout, slots::SlotTable, wire::Envelope};

/// The slot on whose topic what is for all is heard.
const FOR_ALL: usize = 0;

/// What stands for the slot in the pattern of names.
const SLOT: &str = "{slot}";

pub(super) struct SlotTopics {
    /// A topic, with a place for the slot; `None` if none is heard.
    pattern: Option<String>,
    node: String,
    /// Of the table that was looked at last; 0 if there was none.
    version: u64,
    topics: HashMap<Vec<u8>, Topic>,
    /// Whether the table may have changed.
    is_stale: bool,
    /// Whether something may have to be said.
    is_unsaid: bool,
}

struct Topic {
    slot: usize,
    is_owned: bool,
    /// Whether the server has confirmed that it is heard.
    is_heard: bool,
    /// The version by which this node has said that it hears it; 0 before.
    said: u64,
    /// The newest notice that was heard: its version, and whether it is this node's.
    voice: Option<(u64, bool)>,
}

/// What is to change of what is heard.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Listen {
    pub(super) to: Vec<String>,
    pub(super) no_longer_to: Vec<String>,
}

/// That this node hears a topic from here on.
pub(super) struct Saying {
    pub(super) topic: String,
    pub(super) notice: String,
    version: u64,
}

impl Topic {
    fn is_acted_on(&self) -> bool {
        matches!(self.voice, Some((_, true)))
    }

    /// Whether another acts, or this node never was to: what it has said others have heard, or will, and have stopped for.
    fn is_left(&self) -> bool {
        match self.voice {
            Some((newest, is_own)) => !is_own && newest >= self.said,
            None => self.said == 0,
        }
    }

    fn is_unsaid(&self, version: u64) -> bool {
        let is_new = self.said == 0 || !self.is_acted_on() && self.said < version;
        self.is_owned && self.is_heard && is_new
    }
}

impl SlotTopics {
    /// `names`: what slots are called, with [`SLOT`] in it; empty if nobody sends to them.
    pub(super) fn new(layout: &Layout, names: &str, node: &str) -> Self {
        let pattern = (!names.is_empty()).then(|| layout.node_topic(names));
        SlotTopics {
            is_stale: pattern.is_some(),
            pattern,
            node: node.to_owned(),
            version: 0,
            topics: HashMap::new(),
            is_unsaid: false,
        }
    }

    pub(super) fn are_heard(&self) -> bool {
        self.pattern.is_some()
    }

    /// A new subscription begins: nothing is heard, and nobody was.
    pub(super) fn begin(&mut self) {
        self.topics.clear();
        (self.version, self.is_unsaid, self.is_stale) = (0, false, self.are_heard());
    }

    /// The table may have changed.
    pub(super) fn table_changed(&mut self) {
        self.is_stale = self.are_heard();
    }

    /// Whether the table is to be [looked at](Self::look).
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Goes by the table as it is now.
    pub(super) fn look(&mut self, table: Option<&SlotTable>) -> Listen {
        let Some(pattern) = &self.pattern else { return Listen::default() };
        (self.is_stale, self.is_unsaid) = (false, true);
        let version = table.map_or(0, |table| table.version);
        if version < mem::replace(&mut self.version, version) {
            // The former table is lost; whoever speaks by another is newer.
            for topic in self.topics.values_mut() {
                topic.said = 0;
                topic.voice = topic.voice.map(|(_, is_own)| (0, is_own));
            }
        }
        // What nobody owns any more stays with who has it.
        let Some(table) = table else { return Listen::default() };
        let mut listen = Listen::default();
        for slot in 0..table.count() {
            let topic = pattern.replace(SLOT, &table.slot_number(slot));
            let is_owned = table.owner(slot) == Some(&*self.node);
            match self.topics.get_mut(topic.as_bytes()) {
                Some(known) => {
                    known.is_owned = is_owned;
                    if !is_owned && slot != FOR_ALL && known.is_left() {
                        self.topics.remove(topic.as_bytes());
                        listen.no_longer_to.push(topic);
                    }
                }
                None if is_owned || slot == FOR_ALL => {
                    let new = Topic { slot, is_owned, is_heard: false, said: 0, voice: None };
                    self.topics.insert(topic.clone().into_bytes(), new);
                    listen.to.push(topic);
                }
                None => {}
            }
        }
        listen
    }

    /// The server has confirmed that a topic is heard.
    pub(super) fn confirmed(&mut self, topic: &[u8]) {
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.is_heard = true;
            self.is_unsaid = true;
        }
    }

    /// Whether something may be [to be said](Self::unsaid).
    pub(super) fn has_to_speak(&self) -> bool {
        self.is_unsaid
    }

    /// On which topics this node has to say that it hears them.
    pub(super) fn unsaid(&mut self) -> Vec<Saying> {
        let (node, version) = (&self.node, self.version);
        let unsaid = self.topics.iter().filter(|(_, topic)| topic.is_unsaid(version));
        let all: Vec<_> = unsaid
            .filter_map(|(name, topic)| {
                let given = Some((topic.slot as u64, node.clone()));
                let notice = Envelope::Slots { version, given, from: None }.encode();
                Some(Saying { topic: String::from_utf8(name.clone()).ok()?, notice, version })
            })
            .collect();
        self.is_unsaid = !all.is_empty();
        all
    }

    /// That was published.
    pub(super) fn said(&mut self, all: &[Saying]) {
        for saying in all {
            if let Some(topic) = self.topics.get_mut(saying.topic.as_bytes()) {
                topic.said = saying.version;
            }
        }
        self.is_unsaid = false;
    }

    /// Takes note of what came on `topic`, and gives it back if it is for this node.
    pub(super) fn hear(&mut self, topic: &[u8], envelope: Envelope) -> Option<Envelope> {
        let topic = self.topics.get_mut(topic)?;
        match envelope {
            Envelope::Direct { .. } | Envelope::ForceOffline { .. } => {
                topic.is_acted_on().then_some(envelope)
            }
            Envelope::Channel { .. } => (topic.slot == FOR_ALL).then_some(envelope),
            Envelope::Slots { version, given: Some((slot, owner)), .. }
                if slot == topic.slot as u64 =>
            {
                if topic.voice.is_none_or(|(newest, _)| version >= newest) {
                    let is_own = owner == self.node;
                    topic.voice = Some((version, is_own));
                    self.is_stale |= !is_own;
                }
                None
            }
            // No helper sends anything else there.
            _ => None,
        }
    }

    /// Whether what came on `topic` is for this node if it cannot be read.
    pub(super) fn is_acted_on(&self, topic: &[u8]) -> bool {
        self.topics.get(topic).is_some_and(Topic::is_acted_on)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet, VecDeque};

    use testkit::seeded::{Seeded, seeds};

    use super::*;
    use crate::slots::{SlotChange, SlotNode};

    const SLOTS: usize = 5;
    const NODES: [&str; 3] = ["a", "b", "c"];

    /// What a node's connection is going to say.
    enum Heard {
        Message(String, Envelope),
        Confirmed(String),
        TableChanged,
    }

    struct Node {
        topics: SlotTopics,
        /// On the side of the server.
        subscribed: HashSet<String>,
        pipe: VecDeque<Heard>,
        is_stopped: bool,
    }

    /// A server, which does one thing after the other, and nodes that hear of it late.
    struct World {
        random: Seeded,
        table: SlotTable,
        nodes: Vec<Node>,
        sent: u64,
        /// Messages to all of which not all copies are out: what they say, and the next slot.
        senders: Vec<(u64, usize)>,
        /// Who acted on each message.
        acted: BTreeMap<u64, Vec<usize>>,
        to_all: HashSet<u64>,
    }

    fn layout() -> Layout {
        Layout::new("p", "/ws", "", None)
    }

    fn topic(slot: usize) -> String {
        layout().node_topic(&format!("im.example.com/s{slot}"))
    }

    fn direct(number: u64) -> Envelope {
        Envelope::decode(&format!(r#"{{"Item1":0,"Item2":[1],"Item3":"{number}","Item4":false}}"#))
            .unwrap()
    }

    /// The same text now and then.
    fn to_all(number: u64) -> Envelope {
        let content = (number % 2).to_string();
        Envelope::Channel { sender: 0.into(), channel: None, content, trace: None }
    }

    impl World {
        fn new(seed: u64) -> Self {
            let node = |name: &&str| Node {
                topics: SlotTopics::new(&layout(), "im.example.com/s{slot}", name),
                subscribed: HashSet::new(),
                pipe: VecDeque::new(),
                is_stopped: false,
            };
            let mut world = World {
                random: Seeded::new(seed),
                table: SlotTable::empty(SLOTS),
                nodes: NODES.iter().map(node).collect(),
                sent: 0,
                senders: Vec::new(),
                acted: BTreeMap::new(),
                to_all: HashSet::new(),
            };
            for name in NODES {
                let said = SlotNode::new(name);
                assert!(world.change(name, SlotChange::Stand { said: &said, count: SLOTS }));
            }
            for slot in 0..SLOTS {
                world.change(NODES[slot % 2], SlotChange::Take { slot });
            }
            world.settle();
            world
        }

        fn change(&mut self, node: &str, change: SlotChange) -> bool {
            let Ok(Some(changed)) = SlotTable::changed(Some(&self.table), node, &change) else {
                return false;
            };
            self.table = changed.table;
            self.nodes.iter_mut().for_each(|node| node.pipe.push_back(Heard::TableChanged));
            true
        }

        fn publish(&mut self, topic: &str, envelope: &Envelope) {
            for node in self.nodes.iter_mut().filter(|node| node.subscribed.contains(topic)) {
                node.pipe.push_back(Heard::Message(topic.to_owned(), envelope.clone()));
            }
        }

        /// One thing that a node hears, or its look at the table, also while there is something to hear.
        fn turn(&mut self, place: usize) -> bool {
            let looks = self.random.below(3) == 0;
            let node = &mut self.nodes[place];
            if !looks && let Some(heard) = node.pipe.pop_front() {
                match heard {
                    Heard::TableChanged => node.topics.table_changed(),
                    Heard::Confirmed(topic) => node.topics.confirmed(topic.as_bytes()),
                    Heard::Message(topic, envelope) => {
                        match node.topics.hear(topic.as_bytes(), envelope) {
                            Some(Envelope::Direct { content, .. }) => {
                                self.acted.entry(content.parse().unwrap()).or_default().push(place);
                            }
                            Some(Envelope::Channel { content, .. }) => {
                                let number = content.parse::<u64>().unwrap();
                                self.acted.entry(u64::MAX - number).or_default().push(place);
                            }
                            _ => {}
                        }
                    }
                }
                return true;
            }
            if node.topics.is_stale() {
                let Listen { to, no_longer_to } = node.topics.look(Some(&self.table));
                no_longer_to.iter().for_each(|topic| assert!(node.subscribed.remove(topic)));
                for topic in to {
                    node.pipe.push_back(Heard::Confirmed(topic.clone()));
                    node.subscribed.insert(topic);
                }
                return true;
            }
            let sayings = node.topics.unsaid();
            node.topics.said(&sayings);
            for saying in &sayings {
                let notice = Envelope::decode(&saying.notice).unwrap();
                self.publish(&saying.topic, &notice);
            }
            !sayings.is_empty() || !self.nodes[place].pipe.is_empty()
        }

        fn settle(&mut self) {
            self.nodes.iter_mut().for_each(|node| node.is_stopped = false);
            while (0..self.nodes.len()).map(|place| self.turn(place)).filter(|did| *did).count() > 0
            {
            }
        }

        fn step(&mut self) {
            let slot = self.random.below(SLOTS);
            let (some, other) = (self.random.below(3), self.random.below(3));
            match self.random.below(12) {
                0 | 1 => {
                    self.sent += 1;
                    self.publish(&topic(slot), &direct(self.sent));
                }
                2 => {
                    self.sent += 1;
                    self.to_all.insert(self.sent);
                    self.senders.push((self.sent, 0));
                }
                3..=6 if !self.senders.is_empty() => {
                    let place = self.random.below(self.senders.len());
                    let (number, next) = self.senders[place];
                    self.publish(&topic(next), &to_all(number));
                    self.senders[place].1 += 1;
                    if next + 1 == SLOTS {
                        self.senders.swap_remove(place);
                    }
                }
                7 => {
                    let owner = self.table.owner(slot).unwrap().to_owned();
                    self.change(&owner, SlotChange::Give { slot, to: NODES[other] });
                }
                8 => {
                    if let Some(from) = self.table.moving_from(slot).map(str::to_owned) {
                        self.change(&from, SlotChange::Left { slot });
                    }
                }
                // Held for dead, and may wake up again.
                9 => {
                    self.nodes[some].is_stopped = self.random.below(2) == 0;
                    if self.table.owner(slot) == Some(NODES[some]) && some != other {
                        self.change(NODES[other], SlotChange::Take { slot });
                    }
                }
                _ if !self.nodes[some].is_stopped => drop(self.turn(some)),
                _ => {}
            }
        }
    }

    #[test]
    fn each_message_is_acted_on_once_whoever_owns_what() {
        for seed in seeds("IMCORE_SLOT_TOPICS", 2000) {
            let mut world = World::new(seed);
            (0..200).for_each(|_| world.step());
            while let Some((number, next)) = world.senders.pop() {
                (next..SLOTS).for_each(|slot| world.publish(&topic(slot), &to_all(number)));
            }
            world.settle();
            for number in (1..=world.sent).filter(|number| !world.to_all.contains(number)) {
                let acted = world.acted.get(&number).cloned().unwrap_or_default();
                assert_eq!(
                    acted.len(),
                    1,
                    "seed {seed}: message {number} was acted on by {acted:?}"
                );
            }
            for text in [0, 1] {
                let sent = world.to_all.iter().filter(|number| **number % 2 == text).count();
                let acted = world.acted.get(&(u64::MAX - text)).cloned().unwrap_or_default();
                for place in 0..NODES.len() {
                    let times = acted.iter().filter(|by| **by == place).count();
                    assert_eq!(times, sent, "seed {seed}: node {place} of text {text}");
                }
            }
            for node in &world.nodes {
                let owned: Vec<_> = world.table.slots_of(&node.topics.node).collect();
                let heard = (1..SLOTS).filter(|slot| node.subscribed.contains(&topic(*slot)));
                let owned_of = owned.iter().copied().filter(|slot| *slot != FOR_ALL);
                assert_eq!(heard.collect::<Vec<_>>(), owned_of.collect::<Vec<_>>(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_table_that_was_lost_is_begun_anew() {
        let mut world = World::new(1);
        world.table = SlotTable::empty(SLOTS);
        for name in NODES {
            let said = SlotNode::new(name);
            world.change(name, SlotChange::Stand { said: &said, count: SLOTS });
        }
        (0..SLOTS).for_each(|slot| assert!(world.change("c", SlotChange::Take { slot })));
        world.settle();
        for slot in 0..SLOTS {
            world.publish(&topic(slot), &direct(slot as u64));
        }
        world.settle();
        assert!(world.acted.values().all(|by| *by == [2]), "{:?}", world.acted);
        assert_eq!(world.acted.len(), SLOTS);
    }

    #[test]
    fn without_names_nothing_is_heard() {
        let mut topics = SlotTopics::new(&layout(), "", "a");
        topics.begin();
        topics.table_changed();
        assert!(!topics.is_stale() && !topics.has_to_speak());
        assert_eq!(topics.look(Some(&SlotTable::empty(4))), Listen::default());
    }
}
