//! Publishing: envelopes on their way to nodes, each counted in front of it.
//!
//! Called by `RedisBroker::publish`. What it answers is true of every single message: an error that says
//! that nothing was sent means none of them.

use std::{collections::HashSet, sync::PoisonError};

use redis::{Pipeline, Value, cmd};

use crate::{
    broker::redis::{
        backend::Backend,
        link::{PIPELINE, error, gather::Load},
    },
    error::Result,
    wire::Envelope,
};

/// A send of more bytes goes out by itself: others must not wait for it.
const LONG: usize = 256 << 10;

impl Backend {
    /// How many of the messages were sent, from the first: all, or with a log those before the table of slots had another
    /// version than `by`.
    pub(crate) fn publish(&self, by: Option<u64>, outgoing: &[(&str, Envelope)]) -> Result<usize> {
        if outgoing.is_empty() {
            return Ok(0);
        }
        let replies = match self.options.log {
            true => self.publish_logged(by, outgoing)?,
            false => self.publish_plain(outgoing)?,
        };
        self.warn_of_unserved(outgoing, &replies);
        error::check_steps(&self.connector.address, &replies)?;
        Ok(replies.len())
    }

    /// Publishes without a log; a reply for each message.
    fn publish_plain(&self, outgoing: &[(&str, Envelope)]) -> Result<Vec<Value>> {
        let mut packed = Vec::new();
        for (node, envelope) in outgoing.iter().take(PIPELINE) {
            let mut publish = cmd("PUBLISH");
            publish.arg(self.layout.node_topic(node)).arg(envelope.encode());
            publish.write_packed_command(&mut packed);
        }
        if outgoing.len() > PIPELINE || packed.len() > LONG {
            return self.send_alone(outgoing);
        }
        let counts = count_by_node(outgoing);
        let counts = counts.into_iter().map(|(node, count)| (node.to_owned(), count)).collect();
        let empty = Load::empty(self.connector.connect_deadline());
        let load = Load { counts, packed, messages: outgoing.len(), ..empty };
        self.gather.send(load, |loads| self.send_together(loads))
    }

    /// Over one connection, in as many round trips as it takes.
    fn send_alone(&self, outgoing: &[(&str, Envelope)]) -> Result<Vec<Value>> {
        let layout = &self.layout;
        let chunks: Vec<_> =
            outgoing.chunks(PIPELINE).map(|chunk| (chunk, count_by_node(chunk))).collect();
        let pipelines = chunks.iter().map(|(chunk, counts)| {
            let mut pipeline = Pipeline::with_capacity(counts.len() + chunk.len());
            // Before the messages: a node that compares must not have heard more than was counted.
            for (node, count) in counts {
                pipeline.cmd("HINCRBY").arg(layout.published_key()).arg(*node).arg(*count);
            }
            for (node, envelope) in *chunk {
                pipeline.cmd("PUBLISH").arg(layout.node_topic(node)).arg(envelope.encode());
            }
            pipeline
        });
        let replies = self.calls.take(&self.connector)?.run_all(pipelines)?;
        // A Redis out of memory refuses to count, but still carries messages.
        let published = replies.into_iter().zip(&chunks);
        Ok(published
            .flat_map(|(replies, (_, counts))| replies.into_iter().skip(counts.len()))
            .collect())
    }

    /// One round trip for several callers.
    fn send_together(&self, loads: &[&Load]) -> Result<Vec<Value>> {
        let mut counts: Vec<(&str, u64)> = Vec::new();
        for (node, count) in loads.iter().flat_map(|load| &load.counts) {
            add(&mut counts, node, *count);
        }
        let mut packed = Vec::with_capacity(loads.iter().map(|load| load.packed.len() + 64).sum());
        for (node, count) in &counts {
            let mut increase = cmd("HINCRBY");
            increase.arg(self.layout.published_key()).arg(*node).arg(*count);
            increase.write_packed_command(&mut packed);
        }
        loads.iter().for_each(|load| packed.extend_from_slice(&load.packed));
        let messages: usize = loads.iter().map(|load| load.messages).sum();
        let connector = &self.connector;
        let deadline =
            loads.first().map_or_else(|| connector.connect_deadline(), |load| load.deadline);
        let mut in_use = self.calls.take_by(connector, deadline)?;
        let mut replies = in_use.run_packed(&packed, counts.len() + messages)?;
        Ok(replies.split_off(counts.len()))
    }

    /// Says once of each node that nobody serves it, if that is so: a list of servers that differs from the
    /// nodes' own sends into the void, and every call is fine.
    fn warn_of_unserved(&self, outgoing: &[(&str, Envelope)], replies: &[Value]) {
        let unheard =
            outgoing.iter().zip(replies).filter(|(_, reply)| matches!(reply, Value::Int(0)));
        let unheard: HashSet<&str> = unheard.map(|((node, _), _)| *node).collect();
        for node in unheard {
            let told = &self.unserved;
            if !told.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned()) {
                continue;
            }
            let Ok(sessions) = self.sessions() else { continue };
            // A node that is down or deaf for now has a session, which says so elsewhere.
            if sessions.iter().any(|(_, name)| name == node) {
                continue;
            }
            let mut names: Vec<_> = sessions.into_iter().map(|(_, name)| name).collect();
            names.sort_unstable();
            names.dedup();
            log::warn!(
                "nobody serves node {node:?}, so what is sent to its clients reaches nobody; nodes on {} \
                 with this prefix and path: {names:?}. The list of servers must be the same everywhere",
                self.connector.address
            );
        }
    }
}

/// How many of the messages go to each node.
fn count_by_node<'a>(outgoing: &[(&'a str, Envelope)]) -> Vec<(&'a str, u64)> {
    let mut counts = Vec::new();
    outgoing.iter().for_each(|(node, _)| add(&mut counts, node, 1));
    counts
}

fn add<'a>(counts: &mut Vec<(&'a str, u64)>, node: &'a str, more: u64) {
    match counts.iter_mut().find(|(counted, _)| *counted == node) {
        Some((_, count)) => *count += more,
        None => counts.push((node, more)),
    }
}
