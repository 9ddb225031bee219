//! What a peer says before it is authorised: the proxy's header, the TLS handshake, the request head.
//!
//! The second part of `Acceptor`; each ends in a question to the ticket worker or in a refusal.

use std::io::{self, Read};

use super::{
    super::{
        handshakes::{Handshake, Handshakes, Phase},
        http::{Head, Refusal, read_head},
        message::HandshakeId,
        peer::{ProxyHeader, proxy_header},
        reasons::TlsFailure,
        tls::{Tls, TlsSession},
    },
    Acceptor,
};

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

    /// Lets go of a peer that is gone, or broke the rules of its transport.
    fn give_up(&self, handshakes: &mut Handshakes, id: HandshakeId, error: Option<&io::Error>) {
        let Some(handshake) = handshakes.remove(id) else { return };
        if handshake.stream.is_handshaking() {
            self.tls_failed(&handshake, TlsSession::failure(error), error);
        }
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
    fn on_bytes(&self, handshakes: &mut Handshakes, id: HandshakeId, mut seen: usize) {
        let Some(handshake) = handshakes.get(id) else { return };
        if let Phase::Proxy { bytes } = &mut handshake.phase {
            match proxy_header(bytes) {
                ProxyHeader::Incomplete => return,
                ProxyHeader::Invalid => return self.refuse(handshakes, id, Refusal::NotHttp),
                ProxyHeader::Complete { len, address } => {
                    handshake.phase = self.begin_peer(bytes.split_off(len));
                    seen = 0;
                    if address.is_some_and(|address| !self.admit(handshakes, id, address)) {
                        return;
                    }
                }
            }
        }
        if let Some(tls) = &self.tls {
            self.begin_tls(handshakes, id, tls);
        }
        let Some(Handshake { phase: Phase::Head { bytes }, .. }) = handshakes.get(id) else {
            return;
        };
        match read_head(bytes, seen, &self.rules) {
            Head::Incomplete => {}
            Head::Refused(refusal) => self.refuse(handshakes, id, refusal),
            Head::Upgrade(upgrade) => {
                let forwarded = upgrade.forwarded;
                if forwarded.is_none_or(|address| self.admit(handshakes, id, address)) {
                    self.ask_ticket(handshakes, id, upgrade);
                }
            }
        }
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
            Some(_) => self.refuse(handshakes, id, Refusal::NotTls),
        }
    }
}
