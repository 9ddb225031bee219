//! What carries the bytes of one peer: a TCP socket, bare or under TLS.
//!
//! Acceptor and connections name only what is here; which of the two it is changes nothing in what they do.

#[cfg(feature = "tls")]
pub(super) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub(super) mod tls;

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
};

use mio::{Interest, Registry, Token, event::Source, net::TcpStream};

use tls::{Tls, TlsSession};

/// What a connection reads and writes: a [`Transport`], or a simulated socket.
///
/// Reads and writes never block. A socket that returned `WouldBlock` from `write` must be offered the same
/// bytes again, and more may follow them: it may have [begun](Socket::begun) with them. An error of kind
/// `InvalidData` says that the peer broke the transport's rules, `Other` that this side is at fault.
pub(crate) trait Socket: Read + Write + Source {
    /// Ends our side; what was written before still arrives. To be called again after `WouldBlock`, when
    /// the socket can be written to.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Bytes at the start of what was offered to `write` last that it cannot give back any more, though it
    /// has not counted them.
    fn begun(&self) -> usize {
        0
    }

    /// Bytes that came from the network since this was last asked; a reader was given `read` of them.
    fn take_received(&mut self, read: usize) -> usize {
        read
    }

    /// Bytes of its own making that wait to be flushed.
    fn unsent(&self) -> usize {
        0
    }

    /// Whether there may be more to read although the last read did not fill its buffer and no event will
    /// tell.
    fn has_unread(&self) -> bool {
        false
    }
}

impl Socket for TcpStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// The socket of one peer.
#[derive(Debug)]
pub(crate) struct Transport<S = TcpStream> {
    socket: S,
    tls: Option<Box<TlsSession>>,
}

impl<S: Socket> Transport<S> {
    /// Bare, for a start.
    pub(crate) fn new(socket: S) -> Self {
        Transport { socket, tls: None }
    }

    /// Puts TLS between the socket and what is read and written from here on; `early` came from the socket
    /// before.
    ///
    /// # Errors
    /// Those of [`read`](std::io::Read::read) on a socket with TLS.
    pub(crate) fn secure(&mut self, tls: &Tls, early: Vec<u8>) -> io::Result<()> {
        let session = self.tls.insert(Box::new(tls.session(early)?));
        session.process(&mut self.socket)
    }

    /// Takes TLS away again after it failed: says what there is to say, and no more will come. What the peer
    /// still sends can be read, as nothing of use, so that the last word is not lost with it.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn give_up_tls(&mut self) -> io::Result<()> {
        if let Some(mut session) = self.tls.take() {
            session.push_out(&mut self.socket)?;
        }
        self.socket.shutdown_write()
    }

    /// Whether there is TLS, agreed on or not.
    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether TLS is still to be agreed on with the peer, so that it cannot be told anything.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_handshaking())
    }
}

impl<S: Socket> Socket for Transport<S> {
    fn shutdown_write(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            session.close(&mut self.socket)?;
        }
        self.socket.shutdown_write()
    }

    fn begun(&self) -> usize {
        self.tls.as_ref().map_or(0, |session| session.begun())
    }

    fn take_received(&mut self, read: usize) -> usize {
        self.tls.as_mut().map_or(read, |session| session.take_received())
    }

    fn unsent(&self) -> usize {
        self.tls.as_ref().map_or(0, |session| session.unsent())
    }

    fn has_unread(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.has_unread())
    }
}

impl<S: Socket> Read for Transport<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(session) => session.read(&mut self.socket, buffer),
        }
    }
}

impl<S: Socket> Write for Transport<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(session) => session.write(&mut self.socket, &[IoSlice::new(bytes)]),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write_vectored(slices),
            Some(session) => session.write(&mut self.socket, slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(session) => session.push_out(&mut self.socket),
        }
    }
}

impl<S: Source> Source for Transport<S> {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

/// For the sockets of tests: no poll watches them, whoever drives them knows what is ready.
#[cfg(test)]
macro_rules! unwatched {
    ($socket:ty) => {
        impl mio::event::Source for $socket {
            fn register(
                &mut self,
                _: &mio::Registry,
                _: mio::Token,
                _: mio::Interest,
            ) -> std::io::Result<()> {
                Ok(())
            }

            fn reregister(
                &mut self,
                _: &mio::Registry,
                _: mio::Token,
                _: mio::Interest,
            ) -> std::io::Result<()> {
                Ok(())
            }

            fn deregister(&mut self, _: &mio::Registry) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

#[cfg(test)]
pub(crate) use unwatched;
