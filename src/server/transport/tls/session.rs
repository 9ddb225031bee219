//! TLS with one peer: bytes in the clear on this side, records on its socket.
//!
//! Runs on the acceptor thread until the ticket is good, on a reactor thread after that. A byte counts as
//! written when the kernel has taken the record that holds it, so that receipts, limits and ages mean the
//! same as on a bare socket. Holds no buffer between two records: an idle connection costs its keys.

use std::{
    borrow::Cow,
    fmt,
    io::{self, IoSlice, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rustls::{
    Error, ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic},
};

use crate::server::reasons::TlsFailure;

/// Clear bytes in one record, the most that TLS allows.
const RECORD: usize = 16 << 10;
/// The most that a record takes on the wire, and so the most that may wait to become a whole one.
const SEALED_RECORD: usize = 5 + RECORD + 2048;
/// More than sealing adds to a record, with room for a key update; guessed short, it costs a second try.
const SEAL: usize = 128;

/// Types of records in the clear.
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

/// What both ends agreed on, and bytes on their way.
pub(crate) struct TlsSession {
    session: UnbufferedServerConnection,
    /// What has come of a record that is not whole.
    incoming: Vec<u8>,
    /// What came in the clear and did not fit the reader's buffer.
    clear: Vec<u8>,
    /// Sealed bytes that the socket has not taken.
    outgoing: Vec<u8>,
    /// Clear bytes in `outgoing` that `write` has not counted yet.
    begun: usize,
    /// Bytes that came from the socket and were not counted yet.
    received: usize,
    /// The last receive left nothing in the socket, as far as one can tell.
    drained: bool,
    /// The peer will send no more.
    ended: bool,
    /// Our last word is sealed.
    closed: bool,
}

impl TlsSession {
    /// The server's side of a handshake, with what has come of it already.
    pub(super) fn new(config: &Arc<ServerConfig>, early: Vec<u8>) -> io::Result<Self> {
        Ok(TlsSession {
            session: UnbufferedServerConnection::new(Arc::clone(config)).map_err(broken)?,
            incoming: early,
            clear: Vec::new(),
            outgoing: Vec::new(),
            begun: 0,
            received: 0,
            drained: false,
            ended: false,
            closed: false,
        })
    }

    /// Whether the handshake is still under way, or failed.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// As on a bare socket. `Interrupted` if what came was no data: a peer that sends much of that gets no
    /// more turns than others.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` if the peer broke the protocol, `Other` if this side is at fault.
    pub(crate) fn read(
        &mut self,
        socket: &mut (impl Read + Write),
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        // Until the handshake is over, nothing else has this done.
        self.push_some_out(socket)?;
        if self.clear.is_empty() && !self.ended {
            self.receive(socket)?;
        }
        match self.clear.len().min(buffer.len()) {
            0 if self.ended => {
                // Nobody may listen any more.
                let _ = self.close(socket);
                Ok(0)
            }
            0 => Err(io::ErrorKind::Interrupted.into()),
            count => {
                buffer[..count].copy_from_slice(&self.clear[..count]);
                discard(&mut self.clear, count);
                Ok(count)
            }
        }
    }

    /// Whether a read may give more although no event tells of it.
    pub(crate) fn has_unread(&self) -> bool {
        !self.clear.is_empty() || self.ended || !self.drained
    }

    /// Writes as much as fits one record. After `WouldBlock` the same bytes must be offered again: they are
    /// sealed already, and count when the socket has taken them.
    ///
    /// # Errors
    /// Those of the socket; `NotConnected` unless the handshake is over.
    pub(crate) fn write(
        &mut self,
        socket: &mut impl Write,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        if self.begun == 0 {
            self.push_out(socket)?;
            let clear = gather(slices);
            self.seal(clear.len() + SEAL, |traffic, place| traffic.encrypt(&clear, place))?;
            self.begun = clear.len();
        }
        self.push_out(socket)?;
        Ok(std::mem::take(&mut self.begun))
    }

    /// Bytes at the start of what was offered last that are sealed and not counted.
    pub(crate) fn begun(&self) -> usize {
        self.begun
    }

    /// Bytes that came from the socket since this was last asked: more than were given to the reader.
    pub(crate) fn take_received(&mut self) -> usize {
        std::mem::take(&mut self.received)
    }

    /// Sealed bytes that wait for the socket.
    pub(crate) fn unsent(&self) -> usize {
        self.outgoing.len()
    }

    /// Has the socket take what is sealed; `WouldBlock` unless it takes all.
    pub(crate) fn push_out(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match socket.write(&self.outgoing) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => discard(&mut self.outgoing, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what the socket takes now of what is to go out; what is left goes out with what comes next.
    fn push_some_out(&mut self, socket: &mut impl Write) -> io::Result<()> {
        match self.push_out(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Says that nothing more will come, once; `WouldBlock` until the socket has taken it.
    pub(crate) fn close(&mut self, socket: &mut impl Write) -> io::Result<()> {
        if !std::mem::replace(&mut self.closed, true) {
            self.seal(SEAL, |traffic, place| traffic.queue_close_notify(place))?;
        }
        self.push_out(socket)
    }

    /// What it means for the handshake that reading ended with `error`, or without one.
    pub(crate) fn failure(error: Option<&io::Error>) -> TlsFailure {
        let Some(error) = error else { return TlsFailure::Left };
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
                TlsFailure::Incompatible
            }
            Some(Error::AlertReceived(_)) => TlsFailure::Rejected,
            Some(_) => TlsFailure::Protocol,
            None if error.kind() == io::ErrorKind::InvalidData => TlsFailure::Protocol,
            None => TlsFailure::Left,
        }
    }

    /// Receives once, and does what can be done with it.
    fn receive(&mut self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        let had = self.incoming.len();
        self.incoming.resize(had + RECORD, 0);
        let result = socket.read(&mut self.incoming[had..]);
        let count = *result.as_ref().unwrap_or(&0);
        self.received += count;
        self.drained = count < RECORD;
        self.ended |= matches!(result, Ok(0));
        self.incoming.truncate(had + count);
        result.and_then(|_| self.process(socket))
    }

    /// Opens the records that are whole, and sends what the protocol answers to them.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub(crate) fn process(&mut self, socket: &mut impl Write) -> io::Result<()> {
        // Peers choose these bytes; a fault in reading them must not cost the others their thread.
        let opened = catch_unwind(AssertUnwindSafe(|| self.open_records()))
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let pushed = self.push_some_out(socket);
        if self.incoming.len() > SEALED_RECORD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        opened.and(pushed)
    }

    fn open_records(&mut self) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            let UnbufferedStatus { discard, state, .. } =
                self.session.process_tls_records(&mut self.incoming[done..]);
            done += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(broken)?;
                        self.clear.extend_from_slice(record.payload);
                        done += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, SEAL, |place| data.encode(place).map_err(missing))?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                // It waits for the peer, or for us.
                Ok(_) => break Ok(()),
                Err(error) => break Err(broken(error)),
            }
        };
        discard(&mut self.incoming, done);
        result.or_else(|error| self.seal_alert().and(Err(error)))
    }

    /// The last word to a peer that broke the protocol: what is wrong, behind all that was to be said before,
    /// such as this side's hello.
    fn seal_alert(&mut self) -> io::Result<()> {
        self.closed = true;
        loop {
            let had = self.outgoing.len();
            match self.session.process_tls_records(&mut self.incoming).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, SEAL, |place| data.encode(place).map_err(missing))?;
                }
                _ => return Ok(()),
            }
            // The alert is the first record that is none of the hello's, in the clear or not. Asking once more
            // would have it read again what it has stumbled over.
            if !matches!(self.outgoing.get(had), Some(&(HANDSHAKE | CHANGE_CIPHER_SPEC))) {
                return Ok(());
            }
        }
    }

    /// Adds to `outgoing` what `fill` seals into a place of `room` bytes.
    fn seal(
        &mut self,
        room: usize,
        mut fill: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        // What waits here is no whole record; this only asks for the state.
        let UnbufferedStatus { state, .. } = self.session.process_tls_records(&mut self.incoming);
        match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                append(&mut self.outgoing, room, |place| fill(&mut traffic, place).map_err(short))
            }
            // The handshake is not over, or the session is.
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession").finish_non_exhaustive()
    }
}

/// Drops the first bytes; a buffer that is empty holds no memory.
fn discard(buffer: &mut Vec<u8>, count: usize) {
    match count == buffer.len() {
        true => *buffer = Vec::new(),
        false => drop(buffer.drain(..count)),
    }
}

/// The first bytes of `slices` in one piece, as many as fit a record.
fn gather<'a>(slices: &'a [IoSlice<'_>]) -> Cow<'a, [u8]> {
    if let [only] = slices {
        return Cow::Borrowed(&only[..only.len().min(RECORD)]);
    }
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let mut bytes = Vec::with_capacity(total.min(RECORD));
    for slice in slices {
        let room = RECORD - bytes.len();
        bytes.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    Cow::Owned(bytes)
}

/// Has `fill` append to `buffer`, with more room if it asks for that.
fn append(
    buffer: &mut Vec<u8>,
    mut room: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> io::Result<()> {
    let had = buffer.len();
    loop {
        buffer.resize(had + room, 0);
        let result = fill(&mut buffer[had..]);
        buffer.truncate(had + result.unwrap_or(0));
        match result {
            Ok(_) => return Ok(()),
            Err(Some(needed)) => room = needed,
            // The keys are used up, which takes millions of records.
            Err(None) => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// The room that is missing to encode.
fn missing(error: EncodeError) -> Option<usize> {
    match error {
        EncodeError::InsufficientSize(short) => Some(short.required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

/// The room that is missing to encrypt.
fn short(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(short) => Some(short.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
