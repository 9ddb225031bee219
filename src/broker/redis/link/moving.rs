//! What becomes of commands that a master of a cluster refuses because their slot moves, or because the cluster is down.
//!
//! Used by the link, which waits where the slot may come to rest, and by the pool, which goes after one that has moved. None of
//! what was refused was carried out, so it may be said again; the rest was, and is not.

use std::{
    thread,
    time::{Duration, Instant},
};

use redis::{RedisResult, Value};

use super::{connection::Link, dialect, error};

/// First and longest pause before it is said again.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

/// What is to be said again.
pub(super) struct Again {
    pub(super) packed: Vec<u8>,
    /// Where its replies stand among those to all.
    places: Vec<usize>,
}

impl Again {
    /// What was refused of packed commands; `None` if nothing was. A transaction is refused as a whole.
    fn of(packed: &[u8], replies: &[Value]) -> Option<Again> {
        if !replies.iter().any(error::is_elsewhere) {
            return None;
        }
        let is_whole = is_transaction(packed);
        let all = dialect::commands(packed).zip(replies).enumerate();
        let refused = all.filter(|(_, (_, reply))| is_whole || error::is_elsewhere(reply));
        let mut again = Again { packed: Vec::new(), places: Vec::new() };
        for (place, (command, _)) in refused {
            again.packed.extend_from_slice(command);
            again.places.push(place);
        }
        Some(again)
    }

    /// What is to be said to another server, as the slot has moved there; `None` if that is not so. No transaction, which may be
    /// about what was looked at on this connection.
    pub(super) fn elsewhere(packed: &[u8], replies: &[Value]) -> Option<Again> {
        let has_moved = replies.iter().any(error::is_moved) && !is_transaction(packed);
        if has_moved { Again::of(packed, replies) } else { None }
    }

    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Puts the replies among those to all.
    pub(super) fn put(&self, replies: &mut [Value], again: Vec<Value>) {
        for (place, reply) in self.places.iter().zip(again) {
            replies[*place] = reply;
        }
    }
}

fn is_transaction(packed: &[u8]) -> bool {
    dialect::name(packed) == b"MULTI"
}

/// Says what was refused again and again until it is carried out, the slot has moved elsewhere, or the deadline comes.
pub(super) fn wait_out(
    link: &mut Link,
    packed: &[u8],
    mut replies: Vec<Value>,
    deadline: Instant,
) -> RedisResult<Vec<Value>> {
    let [mut pause, longest] = PAUSE;
    while let Some(again) = Again::of(packed, &replies) {
        let has_moved = replies.iter().any(error::is_moved);
        // What it watched it does no more.
        let is_over = is_transaction(packed) && link.watches;
        if has_moved || is_over || Instant::now() + pause >= deadline {
            break;
        }
        thread::sleep(pause);
        pause = longest.min(2 * pause);
        let next = link.say(&again.packed, again.count(), deadline)?;
        again.put(&mut replies, next);
    }
    Ok(replies)
}

#[cfg(test)]
mod tests {
    use redis::{Parser, pipe};

    use super::*;

    fn reply(text: &str) -> Value {
        Parser::new().parse_value(format!("{text}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn what_was_carried_out_is_not_said_again() {
        let mut pipeline = pipe();
        pipeline.cmd("GET").arg("a").cmd("GET").arg("b").cmd("GET").arg("c");
        let packed = pipeline.get_packed_pipeline();
        let mut replies = ["-ASK 1 h:1", ":7", "-MOVED 1 h:1"].map(reply).to_vec();
        let again = Again::elsewhere(&packed, &replies).unwrap();
        let mut left = pipe();
        left.cmd("GET").arg("a").cmd("GET").arg("c");
        assert_eq!(again.packed, left.get_packed_pipeline());
        again.put(&mut replies, vec![Value::Int(6), Value::Int(8)]);
        assert_eq!(replies, [6, 7, 8].map(Value::Int));
        assert!(Again::of(&packed, &replies).is_none());
        let passing = ["-TRYAGAIN x", ":7", "-CLUSTERDOWN x"].map(reply);
        assert!(Again::elsewhere(&packed, &passing).is_none());
        assert_eq!(Again::of(&packed, &passing).unwrap().count(), 2);
    }

    #[test]
    fn a_transaction_is_said_again_as_a_whole_and_nowhere_else() {
        let packed = pipe().atomic().cmd("GET").arg("a").get_packed_pipeline();
        let replies = ["+OK", "-ASK 1 h:1", "-EXECABORT x"].map(reply);
        assert_eq!(Again::of(&packed, &replies).unwrap().packed, packed);
        let replies = ["+OK", "-MOVED 1 h:1", "-EXECABORT x"].map(reply);
        assert!(Again::elsewhere(&packed, &replies).is_none());
    }
}
