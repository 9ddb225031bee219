//! Sockets that are not authorised yet, and what each still has to do.
//!
//! Used by the acceptor alone. Keeps deadlines and the count per address right whatever way a handshake
//! ends; decides nothing.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::IpAddr,
    time::Instant,
};

use ahash::AHashMap;
use slab::Slab;

use super::{
    http::Refusal,
    message::HandshakeId,
    transport::{Socket, Transport},
};

/// A socket until it is authorised.
pub(super) struct Handshake {
    pub(super) stream: Transport,
    pub(super) serial: u64,
    /// The real peer, once known; counted from then on.
    pub(super) address: Option<IpAddr>,
    /// Whether the acceptor's poll knows the socket.
    pub(super) watched: bool,
    pub(super) phase: Phase,
}

impl Handshake {
    /// The peer's address for the log.
    pub(super) fn shown_address(&self) -> String {
        self.address.map_or("unknown".into(), |address| address.to_string())
    }

    /// Whether the peer can read an answer: one that speaks TLS cannot before both have agreed on it.
    pub(super) fn can_be_told(&self, refusal: Refusal) -> bool {
        let awaits_hello = matches!(self.phase, Phase::Hello { .. });
        !self.stream.is_handshaking() && (!awaits_hello || refusal == Refusal::NotTls)
    }
}

/// How far a handshake is.
pub(super) enum Phase {
    /// Reading the proxy's header if there is to be one.
    Proxy { bytes: Vec<u8> },
    /// Reading the first bytes of a TLS handshake if there is to be one.
    Hello { bytes: Vec<u8> },
    /// Reading the request head.
    Head { bytes: Vec<u8> },
    /// Waiting for the ticket; what follows the head waits unread in `leftover` and the socket.
    Ticket { response: String, leftover: Vec<u8> },
    /// Writing a refusal, then reading until the peer has seen it: closing with unread input would
    /// reset the connection and take the answer with it.
    Refused { response: String, written: usize },
}

/// Handshakes under way, and when each must be over.
#[derive(Default)]
pub(super) struct Handshakes {
    pub(super) slab: Slab<Handshake>,
    /// In the order of their deadlines: the two kinds of deadline have a queue each.
    pub(super) heads: Deadlines,
    pub(super) refusals: Deadlines,
    per_address: AHashMap<IpAddr, usize>,
    pub(super) next_serial: u64,
}

pub(super) type Deadlines = VecDeque<(Instant, HandshakeId)>;

impl Handshakes {
    pub(super) fn get(&mut self, id: HandshakeId) -> Option<&mut Handshake> {
        self.slab.get_mut(id.key).filter(|handshake| handshake.serial == id.serial)
    }

    /// Takes a handshake out: the only way.
    pub(super) fn remove(&mut self, id: HandshakeId) -> Option<Handshake> {
        self.get(id)?;
        let handshake = self.slab.remove(id.key);
        if let Some(address) = handshake.address
            && let Some(count) = self.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        Some(handshake)
    }

    /// Learns who the peer is; how many handshakes that address has under way now.
    pub(super) fn identify(&mut self, id: HandshakeId, address: IpAddr) -> usize {
        let Some(handshake) = self.get(id) else { return 0 };
        handshake.address = Some(address);
        let count = self.per_address.entry(address).or_default();
        *count += 1;
        *count
    }

    pub(super) fn id(&self, key: usize) -> Option<HandshakeId> {
        self.slab.get(key).map(|handshake| HandshakeId { key, serial: handshake.serial })
    }

    /// The next handshake whose time is over. Those that have ended leave their queue on the way, so that
    /// it stays as short as the list of handshakes under way, mostly.
    pub(super) fn pop_due(
        &mut self,
        queue: fn(&mut Self) -> &mut Deadlines,
    ) -> Option<HandshakeId> {
        let now = Instant::now();
        while let Some(&(at, id)) = queue(self).front() {
            let ended = self.get(id).is_none();
            if at > now && !ended {
                return None;
            }
            queue(self).pop_front();
            if !ended {
                return Some(id);
            }
        }
        // A queue keeps no room for its longest moment.
        *queue(self) = Deadlines::new();
        None
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let first = |queue: &Deadlines| queue.front().map(|(at, _)| *at);
        first(&self.heads).into_iter().chain(first(&self.refusals)).min()
    }
}

/// `WouldBlock` as long as there is something to wait for.
pub(super) fn finish_refusal(
    stream: &mut Transport,
    response: &[u8],
    written: &mut usize,
) -> io::Result<()> {
    while *written < response.len() {
        *written += stream.write(&response[*written..])?;
        if *written == response.len() {
            stream.shutdown_write()?;
        }
    }
    let mut chunk = [0; 4096];
    // Bounded: a peer that goes on sending has had its answer, and costs one turn little.
    for _ in 0..16 {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
