//! What a peer says before it is authorised: the proxy's header, the TLS handshake, the request head.
//!
//! The second part of `Acceptor`; each ends in a question to the ticket thread or in a refusal.

use std::io::{self, Read};

use super::{
    Acceptor,
    handshakes::{Handshake, Handshakes, Phase},
    head::{Head, Upgrade, read_head},
    real_address::{ProxyHeader, is_proxy_header, proxy_header},
};
use crate::{
    server::{
        config::PeerAddress,
        message::HandshakeId,
        reasons::{Refusal, TlsFailure},
        transport::tls::{Tls, TlsSession},
    },
    throttle::Throttle,
};

static NO_ADDRESS: Throttle = Throttle::new();

/// What a TLS handshake begins with: the type of its record.
const HELLO: u8 = 0x16;
/// Reads of one socket per turn: under TLS a peer can send much that comes to nothing, such as new keys.
const READS_PER_TURN: usize = 4;

impl Acceptor {
    /// Reads what there is of the proxy's header, the TLS handshake and the request head, up to a bound.
    pub(super) fn read(&self, handshakes: &mut Handshakes, id: HandshakeId) {
        let mut chunk = [0; 2048];
        for _ in 0..READS_PER_TURN {
            let Some(handshake) = handshakes.get(id) else { return };
            let (Phase::Proxy { bytes } | Phase::Hello { bytes } | Phase::Head { bytes }) =
                &mut handshake.phase
            else {
                return;
            };
            match handshake.stream.read(&mut chunk) {
                Ok(0) => return self.give_up(handshakes, id, None),
                Ok(count) => {
                    let seen = bytes.len();
                    bytes.extend_from_slice(&chunk[..count]);
                    self.on_bytes(handshakes, id, seen);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.watch(handshakes, id);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.give_up(handshakes, id, Some(&error)),
            }
        }
        self.watch_anew(handshakes, id);
    }

    /// Lets go of a peer that is gone, or broke the rules of its transport: then it is told so.
    fn give_up(&self, handshakes: &mut Handshakes, id: HandshakeId, error: Option<&io::Error>) {
        let Some(handshake) = handshakes.get(id) else { return };
        if handshake.stream.is_handshaking() {
            self.tls_failed(handshake, TlsSession::failure(error), error);
            let is_here = error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
            if is_here && handshake.stream.give_up_tls().is_ok() {
                return self.linger(handshakes, id, String::new());
            }
        }
        handshakes.remove(id);
    }

    pub(super) fn tls_failed(
        &self,
        handshake: &Handshake,
        failure: TlsFailure,
        error: Option<&io::Error>,
    ) {
        self.counters.tls_failed(failure);
        let (connection, address) = (handshake.serial, handshake.shown_address());
        let reason = failure.text();
        log::debug!(
            connection, address:%, reason;
            "conn={connection} address={address} TLS: {reason}{}",
            error.map_or_else(String::new, |error| format!(": {error}"))
        );
    }

    /// Goes as far as the bytes read so far allow; `seen` of them were there before.
    fn on_bytes(&self, handshakes: &mut Handshakes, id: HandshakeId, seen: usize) {
        let in_front =
            handshakes.get(id).is_some_and(|found| matches!(found.phase, Phase::Proxy { .. }));
        if in_front && !self.read_proxy_header(handshakes, id) {
            return;
        }
        let seen = if in_front { 0 } else { seen };
        if let Some(tls) = &self.node.tls {
            self.begin_tls(handshakes, id, tls);
        }
        let Some(Handshake { phase: Phase::Head { bytes }, .. }) = handshakes.get(id) else {
            return;
        };
        match read_head(bytes, seen, &self.rules) {
            Head::Incomplete => {}
            Head::Refused(refusal) => self.refuse(handshakes, id, refusal),
            Head::Upgrade(upgrade) => {
                if self.admit_forwarded(handshakes, id, &upgrade) {
                    self.ask_ticket(handshakes, id, upgrade);
                }
            }
        }
    }

    /// Takes the proxy's header off once it is whole; false unless the peer has its turn.
    fn read_proxy_header(&self, handshakes: &mut Handshakes, id: HandshakeId) -> bool {
        let Some(handshake) = handshakes.get(id) else { return false };
        let Phase::Proxy { bytes } = &mut handshake.phase else { return false };
        let refusal = match proxy_header(bytes) {
            ProxyHeader::Incomplete => return false,
            ProxyHeader::Missing => Refusal::NoProxyHeader,
            ProxyHeader::Version1 => Refusal::OldProxyHeader,
            ProxyHeader::Invalid => Refusal::BadProxyHeader,
            ProxyHeader::Complete { len, address } => {
                handshake.phase = self.begin_peer(bytes.split_off(len));
                // One that speaks for itself is checking.
                let address = address.unwrap_or(handshake.socket_address);
                return self.admit(handshakes, id, address);
            }
        };
        self.refuse(handshakes, id, refusal);
        false
    }

    /// Counts a handshake for the address that a proxy gives in the head, or for the proxy's own if it gives
    /// none.
    fn admit_forwarded(
        &self,
        handshakes: &mut Handshakes,
        id: HandshakeId,
        upgrade: &Upgrade,
    ) -> bool {
        if self.peer_address != PeerAddress::ForwardedFor {
            return true;
        }
        let Some(handshake) = handshakes.get(id) else { return false };
        let socket_address = handshake.socket_address;
        if upgrade.forwarded.is_none()
            && let Some(more) = NO_ADDRESS.admit("")
        {
            log::warn!(
                "the last entry of X-Forwarded-For is missing or no address; handshakes count for the \
                 proxy's own, {socket_address}: have it write the client's address, or set peer_address{more}"
            );
        }
        self.admit(handshakes, id, upgrade.forwarded.unwrap_or(socket_address))
    }

    /// Puts TLS before the request head, once the peer begins with it.
    fn begin_tls(&self, handshakes: &mut Handshakes, id: HandshakeId, tls: &Tls) {
        let Some(Handshake { stream, phase, .. }) = handshakes.get(id) else { return };
        let Phase::Hello { bytes } = phase else { return };
        match bytes.first() {
            None => {}
            Some(&HELLO) => {
                let early = std::mem::take(bytes);
                *phase = Phase::Head { bytes: Vec::new() };
                if let Err(error) = stream.secure(tls, early) {
                    self.give_up(handshakes, id, Some(&error));
                }
            }
            Some(_) if is_proxy_header(bytes) => {
                self.refuse(handshakes, id, Refusal::UnexpectedProxyHeader);
            }
            Some(_) => self.refuse(handshakes, id, Refusal::NotTls),
        }
    }
}
