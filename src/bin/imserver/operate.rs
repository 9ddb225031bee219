//! `--webhook WHAT`: how delivery by webhooks goes and what an operator does about it, without a node: it asks the broker.

use std::fmt::Write;

use imcore::{
    Error, ErrorKind,
    broker::{Broker, DeadLetter},
};

use crate::webhook::{Desk, Seen};

/// What can be asked for; the first where nothing is said.
pub(crate) const VERBS: [&str; 6] = ["status", "dead", "replay", "discard", "on", "off"];

/// Letters that are asked for at once.
const PAGE: usize = 200;

/// Carries `verb` out; what there is to print.
///
/// # Errors
/// The broker's; [`Config`](ErrorKind::Config) if it is that of another process.
pub(crate) fn webhook(verb: &str, broker: &dyn Broker, is_shared: bool) -> Result<String, Error> {
    if !is_shared {
        let detail = "without Redis nobody but the node knows how its webhook goes: ask its API or its admin page; or give --redis";
        return Err(Error::new(ErrorKind::Config, detail).with_setting("--webhook"));
    }
    match verb {
        "dead" => dead(broker),
        "replay" => Ok(format!(
            "{} letters will be delivered once more\n",
            broker.replay_dead_letters(&[])?
        )),
        "discard" => Ok(format!("{} letters are gone\n", broker.discard_dead_letters(&[])?)),
        "on" | "off" => Desk::switch(broker, verb == "on").map(|()| format!("{verb}\n")),
        _ => status(broker),
    }
}

fn status(broker: &dyn Broker) -> Result<String, Error> {
    let Some(seen) = Seen::ask(broker)? else {
        return Ok("no node has delivered anything yet\n".to_owned());
    };
    let state = &seen.state;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a text never fails.
        let _ = writeln!(text, "{name:<16} {value}");
    };
    let time = |ms: Option<u64>| ms.map_or("-".into(), |ms| ms.to_string());
    let off = state.off.as_ref().map(|(why, at)| format!("off since {at}: {why}"));
    line("delivery", off.unwrap_or_else(|| "on".into()));
    line("node", seen.node().unwrap_or("-").to_owned());
    line("waiting", seen.waiting().to_string());
    line("missed", seen.group.missed.to_string());
    line("oldest_ms", time(seen.group.oldest));
    line("failures", state.failures.to_string());
    line("failing_since_ms", time(state.failing_since));
    let last = state.last_failure.as_ref().map(|(why, at)| format!("{at}: {why}"));
    line("last_failure", last.unwrap_or_else(|| "-".into()));
    line("last_success_ms", time(state.last_success));
    line("dead_letters", state.dead_letters.to_string());
    line("replaying", state.replaying.to_string());
    line("dropped", state.dropped.to_string());
    Ok(text)
}

fn dead(broker: &dyn Broker) -> Result<String, Error> {
    let (mut text, mut after) = (String::new(), None);
    loop {
        let page = broker.dead_letters(after.as_deref(), PAGE)?;
        for letter in page.items {
            let mark = if letter.replaying { " replaying" } else { "" };
            let DeadLetter { id, ms, count, ends, attempts, failure: why, .. } = letter;
            let ends = ends.map(|(first, last)| format!(" {first} to {last}")).unwrap_or_default();
            let _ =
                writeln!(text, "{id} {ms} {count} events{ends}, {attempts} attempts{mark}: {why}");
        }
        after = page.next;
        if after.is_none() {
            return Ok(text);
        }
    }
}
