//! What becomes of single messages on their way out, noted while somebody follows something. A part of the tally.

use super::frame::Frame;
use crate::{
    id::ClientId,
    server::follow::{Sighting, What},
    wire::Position,
};

/// What sockets took and clients acknowledged since the reactor looked last.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Whose socket is being written.
    who: Option<(ClientId, u64)>,
    pub(crate) seen: Vec<Sighting>,
}

impl Trace {
    /// What is written from here on is for this connection of a client.
    pub(super) fn of(&mut self, client: &ClientId, connection: u64) {
        self.who = Some((client.clone(), connection));
    }

    pub(super) fn written(&mut self, frame: &Frame) {
        let Some((client, connection)) = &self.who else { return };
        let sighting =
            Sighting::of(What::Written, client, Some(*connection)).at_position(frame.position());
        self.seen.push(Sighting { bytes: Some(frame.bytes().len()), ..sighting });
    }

    /// A client has all up to this, or what was written before a ping that it has answered.
    pub(super) fn acknowledged(
        &mut self,
        client: &ClientId,
        connection: u64,
        upto: Option<Position>,
    ) {
        let sighting = Sighting::of(What::Acknowledged, client, Some(connection));
        self.seen.push(match upto {
            Some(upto) => sighting.at_position(upto),
            None => sighting,
        });
    }
}
