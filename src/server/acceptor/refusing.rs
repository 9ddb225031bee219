//! The last of a handshake that is turned away: its answer, until the peer has read it.
//!
//! Part of a `Handshake`; the acceptor decides who is refused and how long this may take.

use std::io;

use crate::server::transport::Socket;

/// Reads per turn of what a refused peer still sends: it has had its answer, and is to cost little.
const READS_PER_TURN: usize = 16;

/// An answer on its way out. Closing with unread input would reset the connection and take the answer with it.
#[derive(Debug)]
pub(super) struct Refusing {
    response: String,
    written: usize,
    /// Our side has ended.
    ended: bool,
}

impl Refusing {
    pub(super) fn new(response: String) -> Self {
        Refusing { response, written: 0, ended: false }
    }

    /// Writes what is left and ends our side, then reads until the peer has ended its own.
    ///
    /// # Errors
    /// `WouldBlock` as long as there is something to wait for; any other means that the peer is gone.
    pub(super) fn go_on(&mut self, stream: &mut impl Socket) -> io::Result<()> {
        while !self.ended {
            match self.write(stream) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
        }
        let mut chunk = [0; 4096];
        for _ in 0..READS_PER_TURN {
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Writes some, or ends our side after all of it.
    fn write(&mut self, stream: &mut impl Socket) -> io::Result<()> {
        match &self.response.as_bytes()[self.written..] {
            [] => {
                stream.shutdown_write()?;
                self.ended = true;
            }
            rest => self.written += stream.write(rest)?,
        }
        Ok(())
    }
}
