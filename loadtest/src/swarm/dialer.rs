//! Opens connections: as fast as a window allows, or one at each scheduled moment.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mio::{Interest, Registry, Token, Waker, net::TcpStream};
use socket2::{Domain, Protocol, Type};

use super::{
    socket::Socket,
    stream::Stream,
    tally::Tally,
    tickets::{Invitation, Tickets, Way},
};
use crate::{
    clock,
    orders::{Deployment, Dial},
};

/// Tickets that may wait for their connect: more could expire before their turn.
const TICKETS_AHEAD: usize = 20_000;
/// Connections per source address, well below the number of ports that the kernel hands out.
const PER_SOURCE: usize = 10_000;

pub struct Dialer {
    tickets: Option<Tickets>,
    current: Option<Current>,
    waiting: VecDeque<Dial>,
    ready: VecDeque<Invitation>,
    under_way: usize,
    dialled: usize,
    failure: Option<String>,
}

/// The order that is being carried out.
struct Current {
    dial: Dial,
    started: Option<u64>,
    done: usize,
}

impl Dialer {
    pub fn new(deployment: Option<Deployment>, waker: Arc<Waker>) -> Self {
        Dialer {
            tickets: deployment.map(|deployment| Tickets::start(deployment, TICKETS_AHEAD, waker)),
            current: None,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            under_way: 0,
            dialled: 0,
            failure: None,
        }
    }

    /// Queues an order; orders are carried out one after the other.
    pub fn begin(&mut self, dial: Dial) {
        self.waiting.push_back(dial);
    }

    pub fn failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// A connection that was under way is open or has failed.
    pub fn settled(&mut self) {
        self.under_way -= 1;
    }

    pub fn prepared(&self) -> usize {
        self.ready.len()
    }

    /// When the next scheduled connect is due; none when something else must happen first.
    pub fn next_due(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        if self.ready.is_empty() && current.dial.floor.is_none() {
            return None;
        }
        current.due()
    }

    /// Opens what is due and allowed now.
    pub fn dial(
        &mut self,
        sockets: &mut Vec<Socket>,
        registry: &Registry,
        tally: &mut Tally,
    ) -> io::Result<()> {
        self.fetch_tickets(tally);
        if self.current.as_ref().is_none_or(|current| current.done == current.dial.count) {
            self.next_order();
        }
        let now = clock::now();
        while let Some(current) = &mut self.current {
            let Dial { count, window, prepared, .. } = current.dial;
            let missing_tickets = current.dial.floor.is_none()
                && (self.ready.is_empty()
                    || prepared && current.started.is_none() && self.ready.len() < count);
            if current.done == count || self.under_way >= window || missing_tickets {
                break;
            }
            current.started.get_or_insert(now);
            let due = match current.due() {
                Some(due) if due > now => break,
                Some(due) => due,
                // At full speed the connect itself is what is timed.
                None => clock::now(),
            };
            let invitation = match &current.dial.floor {
                Some(floor) => floor_invitation(floor, current.dial.first + current.done as i64)?,
                None => self.ready.pop_front().expect("checked above"),
            };
            current.done += 1;
            self.open(invitation, due, sockets, registry, tally)?;
        }
        Ok(())
    }

    fn next_order(&mut self) {
        self.current = self.waiting.pop_front().map(|dial| {
            if let (None, Some(tickets)) = (&dial.floor, &self.tickets) {
                tickets.want(dial.first..dial.first + dial.count as i64);
            }
            Current { dial, started: None, done: 0 }
        });
    }

    fn fetch_tickets(&mut self, tally: &mut Tally) {
        let Some(tickets) = &self.tickets else { return };
        while let Ok(issued) = tickets.issued.try_recv() {
            match issued {
                Ok(invitation) => self.ready.push_back(invitation),
                Err(error) => self.failure = Some(format!("issuing tickets: {error}")),
            }
            tally.changes += 1;
        }
    }

    fn open(
        &mut self,
        invitation: Invitation,
        due: u64,
        sockets: &mut Vec<Socket>,
        registry: &Registry,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let Invitation { client, way: Way { address, request, tls } } = invitation;
        let connected =
            self.connect(address).and_then(|tcp| Stream::new(tcp, tls).map_err(io::Error::other));
        let mut stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                tally.refuse(format!("connect: {}", error.kind()));
                return Ok(());
            }
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(stream.tcp_mut(), Token(sockets.len()), interest)?;
        sockets.push(Socket::new(stream, client, request, due));
        self.under_way += 1;
        self.dialled += 1;
        Ok(())
    }

    /// Starts a connect, from an address of our own on the loopback network so that ports never run out.
    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        if matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            // Ports are handed out per address; those of an earlier process may still linger.
            let [_, _, high, low] = std::process::id().to_be_bytes();
            let host = (self.dialled / PER_SOURCE % 250) as u8;
            let source = Ipv4Addr::new(127, 16 + high % 128, low, 1 + host);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&address.into()) {
            Err(error)
                if error.raw_os_error() != Some(libc::EINPROGRESS)
                    && error.kind() != io::ErrorKind::WouldBlock =>
            {
                Err(error)
            }
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }
}

impl Current {
    fn due(&self) -> Option<u64> {
        if self.done == self.dial.count {
            return None;
        }
        let step = 1e9 / self.dial.rate?;
        Some(self.started.unwrap_or_else(clock::now) + (self.done as f64 * step) as u64)
    }
}

/// The floor knows no handshake: the client's number, and it writes.
fn floor_invitation(floor: &str, client: i64) -> io::Result<Invitation> {
    let address = floor.parse().map_err(|_| io::Error::other(format!("{floor}: no address")))?;
    let way = Way { address, request: client.to_le_bytes().to_vec(), tls: None };
    Ok(Invitation { client, way })
}
