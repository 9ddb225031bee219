//! What a peer says before it is authorised: the proxy's header, the TLS handshake, the request head.
//!
//! Reads one handshake as far as its bytes allow and says what came of it; what follows from that is the acceptor's.

use std::{
    io::{self, Read},
    net::IpAddr,
};

use super::{
    handshake::{Handshake, Phase},
    head::{Rules, Upgrade, read_upgrade},
    real_address::{ProxyHeader, is_proxy_header, proxy_header},
};
use crate::{
    server::{
        config::PeerAddress,
        node::Node,
        reasons::Refusal,
        transport::{Socket, tls::Tls},
    },
    throttle::Throttle,
};

static NO_ADDRESS: Throttle = Throttle::new();

/// What a TLS handshake begins with: the type of its record.
const HELLO: u8 = 0x16;
/// Reads of one socket per turn: under TLS a peer can send much that comes to nothing, such as new keys.
const READS_PER_TURN: usize = 4;

/// How this node's peers begin.
pub(super) struct Reader {
    rules: Rules,
    peer_address: PeerAddress,
    tls: Option<Tls>,
}

/// What came of reading.
#[derive(Debug)]
pub(super) enum Said {
    /// Not enough yet: the peer is to go on.
    TooLittle,
    /// Not enough yet, and there may be more to read at once.
    MoreToCome,
    /// A proxy has said who the peer is, which is to be counted; read on then.
    Address(IpAddr),
    /// A whole request, and the address that it counts for if it says so itself.
    Upgrade { upgrade: Upgrade, address: Option<IpAddr> },
    /// Something that is to be refused.
    Refused(Refusal),
    /// The peer is gone, or broke the rules of its transport.
    Gone(Option<io::Error>),
}

impl Reader {
    pub(super) fn new(node: &Node) -> Self {
        let config = &node.config;
        Reader {
            rules: Rules {
                path: config.path.clone(),
                origins: config.origins.clone(),
                head_bytes: config.limits.head_bytes,
                forwarded: config.peer_address == PeerAddress::ForwardedFor,
            },
            peer_address: config.peer_address,
            tls: node.tls.clone(),
        }
    }

    /// How a handshake begins.
    pub(super) fn first_phase(&self) -> Phase {
        match self.peer_address {
            PeerAddress::ProxyProtocol => Phase::Proxy { bytes: Vec::new() },
            PeerAddress::Socket | PeerAddress::ForwardedFor => self.peers_phase(Vec::new()),
        }
    }

    /// What comes first from the peer itself, of which `bytes` are here.
    fn peers_phase(&self, bytes: Vec<u8>) -> Phase {
        match self.tls {
            Some(_) => Phase::Hello { bytes },
            None => Phase::Head { bytes, seen: 0 },
        }
    }

    /// Reads what there is, up to a bound, and stops at the first thing that somebody has to decide.
    pub(super) fn read<S: Socket>(&self, handshake: &mut Handshake<S>) -> Said {
        let mut chunk = [0; 2048];
        for _ in 0..READS_PER_TURN {
            if let Some(said) = self.understand(handshake) {
                return said;
            }
            let (Phase::Proxy { bytes } | Phase::Hello { bytes } | Phase::Head { bytes, .. }) =
                &mut handshake.phase
            else {
                return Said::TooLittle;
            };
            match handshake.stream.read(&mut chunk) {
                Ok(0) => return Said::Gone(None),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Said::TooLittle,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Said::Gone(Some(error)),
            }
        }
        self.understand(handshake).unwrap_or(Said::MoreToCome)
    }

    /// Goes as far as the bytes read so far allow; `None` if that is not far enough.
    fn understand<S: Socket>(&self, handshake: &mut Handshake<S>) -> Option<Said> {
        match &handshake.phase {
            Phase::Proxy { .. } => self.take_proxy_header(handshake),
            Phase::Hello { .. } => self.begin_tls(handshake),
            Phase::Head { .. } => self.read_head(handshake),
            Phase::Ticket { .. } | Phase::Refused(_) => None,
        }
    }

    /// Takes the proxy's header off once it is whole.
    fn take_proxy_header<S: Socket>(&self, handshake: &mut Handshake<S>) -> Option<Said> {
        let Phase::Proxy { bytes } = &mut handshake.phase else { return None };
        match proxy_header(bytes) {
            ProxyHeader::Incomplete => None,
            ProxyHeader::Missing => Some(Said::Refused(Refusal::NoProxyHeader)),
            ProxyHeader::Version1 => Some(Said::Refused(Refusal::OldProxyHeader)),
            ProxyHeader::Invalid => Some(Said::Refused(Refusal::BadProxyHeader)),
            ProxyHeader::Complete { len, address } => {
                handshake.phase = self.peers_phase(bytes.split_off(len));
                // A proxy that speaks for itself is checking.
                Some(Said::Address(address.unwrap_or(handshake.socket_address)))
            }
        }
    }

    /// Puts TLS before the request head, once the peer begins with it.
    fn begin_tls<S: Socket>(&self, handshake: &mut Handshake<S>) -> Option<Said> {
        let Phase::Hello { bytes } = &mut handshake.phase else { return None };
        match *bytes.first()? {
            HELLO => {
                let early = std::mem::take(bytes);
                handshake.phase = Phase::Head { bytes: Vec::new(), seen: 0 };
                let begun = handshake.stream.secure(self.tls.as_ref()?, early);
                begun.err().map(|error| Said::Gone(Some(error)))
            }
            _ if is_proxy_header(bytes) => Some(Said::Refused(Refusal::UnexpectedProxyHeader)),
            _ => Some(Said::Refused(Refusal::NotTls)),
        }
    }

    fn read_head<S: Socket>(&self, handshake: &mut Handshake<S>) -> Option<Said> {
        let Phase::Head { bytes, seen } = &mut handshake.phase else { return None };
        let read = read_upgrade(bytes, *seen, &self.rules);
        *seen = bytes.len();
        match read {
            Ok(None) => None,
            Err(refusal) => Some(Said::Refused(refusal)),
            Ok(Some(upgrade)) => {
                let address = (self.peer_address == PeerAddress::ForwardedFor)
                    .then(|| forwarded(&upgrade, handshake.socket_address));
                Some(Said::Upgrade { upgrade, address })
            }
        }
    }
}

/// The address that a proxy gives in the head, or the proxy's own if it gives none.
fn forwarded(upgrade: &Upgrade, socket_address: IpAddr) -> IpAddr {
    if upgrade.forwarded.is_none()
        && let Some(more) = NO_ADDRESS.admit("")
    {
        log::warn!(
            "the last entry of X-Forwarded-For is missing or no address; handshakes count for the \
             proxy's own, {socket_address}: have it write the client's address, or set peer_address{more}"
        );
    }
    upgrade.forwarded.unwrap_or(socket_address)
}
