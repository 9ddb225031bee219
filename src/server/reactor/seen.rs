//! What a reactor tells those who follow something: a client that comes and goes, its channels, what becomes of messages.
//!
//! Part of `Reactor`, called from its turn alone. While nobody follows, each of these is a look at an `Option` that was
//! filled at the beginning of the turn; nothing here is on the way of a message to a connection.

use super::{Reactor, hub::Key, parked::is_parked};
use crate::{
    id::ClientId,
    server::{
        connection::{continuity::Keep, hello::Resumption, prepared::Prepared, trace::Trace},
        follow::{Sighting, What},
        reasons::CloseReason,
        transport::Socket,
    },
    wire::Position,
};

/// Messages that have still to be written to a connection: where they are, and their bytes.
pub(super) type Unwritten = Vec<(Position, usize)>;

impl<S: Socket> Reactor<S> {
    /// A turn begins: who follows now?
    pub(super) fn look_who_follows(&mut self) {
        self.followers = self.parts.follows.now();
        self.written.trace = self.followers.is_some().then(Trace::default);
    }

    fn see(&self, sighting: impl FnOnce() -> Sighting) {
        if let Some(followers) = &self.followers {
            followers.tell(&sighting());
        }
    }

    /// Tells what sockets took and clients acknowledged.
    pub(super) fn tell_written(&mut self) {
        let (Some(followers), Some(trace)) = (&self.followers, &mut self.written.trace) else {
            return;
        };
        trace.seen.drain(..).for_each(|sighting| followers.tell(&sighting));
    }

    /// A connection opened, on what grounds if its client can resume.
    pub(super) fn see_opened(&self, key: Key, goes_on: bool, resumption: Option<Resumption>) {
        self.see(|| {
            let (what, reason, count) = match resumption {
                Some(Resumption::Whole(missed)) => (What::Resumed, None, Some(missed as u64)),
                Some(Resumption::Refused(why)) => (What::Connected, Some(why.label()), None),
                // One of the original's kind that is given its place back.
                None if goes_on => (What::Resumed, None, None),
                Some(Resumption::New) | None => (What::Connected, None, None),
            };
            Sighting { reason, count, ..self.sighting(what, key) }
        });
    }

    /// A client that has lost its connection is waited for.
    pub(super) fn see_parked(
        &self,
        client: &ClientId,
        connection: u64,
        keep: Keep,
        why: CloseReason,
    ) {
        self.see(|| {
            let reason = Some(why.label());
            let count = Some(keep.seconds());
            Sighting { reason, count, ..Sighting::of(What::Parked, client, Some(connection)) }
        });
    }

    /// A connection ended, or its client is waited for no longer.
    pub(super) fn see_closed(&self, client: &ClientId, connection: u64, why: CloseReason) {
        self.see(|| Sighting {
            reason: Some(why.label()),
            code: why.code(),
            ..Sighting::of(What::Closed, client, Some(connection))
        });
    }

    /// Messages that a connection, or a client that is away, has still to be written, if anybody follows.
    pub(super) fn unwritten_of(&self, key: Key) -> Option<Unwritten> {
        self.followers.as_ref()?;
        match is_parked(key) {
            true => self.parking.get(key).map(|parked| parked.estate.unwritten_messages()),
            false => self.connections.get(key as usize).map(|c| c.unwritten_messages()),
        }
    }

    /// What was to be written before is not any more.
    pub(super) fn see_dropped(
        &self,
        (client, connection): (&ClientId, u64),
        before: Option<Unwritten>,
        after: Option<Unwritten>,
        reason: CloseReason,
    ) {
        let (Some(followers), Some(before)) = (&self.followers, before) else { return };
        let after = after.unwrap_or_default();
        for (position, bytes) in before {
            // Both are in order.
            if after.binary_search_by_key(&position, |(position, _)| *position).is_err() {
                let sighting = Sighting::of(What::Dropped, client, Some(connection));
                let (bytes, reason) = (Some(bytes), Some(reason.label()));
                followers.tell(&Sighting { bytes, reason, ..sighting.at_position(position) });
            }
        }
    }

    /// A message finds its receiver without a connection.
    pub(super) fn see_offline(&self, client: &ClientId, message: &Prepared) {
        self.see(|| undelivered(client, None, message, "offline"));
    }

    /// A message is one too many for a connection, which is closed for it.
    pub(super) fn see_too_slow(&self, key: Key, message: &Prepared) {
        let Some(connection) = self.connections.get(key as usize) else { return };
        let (client, number) = (connection.client(), Some(connection.number));
        self.see(|| undelivered(client, number, message, CloseReason::SlowConsumer.label()));
    }

    /// A message came for the members of a channel, or for everybody: those here are known here alone.
    pub(super) fn see_channel_message(
        &self,
        channel: Option<&std::sync::Arc<str>>,
        message: &Prepared,
    ) {
        let Some(followers) = &self.followers else { return };
        let sighting = Sighting {
            channel: channel.cloned(),
            bytes: Some(message.len()),
            ..Sighting::new(What::Received)
        };
        let is_for = |client: &ClientId| {
            !self.hub.connections(client).is_empty()
                && channel.is_none_or(|channel| {
                    self.hub.channels_of(client).iter().any(|name| **name == **channel)
                })
        };
        followers.came_for(&sighting.at_position(message.position()), message.content(), is_for);
    }

    /// The channels of a client, if anybody minds.
    pub(super) fn channels_before(&self, client: &ClientId) -> Option<Vec<String>> {
        let minds = self.followers.as_ref()?.mind_channels_of(client);
        minds.then(|| self.hub.channels_of(client))
    }

    /// The channels of a client may be others.
    pub(super) fn see_channels(&self, client: &ClientId, before: Option<Vec<String>>) {
        let (Some(followers), Some(before)) = (&self.followers, before) else { return };
        let after = self.hub.channels_of(client);
        let tell = |what, names: &[String], others: &[String]| {
            for name in names.iter().filter(|name| !others.contains(name)) {
                let channel = Some(name.as_str().into());
                followers.tell(&Sighting { channel, ..Sighting::of(what, client, None) });
            }
        };
        tell(What::Joined, &after, &before);
        tell(What::Left, &before, &after);
    }

    fn sighting(&self, what: What, key: Key) -> Sighting {
        match self.connections.get(key as usize) {
            Some(connection) => Sighting::of(what, connection.client(), Some(connection.number)),
            None => Sighting::new(what),
        }
    }
}

fn undelivered(
    client: &ClientId,
    connection: Option<u64>,
    message: &Prepared,
    reason: &'static str,
) -> Sighting {
    let sighting = Sighting::of(What::Dropped, client, connection);
    let (bytes, reason) = (Some(message.len()), Some(reason));
    Sighting { bytes, reason, ..sighting.at_position(message.position()) }
}
