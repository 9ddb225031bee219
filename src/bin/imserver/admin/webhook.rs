//! Webhooks as an operator sees and steers them: as metrics, and the dead letters and orders of the page.

use std::{fmt::Write as _, net::SocketAddr};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    actions::{Who, mistake, read},
    cached::{Failure, Outcome},
    groups::label,
    happened::Happened,
    watch::Watch,
};
use crate::webhook::{Desk, Seen, letter_json};

/// Dead letters that are shown, those of the oldest events.
const LETTERS: usize = 50;

/// What the page asks for, for messages about mistakes.
const EXAMPLE: &str = r#"{"do": "on"}, {"do": "replay", "all": true} or {"do": "discard", "letters": ["1764304503123458-4713-9a0b1c2d3e4f5a6b"]}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    r#do: Verb,
    letters: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    On,
    Off,
    Replay,
    Discard,
}

/// A figure of delivery: its name, its kind, what it is, and how it is read off.
type Figure = (&'static str, &'static str, &'static str, fn(&Seen) -> u64);

const FIGURES: [Figure; 5] = [
    ("on", "gauge", "1 if webhooks are delivered, 0 if delivery is switched off.", |seen| {
        u64::from(seen.state.off.is_none())
    }),
    ("failures", "gauge", "Attempts to deliver that have failed since the last success.", |seen| {
        seen.state.failures
    }),
    ("dead_letters", "gauge", "Messages that no target took in time and that are kept.", |seen| {
        seen.state.dead_letters
    }),
    (
        "dead_letters_replaying",
        "gauge",
        "Dead letters that are to be delivered once more.",
        |seen| seen.state.replaying,
    ),
    (
        "dead_letters_dropped_total",
        "counter",
        "Dead letters that were dropped because there were too many.",
        |seen| seen.state.dropped,
    ),
];

/// What is the same on all nodes, in the text exposition format of Prometheus.
pub(super) fn prometheus(seen: Option<&Seen>) -> String {
    let mut page = String::new();
    let Some(seen) = seen else { return page };
    for (name, kind, help, read) in FIGURES {
        let _ = writeln!(page, "# HELP imcore_webhook_{name} {help}");
        let _ = writeln!(page, "# TYPE imcore_webhook_{name} {kind}");
        let _ = writeln!(page, "imcore_webhook_{name} {}", read(seen));
    }
    page += "# HELP imcore_webhook_delivers The node that delivers.\n\
             # TYPE imcore_webhook_delivers gauge\n";
    if let Some(node) = seen.node() {
        let _ = writeln!(page, "imcore_webhook_delivers{{node=\"{}\"}} 1", label(node));
    }
    page
}

/// Some dead letters, and how many there are.
pub(super) fn letters(desk: &Desk) -> Outcome {
    let Some(broker) = desk.letters()? else { return Err(no_webhook()) };
    let page = broker.dead_letters(None, LETTERS)?;
    let letters = page.items.iter().map(letter_json).collect::<Value>();
    Ok(json!({ "letters": letters, "total": page.total }).to_string())
}

/// Carries out what the page asks for.
pub(super) fn act(desk: &Desk, watch: &Watch, body: &[u8], peer: Option<SocketAddr>) -> Outcome {
    let Order { r#do: verb, letters, all } = read(body, EXAMPLE)?;
    let Some(broker) = desk.letters()? else { return Err(no_webhook()) };
    let named = match (verb, letters, all) {
        (Verb::On | Verb::Off, None, false) | (Verb::Replay | Verb::Discard, None, true) => {
            Vec::new()
        }
        (Verb::Replay | Verb::Discard, Some(named), false) if !named.is_empty() => named,
        _ => return Err(mistake("letters are named, or all, where they are meant", EXAMPLE)),
    };
    let by = Who(peer).to_string();
    let (letters, done) = match verb {
        Verb::On | Verb::Off => {
            let on = matches!(verb, Verb::On);
            Desk::switch(broker, on)?;
            (0, if on { Happened::WebhooksOn { by } } else { Happened::WebhooksOff { by } })
        }
        Verb::Replay => {
            let letters = broker.replay_dead_letters(&named)?;
            (letters, Happened::Replayed { by, letters })
        }
        Verb::Discard => {
            let letters = broker.discard_dead_letters(&named)?;
            (letters, Happened::Discarded { by, letters })
        }
    };
    log::info!(address:% = Who(peer); "admin: {done}");
    watch.note(done);
    Ok(json!({ "letters": letters }).to_string())
}

fn no_webhook() -> Failure {
    Failure { status: 404, why: String::from("no webhook is set") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_becomes_metrics() {
        assert_eq!(prometheus(None), "");
        let mut seen = Seen::default();
        seen.state.off = Some((String::from("it answered 410"), 7));
        (seen.state.dead_letters, seen.state.holder) = (3, Some(String::from("im-1:80#00ff")));
        let page = prometheus(Some(&seen));
        for line in [
            "imcore_webhook_on 0\n",
            "imcore_webhook_dead_letters 3\n",
            "imcore_webhook_delivers{node=\"im-1:80\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
