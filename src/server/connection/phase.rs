//! How far the life of a connection is. A part of `connection`.

use super::ticks::Ticks;
use crate::server::reasons::CloseReason;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Delivers and reads.
    Open,
    /// The close frame is queued.
    Closing { reason: CloseReason, until: Ticks, end: End },
    /// Nothing more can be done.
    Gone { reason: CloseReason },
}

/// How far a close is (RFC 6455, section 7.1.1: TCP ends when both close frames are there).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer's close frame is to come; until then its bytes are checked on.
    Awaited,
    /// It is there, or nothing that can be read any more; input is dropped.
    Answered,
    /// Our side of TCP is closed.
    Shut,
}

impl Phase {
    /// Whether what comes from the peer is looked at.
    pub(super) fn reads(self) -> bool {
        matches!(self, Phase::Open | Phase::Closing { end: End::Awaited, .. })
    }

    /// Why the connection ends; `None` while it is open.
    pub(super) fn ending(self) -> Option<CloseReason> {
        match self {
            Phase::Open => None,
            Phase::Closing { reason, .. } | Phase::Gone { reason } => Some(reason),
        }
    }

    /// Why it ended, once nothing more can be done with it.
    pub(super) fn gone(self) -> Option<CloseReason> {
        match self {
            Phase::Gone { reason } => Some(reason),
            _ => None,
        }
    }
}
