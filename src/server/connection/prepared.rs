//! One message as connections get it: finished bytes for each form that clients speak, shared by all who get it.
//!
//! Made once, by the feed, for all reactors; each connection takes the frame of its own dialect. The plain frame holds
//! the message itself, so another dialect is made from it when the first connection that speaks it is met.

use super::frame::Frame;

/// The form in which a connection takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A text message as the sender wrote it: what the original sends.
    Plain,
}

#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    plain: Frame,
}

impl Prepared {
    /// A text message.
    pub(crate) fn text(content: &str) -> Self {
        Prepared { plain: Frame::text(content) }
    }

    /// Its bytes for a connection of `dialect`.
    pub(crate) fn frame(&self, dialect: Dialect) -> &Frame {
        match dialect {
            Dialect::Plain => &self.plain,
        }
    }
}
