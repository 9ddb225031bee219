//! One connection to Redis: commands out, replies in, each wait within a deadline.
//!
//! Made by the connector; used by the pool, the feed and the subscriptions. The client library's own
//! connection takes an interrupted system call for a broken connection, and waits anew for each reply.
//! Here an interruption is never an error: a process that is stopped and continued, traced or frozen
//! finds its connections as it left them. After any error but a wait that ran out in
//! [`Link::receive`], a link must not be used again.

use std::{
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Cmd, Parser, RedisResult, Value, io::tcp::socket2::SockRef};

use super::{cluster::Master, dialect, error, moving};

/// The finest step of a wait: what Redis answers at once is read without setting the timer again.
const GRAIN: Duration = Duration::from_millis(50);

/// The shortest wait there is.
const LOOK: Duration = Duration::from_millis(1);

/// The socket below.
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

/// A socket whose reads and writes wait until a deadline and survive interruptions.
pub(crate) struct Wire {
    socket: Socket,
    deadline: Instant,
    /// What the system was told last.
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Wire {
    pub(crate) fn new(socket: Socket, deadline: Instant) -> Self {
        Wire { socket, deadline, read_timeout: Duration::ZERO, write_timeout: Duration::ZERO }
    }

    /// How long the next system call may wait, and whether it is the last: after the deadline there is one
    /// more look. A process that was stopped for longer finds what has come meanwhile.
    fn wait(&self, finest: Duration) -> (Duration, bool) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let steps = left.as_nanos().div_ceil(finest.as_nanos()).clamp(1, u32::MAX.into()) as u32;
        if left.is_zero() { (LOOK, true) } else { (finest * steps, false) }
    }

    fn prepare_read(&mut self) -> io::Result<bool> {
        // A short wait is one for a message, whose length the caller has a reason for.
        let short =
            self.deadline.saturating_duration_since(Instant::now()) < Duration::from_secs(1);
        let (wait, last) = self.wait(if short { LOOK } else { GRAIN });
        if wait != self.read_timeout {
            match &self.socket {
                Socket::Tcp(socket) => socket.set_read_timeout(Some(wait))?,
                #[cfg(unix)]
                Socket::Unix(socket) => socket.set_read_timeout(Some(wait))?,
            }
            self.read_timeout = wait;
        }
        Ok(last)
    }

    fn prepare_write(&mut self) -> io::Result<bool> {
        let (wait, last) = self.wait(GRAIN);
        if wait != self.write_timeout {
            match &self.socket {
                Socket::Tcp(socket) => socket.set_write_timeout(Some(wait))?,
                #[cfg(unix)]
                Socket::Unix(socket) => socket.set_write_timeout(Some(wait))?,
            }
            self.write_timeout = wait;
        }
        Ok(last)
    }

    /// Whether the peer has neither closed the connection nor said anything unasked.
    fn is_quiet(&self) -> bool {
        let socket = match &self.socket {
            Socket::Tcp(socket) => SockRef::from(socket),
            #[cfg(unix)]
            Socket::Unix(socket) => SockRef::from(socket),
        };
        let mut byte = [MaybeUninit::uninit()];
        let seen = socket.set_nonblocking(true).and_then(|()| socket.peek(&mut byte));
        let quiet = matches!(seen, Err(error) if is_passing(&error));
        quiet && socket.set_nonblocking(false).is_ok()
    }
}

/// Neither data nor an end: nothing yet, or interrupted.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let last = self.prepare_read()?;
            let read = match &mut self.socket {
                Socket::Tcp(socket) => socket.read(buffer),
                #[cfg(unix)]
                Socket::Unix(socket) => socket.read(buffer),
            };
            match read {
                Err(error) if is_passing(&error) && !last => {}
                Err(error) if is_passing(&error) => return Err(io::ErrorKind::TimedOut.into()),
                read => return read,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let last = self.prepare_write()?;
            let written = match &mut self.socket {
                Socket::Tcp(socket) => socket.write(bytes),
                #[cfg(unix)]
                Socket::Unix(socket) => socket.write(bytes),
            };
            match written {
                Err(error) if is_passing(&error) && !last => {}
                Err(error) if is_passing(&error) => return Err(io::ErrorKind::TimedOut.into()),
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The wire, or TLS over it.
pub(crate) enum Stream {
    Plain(Wire),
    #[cfg(feature = "tls")]
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, Wire>>),
}

impl Stream {
    fn wire(&mut self) -> &mut Wire {
        match self {
            Stream::Plain(wire) => wire,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => &mut stream.sock,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(wire) => wire.write_all(bytes),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

pub(crate) struct Link {
    stream: Stream,
    parser: Parser,
    /// Which of several servers that were the primary one after the other it leads to.
    pub(crate) term: u64,
    /// Whom it leads to in a cluster.
    pub(super) master: Option<Arc<Master>>,
    /// Whether what it watches may be what a transaction is about.
    pub(super) watches: bool,
}

impl Link {
    pub(crate) fn new(stream: Stream) -> Self {
        Link { stream, parser: Parser::new(), term: 0, master: None, watches: false }
    }

    /// Sends packed commands at once and reads `count` replies, errors of Redis among them.
    ///
    /// Stops at the first failure to read: a Redis that stalls costs one wait, not one per command. In a cluster, waits as well
    /// while a slot moves.
    pub(crate) fn exchange(
        &mut self,
        packed: &[u8],
        count: usize,
        deadline: Instant,
    ) -> RedisResult<Vec<Value>> {
        let replies = self.say(packed, count, deadline)?;
        let Some(master) = self.master.clone() else { return Ok(replies) };
        match dialect::name(packed) {
            b"WATCH" => self.watches = true,
            b"MULTI" => {}
            _ => self.watches = false,
        }
        let replies = moving::wait_out(self, packed, replies, deadline)?;
        if let Some(Value::ServerError(error)) = replies.iter().find(|reply| error::is_moved(reply))
        {
            master.has_moved(&error.clone().into());
        }
        Ok(replies)
    }

    /// Sends packed commands at once and reads `count` replies, whatever they are.
    pub(super) fn say(
        &mut self,
        packed: &[u8],
        count: usize,
        deadline: Instant,
    ) -> RedisResult<Vec<Value>> {
        self.send(packed, deadline)?;
        (0..count).map(|_| self.read()).collect()
    }

    /// One command and its reply, which may be an error of Redis.
    pub(crate) fn ask(&mut self, command: &Cmd, deadline: Instant) -> RedisResult<Value> {
        let mut replies = self.exchange(&command.get_packed_command(), 1, deadline)?;
        Ok(replies.pop().unwrap_or(Value::Nil))
    }

    /// Sends packed commands whose replies are to be [received](Self::receive).
    pub(crate) fn send(&mut self, packed: &[u8], deadline: Instant) -> RedisResult<()> {
        self.stream.wire().deadline = deadline;
        let said = self.master.as_ref().map(|master| dialect::said(packed, &master.key));
        Ok(self.stream.write_all(said.as_deref().unwrap_or(packed))?)
    }

    /// The bytes that come next, put into `room`; `None` if there are none by the deadline. For who reads replies by
    /// itself, and from then on all of them.
    pub(crate) fn receive(
        &mut self,
        room: &mut [u8],
        deadline: Instant,
    ) -> RedisResult<Option<usize>> {
        self.stream.wire().deadline = deadline;
        let read = match &mut self.stream {
            Stream::Plain(wire) => wire.read(room),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.read(room),
        };
        match read {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&mut self) -> RedisResult<Value> {
        match &mut self.stream {
            Stream::Plain(wire) => self.parser.parse_value(wire),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => self.parser.parse_value(&mut **stream),
        }
    }

    /// Whether the connection, from which nothing is expected, is as it was left.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.stream.wire().is_quiet()
    }
}
