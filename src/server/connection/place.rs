//! Where a reactor is in the order of its node, as its connections tell and judge it.
//!
//! One for all connections of a reactor. Pure.

use std::sync::Arc;

use super::frame::Frame;
use crate::{server::reasons::NotResumed, wire::Position};

/// What may be missing, of which nobody can prove that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hole {
    /// Messages.
    Messages,
    /// Messages, and memberships in channels too.
    Channels,
}

/// How far a reactor is.
#[derive(Debug)]
pub(crate) struct Place {
    /// What the positions belong to.
    pub(crate) epoch: Arc<str>,
    /// Every client here was given all up to this that is for it.
    settled: Position,
    /// The message that is being handed on; not before `settled`.
    newest: Position,
    /// Up to here something may be missing that nobody can prove was not for a client.
    hole: Position,
    /// Up to here clients may have been in channels that they are not in any more; `None`: that never was so.
    forgotten: Option<Position>,
    /// The frame that says `settled`, once somebody needed it.
    shown: Option<Frame>,
}

impl Place {
    pub(crate) fn new(epoch: Arc<str>) -> Self {
        let start = Position::default();
        Place { epoch, settled: start, newest: start, hole: start, forgotten: None, shown: None }
    }

    pub(crate) fn settled(&self) -> Position {
        self.settled
    }

    /// Nothing before this can be proven complete.
    pub(crate) fn hole(&self) -> Position {
        self.hole
    }

    pub(crate) fn newest(&self) -> Position {
        self.newest
    }

    /// A message is being handed on.
    pub(crate) fn begin(&mut self, position: Position) {
        self.newest = self.newest.max(position);
    }

    /// Everybody has it.
    pub(crate) fn settle(&mut self) {
        if self.settled != self.newest {
            self.settled = self.newest;
            self.shown = None;
        }
    }

    /// The order goes on from `position` in `epoch`. With a `hole` nothing before that can be proven complete.
    pub(crate) fn go_on(&mut self, epoch: Arc<str>, position: Position, hole: Option<Hole>) {
        if self.epoch != epoch {
            let forgotten = self.forgotten.map(|_| Position::default());
            *self = Place { forgotten, ..Place::new(epoch) };
        }
        self.begin(position);
        self.shown = None;
        self.settle();
        if hole.is_some() {
            self.hole = self.settled;
        }
        if hole == Some(Hole::Channels) {
            self.forgotten = Some(self.settled);
        }
    }

    /// Whether a client that is here, and was told all up to `since`, is in the channels that it was in, or knows that it
    /// may not be.
    pub(crate) fn knows_channels(&self, since: Option<&str>) -> bool {
        let Some(forgotten) = self.forgotten else { return true };
        let since = since.and_then(Position::parse);
        since.is_some_and(|(epoch, since)| epoch == &*self.epoch && since >= forgotten)
    }

    /// A position that a client says it has handled; `None` if it was never sent one like that.
    pub(crate) fn handled(&self, text: &str) -> Option<Position> {
        let (epoch, position) = Position::parse(text)?;
        (epoch == &*self.epoch && position <= self.newest).then_some(position)
    }

    /// Whether all that came after `since` can be given to a client of which everything behind `floor` is kept.
    pub(crate) fn resume(&self, since: &str, floor: Position) -> Result<Position, NotResumed> {
        let Some((epoch, since)) = Position::parse(since) else { return Err(NotResumed::Expired) };
        if epoch != &*self.epoch || since < self.hole {
            return Err(NotResumed::Epoch);
        }
        if since > self.newest {
            return Err(NotResumed::Ahead);
        }
        if since < floor {
            return Err(NotResumed::TooMuch);
        }
        Ok(since)
    }

    /// The frame that tells a client where it is; `had` is the last message that it was sent, which may be the one that
    /// others have still to get.
    pub(crate) fn frame(&mut self, had: Position) -> Frame {
        let (epoch, position) = (&self.epoch, self.settled.max(had));
        let make = || {
            let mut text = String::from("{\"p\":\"");
            position.push(epoch, &mut text);
            text.push_str("\"}");
            Frame::word(&text)
        };
        if position != self.settled {
            return make();
        }
        self.shown.get_or_insert_with(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Position {
        Position { number, sub: 0 }
    }

    fn place() -> Place {
        let mut place = Place::new("k3".into());
        place.begin(at(10));
        place.settle();
        place
    }

    #[test]
    fn only_what_is_whole_is_resumed() {
        let mut place = place();
        assert_eq!(place.resume("k3.7", at(5)), Ok(at(7)));
        assert_eq!(place.resume("k3.5", at(5)), Ok(at(5)));
        assert_eq!(place.resume("k3.10", at(10)), Ok(at(10)));
        assert_eq!(place.resume("k3.4", at(5)), Err(NotResumed::TooMuch));
        assert_eq!(place.resume("k3.11", at(5)), Err(NotResumed::Ahead));
        assert_eq!(place.resume("k4.7", at(5)), Err(NotResumed::Epoch));
        assert_eq!(place.resume("garbage", at(5)), Err(NotResumed::Expired));
        place.go_on("k3".into(), at(12), Some(Hole::Messages));
        assert_eq!(place.resume("k3.11", at(5)), Err(NotResumed::Epoch));
        assert_eq!(place.resume("k3.12", at(5)), Ok(at(12)));
        place.go_on("k5".into(), at(2), Some(Hole::Messages));
        assert_eq!(place.resume("k3.12", at(1)), Err(NotResumed::Epoch));
        assert_eq!(place.resume("k5.2", at(1)), Ok(at(2)));
    }

    #[test]
    fn a_message_under_way_is_not_told_as_had() {
        let mut place = place();
        place.begin(at(20));
        assert_eq!(place.frame(at(0)).content(), "{\"p\":\"k3.10\"}");
        assert_eq!(place.frame(at(20)).content(), "{\"p\":\"k3.20\"}");
        // Who has it already may say so.
        assert_eq!(place.handled("k3.20"), Some(at(20)));
        assert_eq!((place.handled("k3.21"), place.handled("k4.20")), (None, None));
        place.settle();
        assert_eq!(place.frame(at(20)).content(), "{\"p\":\"k3.20\"}");
    }

    #[test]
    fn who_was_told_that_channels_may_be_lost_knows_them_from_there_on() {
        let mut place = Place::new("k3".into());
        place.go_on("k3".into(), at(10), Some(Hole::Messages));
        let knows = |place: &Place, since: &[&str]| -> Vec<_> {
            since.iter().map(|since| place.knows_channels(Some(since))).collect()
        };
        assert_eq!(knows(&place, &["k3.9", "k2.9", "?"]), [true; 3]);
        assert!(place.knows_channels(None));
        place.go_on("k3".into(), at(12), Some(Hole::Channels));
        place.go_on("k3".into(), at(20), Some(Hole::Messages));
        assert_eq!(knows(&place, &["k3.11", "k3.12", "k2.99", "?"]), [false, true, false, false]);
        assert!(!place.knows_channels(None));
        place.go_on("k4".into(), at(1), None);
        assert_eq!(knows(&place, &["k3.12", "k4.1"]), [false, true]);
    }
}
