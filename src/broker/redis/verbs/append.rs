//! Publishing with a log: what goes out is also kept in Redis for a while, in the same step.
//!
//! Called by `messages`, and by `settled` for receipts. The log never costs a message: where Redis refuses to keep it, it is published all the
//! same, marked as such, and the log says that it is not whole.

use std::time::Instant;

use redis::Value;

use super::{
    posts::{Post, posts, push},
    scripts, settled,
};
use crate::{
    broker::{
        contract::Telling,
        redis::{
            backend::Backend,
            link::{PIPELINE, error, gather::Load, pool::InUse, reply},
        },
    },
    error::Result,
    throttle::Throttle,
    token::random_u64,
    wire::Envelope,
};

/// A send of more bytes goes out by itself: others must not wait for it.
const LONG: usize = 256 << 10;

/// The reply to a message that was not sent, because the table of slots has changed.
const STALE: Value = Value::Boolean(false);

/// An empty load, whose messages are only sent as long as the table of slots has this version.
fn fenced(by: Option<u64>, deadline: Instant) -> Load {
    let mut load = Load::empty(deadline);
    if let Some(version) = by {
        let words = ["f", &version.to_string(), "0"];
        words.iter().for_each(|word| push(&mut load.packed, word.as_bytes()));
        load.arguments = words.len();
    }
    load
}

impl Backend {
    /// Publishes and logs; a reply for each message, fewer if the table of slots is not, or no longer, the one that it is sent
    /// `by`.
    pub(super) fn publish_logged(
        &self,
        by: Option<u64>,
        outgoing: &[(&str, Envelope)],
    ) -> Result<Vec<Value>> {
        self.look_who_serves(outgoing)?;
        let posts = posts(outgoing, |node| self.appending.is_served(node));
        let mut loads: Vec<Load> = Vec::new();
        let deadline = self.connector.connect_deadline();
        let (mut load, mut copies) = (fenced(by, deadline), 0);
        for post in &posts {
            copies += Post::copies(post);
            if load.messages > 0 && (copies > PIPELINE || load.packed.len() > LONG) {
                loads.push(std::mem::replace(&mut load, fenced(by, deadline)));
                copies = post.copies();
            }
            load.arguments += post.pack(&mut load.packed);
            load.messages += post.copies();
        }
        if loads.is_empty() && load.packed.len() <= LONG {
            let replies = self.gather.send(load, |loads| {
                let deadline = loads.first().map_or(deadline, |load| load.deadline);
                self.append(&mut self.calls.take_by(&self.connector, deadline)?, loads)
            })?;
            return Ok(replies.into_iter().take_while(|reply| *reply != STALE).collect());
        }
        loads.push(load);
        let mut in_use = self.calls.take(&self.connector)?;
        let mut replies = Vec::with_capacity(outgoing.len());
        for load in &loads {
            match self.append(&mut in_use, &[load]) {
                Ok(next) if next.contains(&STALE) => return Ok(replies),
                Ok(next) => replies.extend(next),
                Err(error) => return Err(error::broke_off(replies.len(), error)),
            }
        }
        Ok(replies)
    }

    /// Publishes and logs receipts, and remembers that their senders know what became of which messages, in one run of the
    /// script, which does nothing if that was done before; a reply for each receipt.
    pub(super) fn tell_logged(&self, node: &str, telling: &Telling<'_>) -> Result<Vec<Value>> {
        let receipts = telling.receipts;
        self.look_who_serves(receipts)?;
        let mut load = Load::empty(self.connector.connect_deadline());
        let settled = settled::write(telling.settled);
        let last = telling.settled.iter().map(|(number, _)| *number).max().unwrap_or(0);
        let (last, number) = (last.to_string(), telling.number.to_string());
        let words = ["t", &settled, "4", node, &last, telling.by, &number];
        words.iter().for_each(|word| push(&mut load.packed, word.as_bytes()));
        load.arguments = words.len();
        for post in posts(receipts, |node| self.appending.is_served(node)) {
            load.arguments += post.pack(&mut load.packed);
            load.messages += post.copies();
        }
        self.append(&mut self.calls.take(&self.connector)?, &[&load])
    }

    /// One run of the script; a reply for each message.
    fn append(&self, in_use: &mut InUse, loads: &[&Load]) -> Result<Vec<Value>> {
        let (unnoted, term) = (self.appending.unnoted(), in_use.term());
        let astray = self.appending.astray(term);
        let untold = if unnoted.is_some() { 1 } else { astray };
        let arguments = self.arguments(loads, untold)?;
        let reply = self.cached.run(in_use, &scripts::APPEND, |[command, script]| {
            let (count, arguments) = &arguments;
            let mut packed = Vec::with_capacity(arguments.len() + script.len() + 100);
            packed.extend_from_slice(format!("*{}\r\n", count + 3).as_bytes());
            [command, script, "0"].iter().for_each(|word| push(&mut packed, word.as_bytes()));
            packed.extend_from_slice(arguments);
            packed
        })?;
        let messages: usize = loads.iter().map(|load| load.messages).sum();
        if matches!(reply, Value::ServerError(_)) {
            return Ok(vec![reply; messages]);
        }
        let mut parts = reply::items(reply).into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        let (logged, refusal, failed, unheard) = (reply::number(next()), next(), next(), next());
        let (is_noted, unsettled, stale) = (next() != Value::Nil, next(), next());
        if let Some(error) = error::of_reply(&self.connector.address, &unsettled) {
            static UNSETTLED: Throttle = Throttle::new();
            if let Some(more) = UNSETTLED.admit("settle") {
                log::warn!(reason:% = error; "receipts may come again after a restart: {error}{more}");
            }
        }
        if let Some(error) = error::of_reply(&self.connector.address, &refusal) {
            if !is_noted {
                self.appending.refuse();
            }
            static REFUSED: Throttle = Throttle::new();
            if let Some(more) = REFUSED.admit(&error.to_string()) {
                log::warn!(reason:% = error; "messages are sent, but the log takes none: {error}{more}");
            }
        } else if logged > 0 {
            self.appending.logged(term, logged as u64, astray);
            unnoted.into_iter().for_each(|refused| self.appending.note(refused));
        }
        if matches!(failed, Value::ServerError(_)) {
            return Ok(vec![failed; messages]);
        }
        let mut replies = vec![Value::Int(1); messages];
        for place in reply::items(unheard) {
            if let Some(reply) = replies.get_mut(reply::number(place) as usize) {
                *reply = Value::Int(0);
            }
        }
        for place in reply::items(stale) {
            if let Some(reply) = replies.get_mut(reply::number(place) as usize) {
                *reply = STALE;
            }
        }
        Ok(replies)
    }

    /// All arguments of the script, packed, behind their number.
    fn arguments(&self, loads: &[&Load], untold: u64) -> Result<(usize, Vec<u8>)> {
        let options = &self.options;
        let bytes: usize = loads.iter().map(|load| load.packed.len()).sum();
        let mut packed = Vec::with_capacity(bytes + 256);
        let head = [
            self.layout.prefix().to_owned(),
            self.layout.node_topic(""),
            format!("{:016x}", random_u64()?),
            options.log_age.as_micros().to_string(),
            options.log_bytes.to_string(),
            untold.to_string(),
        ];
        head.iter().for_each(|argument| push(&mut packed, argument.as_bytes()));
        loads.iter().for_each(|load| packed.extend_from_slice(&load.packed));
        Ok((head.len() + loads.iter().map(|load| load.arguments).sum::<usize>(), packed))
    }

    /// Finds out which of the nodes are of this library, if that is not known or was found too long ago: others
    /// cannot read what has a number in front.
    fn look_who_serves(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        let now = Instant::now();
        let stale = self.appending.stale(outgoing.iter().map(|(node, _)| *node), now);
        if stale.is_empty() {
            return Ok(());
        }
        let sessions = self.sessions()?;
        for node in stale {
            let is = sessions.iter().any(|(_, name)| name == node);
            if self.appending.found(node, is, now) {
                log::warn!(
                    "no node of imcore has a session as {node:?}: what goes to it, and what goes to all nodes, \
                     is sent without the log until there is one"
                );
            }
        }
        Ok(())
    }
}
