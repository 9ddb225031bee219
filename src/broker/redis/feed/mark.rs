//! The feed's mark: by it a feed sees that Redis was emptied, or went back to an old snapshot.
//!
//! A number beside the count of messages that only grows. The feed raises it behind every look at
//! memberships, in the same round trip, and looks at it before the first such look of a new connection: a
//! mark lower than it was means that Redis has lost what was read before it. Knows no connection; owned by
//! one feed. What is found is told once, and nothing that proves a loss is overwritten before it is found.

use redis::{Cmd, Value, cmd};

use crate::broker::redis::{layout::Layout, link::reply};

/// The mark as it was seen last.
pub(super) struct Mark {
    key: String,
    /// What cannot be the name of a node.
    field: String,
    /// `None` before the first look.
    seen: Option<i64>,
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Redis has lost data since the last look.
    pub(super) loss: bool,
    /// There is no mark: the count of messages has begun anew.
    pub(super) none: bool,
}

impl Mark {
    pub(super) fn new(layout: &Layout, node: &str) -> Self {
        Mark { key: layout.published_key(), field: format!("{node} begun"), seen: None }
    }

    /// Asks for the mark.
    pub(super) fn look(&self) -> Cmd {
        let mut command = cmd("HGET");
        command.arg(&self.key).arg(&self.field);
        command
    }

    /// What [`look`](Self::look) was answered.
    pub(super) fn looked(&mut self, reply: Value) -> Found {
        if matches!(reply, Value::ServerError(_)) {
            // Whoever may not ask is not told.
            return Found { loss: false, none: false };
        }
        let none = reply == Value::Nil;
        let value = reply::number(reply);
        let loss = self.seen.replace(value).is_some_and(|seen| value < seen);
        Found { loss, none }
    }

    /// Raises the mark.
    pub(super) fn raise(&self) -> Cmd {
        let mut command = cmd("HINCRBY");
        command.arg(&self.key).arg(&self.field).arg(1);
        command
    }

    /// What [`raise`](Self::raise) was answered; whether Redis has lost data since the last look.
    pub(super) fn raised(&mut self, reply: Value) -> bool {
        match reply {
            Value::Int(value) => self.seen.replace(value).is_some_and(|seen| value <= seen),
            // Out of memory or read-only, which must not deafen the node.
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark::new(&Layout::new("p", "/ws", "", None), "n:1")
    }

    fn found(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    const FINE: Found = Found { loss: false, none: false };
    const LOSS: Found = Found { loss: true, none: false };

    #[test]
    fn a_mark_that_fell_is_a_loss_and_told_once() {
        let mut mark = mark();
        assert_eq!(mark.looked(found("40")), FINE, "left by a former process");
        assert!(!mark.raised(Value::Int(41)) && !mark.raised(Value::Int(42)));
        assert_eq!(mark.looked(found("42")), FINE);
        assert_eq!(mark.looked(found("41")), LOSS, "the last look at memberships is lost");
        assert_eq!(mark.looked(found("41")), FINE);
        assert!(!mark.raised(Value::Int(42)));
    }

    #[test]
    fn an_emptied_redis_is_found_whoever_looks_first() {
        let mut mark = mark();
        assert_eq!(mark.looked(Value::Nil), Found { loss: false, none: true });
        assert!(!mark.raised(Value::Int(1)) && !mark.raised(Value::Int(2)));
        assert!(mark.raised(Value::Int(1)), "emptied on a living connection");
        assert!(!mark.raised(Value::Int(2)));
        assert_eq!(mark.looked(Value::Nil), Found { loss: true, none: true });
    }

    #[test]
    fn a_second_process_under_the_name_is_no_loss() {
        let mut mark = mark();
        mark.looked(found("5"));
        assert!(!mark.raised(Value::Int(9)));
        assert_eq!(mark.looked(found("30")), FINE);
    }

    #[test]
    fn a_redis_that_takes_no_marks_says_nothing() {
        let mut mark = mark();
        mark.looked(found("5"));
        let refused = || {
            let mut parser = redis::Parser::new();
            parser.parse_value(&b"-OOM command not allowed\r\n"[..]).unwrap()
        };
        assert!(!mark.raised(refused()));
        assert_eq!(mark.looked(refused()), FINE);
        assert_eq!(mark.looked(found("4")), LOSS);
    }
}
