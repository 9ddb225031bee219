//! The barrier: what waits in front of a channel message until the memberships before it are known.
//!
//! Pure; owned by one feed, which says what a barrier is for and opens it.

use std::collections::VecDeque;

use crate::{broker::contract::FeedEvent, wire::Envelope};

/// Messages that wait, in the order in which they were heard.
///
/// Bounded by what Redis buffers for a subscriber, since the probe that lets them pass stands in the same
/// stream.
#[derive(Default)]
pub(super) struct Barrier {
    /// A channel message, and all that came behind it.
    waiting: VecDeque<(Envelope, Option<u64>)>,
}

impl Barrier {
    /// Gives a message back that need not wait; keeps it otherwise.
    pub(super) fn admit(&mut self, envelope: Envelope, number: Option<u64>) -> Option<FeedEvent> {
        if self.waiting.is_empty() && !depends_on_channels(&envelope) {
            return Some(FeedEvent::Message { envelope, number });
        }
        self.waiting.push_back((envelope, number));
        None
    }

    /// The first number of the log among those that wait.
    pub(super) fn first_number(&self) -> Option<u64> {
        self.waiting.iter().find_map(|(_, number)| *number)
    }

    /// The channels of those that wait, one as often as it has messages.
    pub(super) fn channels(&self) -> impl Iterator<Item = &str> {
        self.waiting.iter().filter_map(|(envelope, _)| match envelope {
            Envelope::Channel { channel, .. } => channel.as_deref(),
            _ => None,
        })
    }

    /// How many messages wait: a probe that is sent now covers all of them.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no message waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets the first `covered` pass, and those behind them up to the next channel message.
    pub(super) fn open(&mut self, covered: usize) -> impl Iterator<Item = FeedEvent> {
        let behind = self.waiting.iter().skip(covered);
        let free = behind.take_while(|(envelope, _)| !depends_on_channels(envelope)).count();
        let open = self.waiting.drain(..covered + free);
        open.map(|(envelope, number)| FeedEvent::Message { envelope, number })
    }
}

/// Only messages whose receivers follow from channels depend on joins and leaves before them.
pub(super) fn depends_on_channels(envelope: &Envelope) -> bool {
    matches!(envelope, Envelope::Channel { channel: Some(_), .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message to channel `name`; to everybody for an empty name.
    fn message(name: &str) -> Envelope {
        let channel = (!name.is_empty()).then(|| name.to_owned());
        Envelope::Channel { sender: 0.into(), channel, content: String::new(), trace: None }
    }

    fn told(name: &str) -> FeedEvent {
        FeedEvent::Message { envelope: message(name), number: None }
    }

    #[test]
    fn only_what_comes_behind_a_channel_message_waits() {
        let mut barrier = Barrier::default();
        assert_eq!(barrier.admit(message(""), None), Some(told("")));
        assert_eq!(barrier.admit(message("a"), None), None);
        assert_eq!(barrier.admit(message(""), None), None, "order is kept");
        assert_eq!(barrier.len(), 2);
    }

    #[test]
    fn what_was_heard_after_the_probe_waits_for_the_next() {
        let mut barrier = Barrier::default();
        for name in ["a", "", "b", "", "c"] {
            barrier.admit(message(name), None);
        }
        assert_eq!(barrier.open(1).collect::<Vec<_>>(), [told("a"), told("")]);
        assert_eq!(barrier.open(0).count(), 0, "nothing of b is known yet");
        assert_eq!(barrier.open(1).collect::<Vec<_>>(), [told("b"), told("")]);
        assert_eq!(barrier.open(1).collect::<Vec<_>>(), [told("c")]);
        assert_eq!(barrier.admit(message(""), None), Some(told("")));
    }
}
