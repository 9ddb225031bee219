//! HTTP/1.1 for the listeners of this program that are not the clients' own: the admin listener and the
//! API, which give it a [`Site`] each.
//!
//! Knows nothing of what is asked there, and of imcore nothing but how heads are read: neither nodes nor brokers.
//! One thread accepts, each connection has a small one of its own. Whatever a peer does costs the node
//! no more than that: there are few connections at a time, everything they send is bounded in size and
//! time, and one that waits gives way to a newcomer. A server crate that was tried for this reads heads
//! without a time-out and without a bound on their length.
//!
//! Reading order: [`message`] (what is asked and answered), `head` and `body` (bytes to requests, pure),
//! `http1` (one connection), `connections` (all that are open), here (the listener); `access` is for
//! sites, with `origin`.

mod access;
mod body;
mod connections;
#[cfg(test)]
pub(crate) mod fuzzing;
mod head;
mod http1;
mod message;
mod origin;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use imcore::{Error, ErrorKind};
use socket2::SockRef;

use connections::Connections;
use http1::Http1Connection;

pub(crate) use access::{Access, CHALLENGE, Secret};
pub(crate) use message::{Body, Request, Response};

/// Enough for a request and its answer, which live on the heap, and for deeply nested JSON.
const STACK: usize = 512 << 10;
/// Pause after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener answers. Called by the threads of its connections, by several at a time.
pub(crate) trait Site: Send + Sync + 'static {
    fn limits(&self) -> Limits;

    /// Looks at a request before its body is read, which is empty here. `Err` is the answer instead of
    /// [`answer`](Site::answer), so that the bodies of callers who may not ask take no memory.
    fn admit(&self, _request: &Request) -> Result<(), Response> {
        Ok(())
    }

    /// The answer to a request that was admitted and is whole.
    fn answer(&self, request: &Request) -> Response;

    /// The answer to what is no request that can be taken, in the form of this site's mistakes.
    fn refusal(&self, status: u16, why: &str) -> Response {
        Response::line(status, why)
    }
}

/// How much a peer may take of a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Bytes of a request's head.
    pub(crate) head: usize,
    /// Bytes of a request's body.
    pub(crate) body: usize,
    /// Time for a request to arrive, from its first byte to its last; for the first one from the
    /// beginning of the connection.
    pub(crate) request: Duration,
    /// Time for an answer to leave; for a stream, each piece of it.
    pub(crate) answer: Duration,
    /// How long a connection is kept for another request. Zero: it ends with the first answer.
    pub(crate) idle: Duration,
}

/// A bound address at which nothing is answered yet.
pub(crate) struct Listener {
    /// The setting that the address is from; also the name of the threads.
    name: &'static str,
    socket: TcpListener,
}

impl Listener {
    /// Binds the address that the setting called `name` has.
    pub(crate) fn bind(name: &'static str, address: SocketAddr) -> Result<Listener, Error> {
        let socket = TcpListener::bind(address).map_err(|error| {
            let advice = imcore::server::bind_advice(address, &error);
            Error::new(ErrorKind::Io, format!("cannot listen on {address}; {advice}"))
                .with_setting(name)
                .with_source(error)
        })?;
        Ok(Listener { name, socket })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers for `site` until it is closed.
    pub(crate) fn serve(self, site: Arc<impl Site>) -> Result<Serving, Error> {
        let name = self.name;
        let connections = Connections::new(site.limits().connections);
        let socket = Arc::new(self.socket);
        let serving =
            Serving { socket: Arc::clone(&socket), connections: Arc::clone(&connections) };
        let accept = move || {
            while !connections.is_closed() {
                match socket.accept() {
                    Ok((stream, _)) => start_connection(name, stream, &connections, &site),
                    Err(error) if !connections.is_closed() => {
                        log::debug!("{name}: cannot accept: {error}");
                        thread::sleep(ACCEPT_PAUSE);
                    }
                    Err(_) => {}
                }
            }
        };
        let thread = thread::Builder::new().name(name.into()).stack_size(STACK).spawn(accept);
        match thread {
            Ok(_) => Ok(serving),
            Err(error) => {
                Err(Error::new(ErrorKind::Io, format!("{name}: cannot start the listener"))
                    .with_source(error))
            }
        }
    }
}

/// A listener that answers. It goes on when this is dropped.
pub(crate) struct Serving {
    socket: Arc<TcpListener>,
    connections: Arc<Connections>,
}

impl Serving {
    /// Takes no more connections and no more requests; those that have begun go on.
    pub(crate) fn close(&self) {
        self.connections.close();
        // Ends the waiting for another connection, and with it the listening.
        let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
    }

    /// Waits until what has begun is answered, at most until `deadline`. How many requests are left.
    pub(crate) fn finish(&self, deadline: Instant) -> usize {
        self.connections.finish(deadline)
    }
}

/// Gives a new connection its thread.
fn start_connection(
    name: &'static str,
    stream: TcpStream,
    connections: &Arc<Connections>,
    site: &Arc<impl Site>,
) {
    let stream = Arc::new(stream);
    let Some(slot) = connections.admit(&stream) else {
        return turn_away(&stream, &**site);
    };
    let site = Arc::clone(site);
    let run = move || {
        // Answers are written in one piece each: nothing is gained by holding back the end of one.
        let _ = stream.set_nodelay(true);
        if let Err(error) = Http1Connection::new(&stream, &*site, &slot).run() {
            log::trace!("{name}: a connection was given up: {error}");
        }
    };
    let thread = thread::Builder::new().name(format!("{name}-peer")).stack_size(STACK);
    if let Err(error) = thread.spawn(run) {
        log::debug!("{name}: cannot start a thread: {error}");
    }
}

/// Tells a newcomer that all others are being answered, if that can be told without waiting.
fn turn_away(stream: &TcpStream, site: &impl Site) {
    let response = site.refusal(503, "all connections are busy; try again");
    let mut bytes = response.head(true);
    if let Body::Whole(body) = &response.body {
        bytes.extend_from_slice(body);
    }
    let _ = stream.set_nonblocking(true);
    let _ = (&*stream).write(&bytes);
    let _ = stream.shutdown(Shutdown::Write);
    // Closed with unread input, the connection would be reset and the answer lost.
    let _ = (&*stream).read(&mut [0; 16 << 10]);
}

#[cfg(test)]
mod tests;
