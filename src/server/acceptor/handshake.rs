//! One socket until it is authorised: how far it is, and what it can be told. Decides nothing.

use std::{io, net::IpAddr};

use mio::{Interest, Registry, Token};

use super::refusing::Refusing;
use crate::{
    http::is_head_request,
    server::{
        message::Claim,
        reasons::Refusal,
        transport::{Socket, Transport},
    },
};

/// A socket until it is authorised.
pub(super) struct Handshake<S> {
    pub(super) stream: Transport<S>,
    /// The number of the connection within the node, from its accept on.
    pub(super) connection: u64,
    /// Of the socket: the peer's own, or a proxy's.
    pub(super) socket_address: IpAddr,
    /// The real peer, once known; counted from then on.
    pub(super) address: Option<IpAddr>,
    /// Whether its end is held against its address.
    pub(super) failed: bool,
    /// Whether the acceptor's poll knows the socket.
    pub(super) watched: bool,
    pub(super) phase: Phase,
}

impl<S: Socket> Handshake<S> {
    /// The peer's address for the log.
    pub(super) fn shown_address(&self) -> String {
        self.address.map_or("unknown".into(), |address| address.to_string())
    }

    /// Whether the peer is still to send its request, or a part of it.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self.phase, Phase::Proxy { .. } | Phase::Hello { .. } | Phase::Head { .. })
    }

    /// Whether not a byte has come.
    pub(super) fn is_silent(&self) -> bool {
        match &self.phase {
            Phase::Proxy { bytes } | Phase::Hello { bytes } => bytes.is_empty(),
            Phase::Head { bytes, .. } => bytes.is_empty() && !self.stream.is_secure(),
            Phase::Ticket { .. } | Phase::Refused(_) => false,
        }
    }

    /// Has the poll tell as `key` when the peer goes on; also of what is there already, if it knows the socket.
    pub(super) fn watch(&mut self, registry: &Registry, key: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match std::mem::replace(&mut self.watched, true) {
            true => registry.reregister(&mut self.stream, Token(key), interest),
            false => registry.register(&mut self.stream, Token(key), interest),
        }
    }

    /// Whether the peer asks for an answer without a body.
    pub(super) fn wants_no_body(&self) -> bool {
        matches!(&self.phase, Phase::Head { bytes, .. } if is_head_request(bytes))
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
    /// Reading the request head, of which `seen` bytes are not its end.
    Head { bytes: Vec<u8>, seen: usize },
    /// Waiting for the ticket; what follows the head waits unread in `leftover` and the socket.
    Ticket { response: String, claim: Option<Box<Claim>>, leftover: Vec<u8> },
    /// Turned away; waiting for the peer to read why.
    Refused(Refusing),
}
