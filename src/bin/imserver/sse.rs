//! Server-sent events: whether whoever listens still may, and what keeps the connection alive.
//!
//! Used by the streams of the API and of the admin listener, on the thread of the listener's connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::web::{Access, Body, Request, Response};

/// Something is sent at least this often, so that both sides and proxies see that the other is there.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a stream looks whether it should end.
pub(crate) const LOOK: Duration = Duration::from_millis(500);
/// Pause between attempts while the broker is away.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Listener {
    access: Arc<Access>,
    /// Of the rules by which the caller was let in.
    version: u64,
    request: Request,
    /// When something was sent last.
    last: Instant,
}

impl Listener {
    pub(crate) fn new(access: &Arc<Access>, request: &Request) -> Self {
        Listener {
            version: access.version(),
            access: Arc::clone(access),
            request: Request { body: Vec::new(), ..request.clone() },
            last: Instant::now(),
        }
    }

    /// What is sent now that this is to be told, if anything: a sign of life, or nothing for now. `None` ends the stream, as the
    /// caller may not ask any more.
    pub(crate) fn send(&mut self, piece: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let version = self.access.version();
        if version != self.version {
            self.access.check(&self.request).ok()?;
            self.version = version;
        }
        let piece = match piece {
            Some(piece) => piece,
            None if self.last.elapsed() >= HEARTBEAT => b":\n\n".to_vec(),
            None => return Some(Vec::new()),
        };
        self.last = Instant::now();
        Some(piece)
    }
}

/// The answer that goes on with these pieces.
pub(crate) fn answer(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Response {
    let body = Body::Stream(Box::new(pieces));
    let response = Response { body, ..Response::new(200, "text/event-stream", "") };
    // nginx would keep every event until it has some thousand bytes of them.
    response.with("X-Accel-Buffering", "no")
}
