//! Where a client is in what its node hands on: the positions of `imcore.1`.
//!
//! Pure. A position is as opaque to clients as its text: `epoch.number`, with `.sub` behind it for what is in no log. One
//! position is the same for all receivers of a message on a node, so their frames can be shared.

use std::fmt::Write as _;

/// Longest text of a position, and of what clients may send as one.
pub(crate) const POSITION_BYTES: usize = 64;

/// A moment in the order of a node's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// Of the last logged message; without a log, of the message.
    pub(crate) number: u64,
    /// Counts the messages behind it that are in no log.
    pub(crate) sub: u32,
}

impl Position {
    /// That of the next message: logged under `number`, or in no log.
    pub(crate) fn next(self, number: Option<u64>) -> Self {
        match number {
            Some(number) => Position { number, sub: 0 },
            None => Position { sub: self.sub.saturating_add(1), ..self },
        }
    }

    /// Adds its text.
    pub(crate) fn push(self, epoch: &str, out: &mut String) {
        let Position { number, sub } = self;
        let _ = match sub {
            0 => write!(out, "{epoch}.{number}"),
            _ => write!(out, "{epoch}.{number}.{sub}"),
        };
    }

    /// The epoch and the position that a text says; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<(&str, Self)> {
        if text.len() > POSITION_BYTES {
            return None;
        }
        let (epoch, rest) = text.split_once('.')?;
        let (number, sub) = match rest.split_once('.') {
            Some((number, sub)) => (number, digits(sub)?),
            None => (rest, 0),
        };
        Some((epoch, Position { number: digits(number)?, sub: sub.try_into().ok()? }))
    }
}

/// A number as `push` writes it, and in no other form.
fn digits(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain)?;
    (number == 0 || !text.starts_with('0')).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for (number, sub) in [(0, 0), (7, 0), (7, 3), (u64::MAX, u32::MAX)] {
            let (position, mut text) = (Position { number, sub }, String::new());
            position.push("k3", &mut text);
            assert_eq!(Position::parse(&text), Some(("k3", position)), "{text}");
        }
        let long = format!("k.{}", "1".repeat(80));
        for text in ["", "k3", "k3.", "k3.x", "k3.+1", "k3.01", "k3.1.", "k3.1.2.3", "k3.-1", &long]
        {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }

    #[test]
    fn positions_rise_from_message_to_message() {
        let first = Position { number: 5, sub: 0 };
        let second = first.next(None);
        let third = second.next(None);
        let fourth = third.next(Some(6));
        assert!(first < second && second < third && third < fourth);
    }
}
