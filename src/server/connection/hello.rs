//! What a client that can resume is told first, and when it is to come back. Pure.

use std::fmt::Write as _;

use super::{continuity::Keep, frame::Frame, place::Place};
use crate::{id::ClientId, server::reasons::NotResumed};

/// What a client was given of what it had missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// It comes for the first time.
    New,
    /// All of it: so many messages.
    Whole(usize),
    /// Not all of it, so it is to load its state anew.
    Refused(NotResumed),
}

/// The first frame, and the one by which a client hears that something was lost.
#[derive(Debug)]
pub(crate) struct Hello<'a> {
    pub(crate) client: &'a ClientId,
    pub(crate) c: &'a str,
    pub(crate) keep: Keep,
    pub(crate) resumption: Resumption,
    /// Whether it goes on from a former connection, and is in the channels that it was in.
    pub(crate) channels: bool,
    /// Milliseconds over which those who must load anew are to spread that.
    pub(crate) spread: u64,
}

impl Hello<'_> {
    pub(crate) fn frame(&self, place: &Place) -> Frame {
        let mut text = String::from("{\"hello\":{\"p\":\"");
        place.settled().push(&place.epoch, &mut text);
        let client = serde_json::Value::String(self.client.to_string());
        let _ = write!(text, "\",\"c\":\"{}\",\"client\":{client}", self.c);
        let _ = match self.resumption {
            Resumption::New => write!(text, ",\"resumed\":false"),
            Resumption::Whole(missed) => write!(text, ",\"resumed\":true,\"missed\":{missed}"),
            Resumption::Refused(why) => {
                write!(text, ",\"resumed\":false,\"why\":\"{}\"", why.label())
            }
        };
        let (keep, channels, spread) = (self.keep.seconds(), self.channels, self.spread);
        let _ = write!(text, ",\"keep\":{keep},\"channels\":{channels},\"spread\":{spread}}}}}");
        Frame::word(&text)
    }
}

/// When a client whose connection is closed is to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    /// Milliseconds until the first may.
    pub(crate) after: u64,
    /// Milliseconds over which they spread.
    pub(crate) spread: u64,
}

impl Pause {
    /// For a close frame.
    pub(crate) fn text(self) -> String {
        format!("{{\"after\":{},\"spread\":{}}}", self.after, self.spread)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Position;

    #[test]
    fn hello_says_what_became_of_a_former_connection() {
        let mut place = Place::new("k3".into());
        place.go_on("k3".into(), Position { number: 7, sub: 0 }, None);
        let hello = |resumption, channels| {
            let keep = Keep::new(Duration::from_secs(60));
            let hello = Hello { client: &42.into(), c: "c", keep, resumption, channels, spread: 0 };
            hello.frame(&place).content().to_owned()
        };
        let head = "{\"hello\":{\"p\":\"k3.7\",\"c\":\"c\",\"client\":\"42\",\"resumed\":";
        for (resumption, channels, tail) in [
            (Resumption::New, false, "false,\"keep\":60,\"channels\":false,\"spread\":0}}"),
            (
                Resumption::Whole(3),
                true,
                "true,\"missed\":3,\"keep\":60,\"channels\":true,\"spread\":0}}",
            ),
            (
                Resumption::Refused(NotResumed::TooMuch),
                true,
                "false,\"why\":\"too_much\",\"keep\":60,\"channels\":true,\"spread\":0}}",
            ),
        ] {
            assert_eq!(hello(resumption, channels), format!("{head}{tail}"));
        }
    }

    #[test]
    fn a_pause_fits_a_close_frame() {
        let pause = Pause { after: u64::MAX, spread: u64::MAX };
        assert!(pause.text().len() <= 123);
    }
}
