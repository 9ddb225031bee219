//! How long a client stays away before it tries again, as docs/protocol.md asks of clients. Pure.

use std::time::Duration;

use serde::Deserialize;

/// The first pause is drawn from 0 to this, the next ones from 0 to twice as much each.
const FIRST_MS: f64 = 2_500.0;
const LONGEST_MS: f64 = 30_000.0;
/// So long after the loss of a connection that had lasted no pause is longer than this: another node may just be taking over.
const TAKEN_OVER: Duration = Duration::from_secs(16);
const LONGEST_UNTIL_THEN_MS: f64 = 4_000.0;
/// Bounds of every pause: below, it would be a busy loop.
const BOUNDS_MS: (f64, f64) = (50.0, 3_600_000.0);
/// After these a client that comes back does the same again: it broke the protocol, was kicked, or has too many
/// connections.
const FOR_GOOD: [u16; 6] = [1002, 1007, 1008, 1009, 4001, 4003];

/// What a close asks for, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Hint {
    #[serde(default)]
    after: f64,
    /// How much may come to it by chance; as without a hint, if it does not say.
    #[serde(default = "nothing")]
    spread: Option<f64>,
}

/// A reason that says something but no spread has none.
fn nothing() -> Option<f64> {
    Some(0.0)
}

/// How a connection, or an attempt at one, came to its end.
#[derive(Debug)]
pub struct End {
    /// For the report.
    pub reason: String,
    pub hint: Option<Hint>,
    /// Whether a real client would not come back.
    pub for_good: bool,
}

impl End {
    /// By the network, the node's end, or an answer that is no 101.
    pub fn of(reason: impl Into<String>) -> Self {
        End { reason: reason.into(), hint: None, for_good: false }
    }

    /// What the server sent is no WebSocket.
    pub fn broken() -> Self {
        End { reason: "bytes that are no frame".into(), hint: None, for_good: true }
    }

    /// By a close frame with this payload.
    pub fn close(payload: &[u8]) -> Self {
        let [high, low, reason @ ..] = payload else { return End::of("close without a code") };
        let code = u16::from_be_bytes([*high, *low]);
        let said = serde_json::from_slice(reason).ok();
        let hint = said.filter(|hint: &Hint| hint.after >= 0.0 && hint.spread >= Some(0.0));
        let by_code = match code {
            1001 | 1012 => Some(Hint { after: 1_000.0, spread: None }),
            1013 => Some(Hint { after: 4_000.0, spread: Some(4_000.0) }),
            4302 => Some(Hint { after: 0.0, spread: Some(0.0) }),
            _ => None,
        };
        End {
            reason: format!("close code {code}"),
            hint: hint.or(by_code),
            for_good: FOR_GOOD.contains(&code),
        }
    }
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(_) => End::of(error.kind().to_string()),
            None => End::of(error.to_string()),
        }
    }
}

/// Attempts in a row that came to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u32,
    /// How long ago a connection was lost that had lasted, if one was.
    pub since_loss: Option<Duration>,
}

/// The pause after these; `chance` is drawn from 0 to 1.
pub fn pause(failures: Failures, hint: Option<Hint>, chance: f64) -> Duration {
    let most = match failures.since_loss {
        Some(since) if since < TAKEN_OVER => LONGEST_UNTIL_THEN_MS,
        _ => LONGEST_MS,
    };
    let longest = (FIRST_MS * 2f64.powi(failures.count.min(16) as i32)).min(most);
    let (after, spread) =
        hint.map_or((0.0, longest), |hint| (hint.after, hint.spread.unwrap_or(longest)));
    let (least, most) = BOUNDS_MS;
    Duration::from_secs_f64((after + chance * spread).clamp(least, most) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(count: u32, hint: Option<Hint>) -> [u128; 2] {
        let failures = Failures { count, since_loss: None };
        [0.0, 1.0].map(|chance| pause(failures, hint, chance).as_millis())
    }

    #[test]
    fn pauses_stay_short_while_another_node_may_be_taking_over() {
        let longest = |count, seconds| {
            let since_loss = Some(Duration::from_secs(seconds));
            pause(Failures { count, since_loss }, None, 1.0).as_millis()
        };
        assert_eq!([longest(0, 0), longest(1, 2), longest(5, 15)], [2_500, 4_000, 4_000]);
        assert_eq!(longest(5, 16), 30_000);
    }

    #[test]
    fn pauses_are_drawn_from_nothing_to_a_limit_that_doubles() {
        let limits = [0, 1, 2, 3, 4, 99].map(|failures| bounds(failures, None));
        let expected = [2_500, 5_000, 10_000, 20_000, 30_000, 30_000];
        assert_eq!(limits, expected.map(|most| [50, most]));
    }

    #[test]
    fn what_a_close_asks_for_is_obeyed() {
        let close = |code: u16, reason: &str| {
            End::close(&[&code.to_be_bytes(), reason.as_bytes()].concat())
        };
        let asked = |code, reason| bounds(0, close(code, reason).hint);
        assert_eq!(asked(1012, r#"{"after":20000,"spread":5000}"#), [20_000, 25_000]);
        assert_eq!(asked(1012, r#"{"spread":60000}"#), [50, 60_000]);
        assert_eq!(asked(4000, r#"{"after":1500}"#), [1_500, 1_500]);
        assert_eq!(asked(1012, r#"{"after":1e12,"spread":0}"#), [3_600_000; 2]);
        assert_eq!(asked(1001, "server is stopping"), [1_000, 3_500]);
        assert_eq!(asked(1013, "slow consumer"), [4_000, 8_000]);
        assert_eq!(asked(1012, r#"{"after":-1}"#), [1_000, 3_500]);
        assert_eq!(asked(1011, "internal error"), [50, 2_500]);
        let stays_away = |code| close(code, "").for_good;
        assert!(FOR_GOOD.into_iter().all(stays_away) && !stays_away(1012));
    }
}
