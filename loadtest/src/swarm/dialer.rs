//! Opens connections: as fast as a window allows, or one at each scheduled moment.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Protocol, Type};

use super::{
    client::Client,
    pause::End,
    socket::Socket,
    stream::Stream,
    tickets::{Invitation, Tickets, Want, Way},
};
use crate::{
    clock,
    orders::{Dial, Reconnect},
};

/// Connections per source address, well below the number of ports that the kernel hands out.
const PER_SOURCE: usize = 10_000;

/// Carries out the orders to dial, and opens the connections of those who come back.
#[derive(Default)]
pub struct Dialer {
    current: Option<Current>,
    waiting: VecDeque<Dial>,
    ready: VecDeque<Invitation>,
    under_way: usize,
    dialled: usize,
}

/// The order that is being carried out.
struct Current {
    dial: Dial,
    started: Option<u64>,
    done: usize,
}

impl Dialer {
    /// Queues an order; orders are carried out one after the other.
    pub fn begin(&mut self, dial: Dial) {
        self.waiting.push_back(dial);
    }

    /// A ticket for the order that is being carried out.
    pub fn invite(&mut self, invitation: Invitation) {
        self.ready.push_back(invitation);
    }

    /// An attempt that was under way is open or has failed.
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

    /// Opens what is due and allowed now, each as a new client; which of them failed at once, and how.
    pub fn dial(
        &mut self,
        tickets: Option<&Tickets>,
        clients: &mut Vec<Client>,
        registry: &Registry,
    ) -> io::Result<Vec<(usize, End)>> {
        if self.current.as_ref().is_none_or(|current| current.done == current.dial.count) {
            self.next_order(tickets);
        }
        let mut failed = Vec::new();
        let now = clock::now();
        while let Some(current) = &mut self.current {
            let Dial { count, window, prepared, reconnect, again, .. } = current.dial;
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
            self.under_way += 1;
            let key = match again {
                // In the order in which they came for the first time.
                true => (invitation.client - clients[0].id) as usize,
                false => {
                    clients.push(Client::new(invitation.client, reconnect));
                    clients.len() - 1
                }
            };
            let way = invitation.way.map(|way| clients[key].asking(way));
            let socket = match way {
                Ok(way) => self.open(way, due, key, registry).map_err(End::from),
                Err(error) if reconnect != Reconnect::Never => {
                    Err(End::of(format!("no address: {error}")))
                }
                Err(error) => return Err(io::Error::other(format!("issuing tickets: {error}"))),
            };
            let socket = socket.map_err(|end| failed.push((key, end))).ok();
            clients[key].dial_by_order(socket);
        }
        Ok(failed)
    }

    fn next_order(&mut self, tickets: Option<&Tickets>) {
        self.current = self.waiting.pop_front().map(|dial| {
            if let (None, Some(tickets)) = (&dial.floor, tickets) {
                tickets.want(Want::First(dial.first..dial.first + dial.count as i64));
            }
            Current { dial, started: None, done: 0 }
        });
    }

    /// Begins a connect whose events come under `key`.
    pub fn open(
        &mut self,
        way: Way,
        due: u64,
        key: usize,
        registry: &Registry,
    ) -> io::Result<Socket> {
        let Way { address, request, tls } = way;
        let tcp = self.connect(address);
        let tcp = tcp.map_err(|error| io::Error::other(format!("connect: {}", error.kind())))?;
        let mut stream = Stream::new(tcp, tls).map_err(io::Error::other)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(stream.tcp_mut(), Token(key), interest)?;
        self.dialled += 1;
        Ok(Socket::new(stream, request, due))
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
    Ok(Invitation { client, way: Ok(way) })
}
