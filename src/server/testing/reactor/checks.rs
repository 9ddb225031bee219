//! What is checked on the way and at the end of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    model::{CHANNELS, World, channel_name},
    peer::Peer,
};
use testkit::seeded::Seeded;

use crate::server::{message::Command, reactor::hub::Key, reasons::CloseReason};

impl World {
    /// The hub knows exactly the open connections and the channels it was told of.
    pub(super) fn check_hub(&mut self) {
        let keys: BTreeMap<u64, Key> = self.open().collect();
        for channel in [None].into_iter().chain((0..CHANNELS).map(Some)) {
            let expected = self.members(channel);
            let mut expected: Vec<Key> =
                expected.iter().map(|number| keys[&(*number as u64)]).collect();
            let plan: Vec<Key> = match channel {
                Some(channel) => {
                    let plan = self.reactor.hub.plan(&0.into(), &channel_name(channel));
                    plan.into_iter().flatten().collect()
                }
                None => self.open().map(|(_, key)| key).collect(),
            };
            expected.sort_unstable();
            assert_eq!(plan, expected, "channel {channel:?}");
        }
        assert_eq!(self.live.load(Ordering::Relaxed), self.reactor.connections.len() as u64);
    }

    pub(super) fn check_outboxes(&self) {
        let most = 64 * self.reactor.limits.outbox_bytes;
        for (_, connection) in &self.reactor.connections {
            // Besides what is limited there are only a close and few pings: one for silence, others among many
            // bytes of messages.
            assert!(
                connection.unwritten().0 <= most + 100 + most / 1024,
                "an outbox without bound"
            );
        }
    }

    /// 1013 is for peers that did not read, as the documents say it.
    pub(super) fn check_cuts(&mut self) {
        let now = self.reactor.now;
        for (_, connection) in &self.reactor.connections {
            let peer = &mut self.peers[connection.number as usize];
            if connection.ending() != Some(CloseReason::SlowConsumer) {
                peer.note_waiting(now, connection.unwritten().0);
            } else if !std::mem::replace(&mut peer.was_cut, true) {
                assert!(
                    peer.did_not_read(now, &self.reactor.limits),
                    "{} was cut at {now}: {peer:?}",
                    connection.number
                );
            }
        }
    }

    /// The server ends TCP only after the peer has, or had its time to.
    pub(super) fn check_ends(&mut self) {
        let now = self.reactor.now;
        for (_, connection) in &self.reactor.connections {
            let peer = &mut self.peers[connection.number as usize];
            let Some(reason) = connection.ending() else { continue };
            let since = *peer.closing_since.get_or_insert(now);
            let may = !reason.expects_answer() || peer.may_be_shut(Some(since));
            assert!(may || !peer.line.borrow().shut, "{} was shut: {reason:?}", connection.number);
        }
    }

    /// Everyone has got a first part of what was offered, whole and in order; the counters agree.
    pub(super) fn check_streams(&self) {
        let mut delivered = 0;
        for (number, peer) in self.peers.iter().enumerate() {
            let got = peer.got();
            delivered += got.messages.len() as u64;
            let expected = peer.expected.iter().map(|id| &self.messages[*id].0);
            assert!(
                got.messages.len() <= peer.expected.len()
                    && expected.zip(&got.messages).all(|(a, b)| a == b),
                "connection {number} got {:?} of {:?}",
                got.messages,
                peer.expected
            );
        }
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // A message that takes several turns is not offered to who leaves meanwhile.
        let offered = get(&self.counters.offered) + self.reactor.offered;
        assert!(if self.in_steps { offered <= self.offered } else { offered == self.offered });
        assert_eq!(get(&self.counters.delivered) + self.reactor.written.messages, delivered);
        let queued: usize =
            self.reactor.connections.iter().map(|(_, connection)| connection.unwritten().1).sum();
        let dropped: u64 = self.counters.drops.iter().map(get).sum();
        assert_eq!(delivered + dropped + queued as u64, offered);
    }

    /// Faults are over: whoever is still connected gets all that it is owed.
    pub(super) fn settle(&mut self) {
        self.tell_channels();
        for _ in 0..100 {
            self.peers.iter_mut().for_each(Peer::settle);
            self.work(|| 0);
        }
        self.check_streams();
        for (number, _) in self.open() {
            let peer = &self.peers[number as usize];
            assert_eq!(peer.got().messages.len(), peer.expected.len(), "connection {number}");
            assert!(peer.is_answered(), "connection {number} waits for a pong");
        }
    }

    /// The node stops. Returns a digest of all that peers got.
    pub(super) fn finish(mut self) -> u64 {
        // In every second run peers do not see it off, and messages are still on their way.
        let polite = self.seed.is_multiple_of(2);
        let mut chance = Seeded::new(self.seed);
        (0..if polite { 0 } else { 40 }).for_each(|_| self.send_to_channel(0, &mut chance));
        self.obey(Command::Drain);
        for _ in 0..10 {
            self.work(|| 0);
            if polite {
                self.peers.iter_mut().for_each(Peer::settle);
            }
        }
        assert!(!polite || self.reactor.connections.is_empty());
        self.reactor.finish();
        self.collect();
        self.check_streams();
        assert!(self.reactor.connections.is_empty());
        assert_eq!(self.live.load(Ordering::Relaxed), 0);
        assert_eq!(self.opened, self.closed);
        assert!(self.peers.iter().all(|peer| peer.line.borrow().dropped));
        let got: Vec<_> =
            self.peers.iter().map(|peer| (peer.client, peer.got().messages.clone())).collect();
        let receipts: BTreeSet<_> = self.receipts.keys().copied().collect();
        assert_eq!(receipts, self.due, "receipts that came, receipts that were due");
        for ((id, to), sent) in &self.receipts {
            let text = &self.messages[*id].0;
            let reached = got.iter().any(|(client, all)| client == to && all.contains(text));
            assert_eq!(*sent, reached, "receipt for message {id} to {to}");
        }
        let mut digest = DefaultHasher::new();
        self.peers.iter().for_each(|peer| digest.write(&peer.line.borrow().output));
        digest.finish()
    }
}
