//! How the acceptor turns peers away: with an answer, a moment to read it, and a deadline for both.
//!
//! The third part of `Acceptor`.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    Acceptor,
    handshakes::{Handshake, Handshakes, Phase, finish_refusal},
};
use crate::server::{
    message::HandshakeId,
    reasons::{Refusal, TlsFailure},
};

/// Time for a refused peer to read the answer.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

impl Acceptor {
    pub(super) fn refuse(&self, handshakes: &mut Handshakes, id: HandshakeId, refusal: Refusal) {
        let Some(handshake) = handshakes.get(id) else { return };
        self.counters.refused(refusal.status());
        let (connection, address) = (id.serial, handshake.shown_address());
        let (status, reason) = (refusal.status(), refusal.why());
        log::debug!(
            connection, address:%, status, reason;
            "conn={connection} address={address} refused: {status} {reason}"
        );
        handshake.failed = refusal.is_peers_fault();
        if !handshake.can_be_told(refusal) {
            handshakes.remove(id);
            return;
        }
        let response = refusal.response(handshake.wants_no_body());
        self.linger(handshakes, id, response);
    }

    /// Says a last word, and waits a moment for the peer to read it.
    pub(super) fn linger(&self, handshakes: &mut Handshakes, id: HandshakeId, response: String) {
        let Some(handshake) = handshakes.get(id) else { return };
        handshake.phase = Phase::Refused { response, written: 0 };
        handshakes.refusals.push_back((Instant::now() + REFUSAL_LINGER, id));
        self.drive_refusal(handshakes, id);
    }

    /// Has one that costs its peer little give way to a newcomer; false if all wait for this node.
    pub(super) fn make_room(&self, handshakes: &mut Handshakes) -> bool {
        let Some(id) = handshakes.first_to_give_way() else { return false };
        let Some(handshake) = handshakes.get(id) else { return false };
        if handshake.stream.is_handshaking() {
            self.tls_failed(handshake, TlsFailure::TimedOut, None);
        }
        if !matches!(handshake.phase, Phase::Refused { .. }) {
            self.refuse(handshakes, id, Refusal::GaveWay);
        }
        handshakes.remove(id);
        true
    }

    /// Writes what is left of a refusal, then reads until the peer has seen it.
    pub(super) fn drive_refusal(&self, handshakes: &mut Handshakes, id: HandshakeId) {
        let Some(Handshake { stream, phase: Phase::Refused { response, written }, .. }) =
            handshakes.get(id)
        else {
            return;
        };
        match finish_refusal(stream, response.as_bytes(), written) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watch(handshakes, id),
            Ok(()) | Err(_) => {
                handshakes.remove(id);
            }
        }
    }

    pub(super) fn expire(&self, handshakes: &mut Handshakes) {
        while let Some(id) = handshakes.pop_due(|handshakes| &mut handshakes.heads) {
            let Some(handshake) = handshakes.get(id) else { continue };
            if handshake.stream.is_handshaking() {
                self.tls_failed(handshake, TlsFailure::TimedOut, None);
            }
            match &handshake.phase {
                Phase::Proxy { .. } | Phase::Hello { .. } | Phase::Head { .. } => {
                    self.refuse(handshakes, id, Refusal::TimedOut);
                }
                Phase::Ticket { .. } => self.refuse(handshakes, id, Refusal::NoBroker),
                Phase::Refused { .. } => {}
            }
        }
        while let Some(id) = handshakes.pop_due(|handshakes| &mut handshakes.refusals) {
            handshakes.remove(id);
        }
    }

    /// Tells everybody who is waiting; what cannot be written at once is given up.
    pub(super) fn stop(&self, mut handshakes: Handshakes) {
        self.counters.handshakes.store(0, Ordering::Relaxed);
        let ids: Vec<_> =
            (0..handshakes.slab.capacity()).filter_map(|key| handshakes.id(key)).collect();
        for id in ids {
            if handshakes.get(id).is_some_and(|found| !matches!(found.phase, Phase::Refused { .. }))
            {
                self.refuse(&mut handshakes, id, Refusal::Draining);
            }
        }
    }
}
