//! Publishing: envelopes on their way to nodes, each counted in front of it.
//!
//! Called by `RedisBroker::publish`.

use redis::Pipeline;

use super::{PIPELINE, RedisBroker, error};
use crate::{error::Result, wire::Envelope};

impl RedisBroker {
    pub(super) fn send(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        let names = self.names();
        for chunk in outgoing.chunks(PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(chunk.len() + 1);
            let counts = count_by_node(chunk);
            // Before the messages: a node that compares must not have heard more than was counted.
            for (node, count) in &counts {
                pipeline.cmd("HINCRBY").arg(names.published_key()).arg(*node).arg(*count);
            }
            for (node, envelope) in chunk {
                pipeline.cmd("PUBLISH").arg(names.node_topic(node)).arg(envelope.encode());
            }
            let replies = self.shared.calls.run(&self.shared.connector, &pipeline)?;
            let address = &self.shared.connector.address;
            // A Redis out of memory refuses to count, but still carries messages.
            let mut published = replies.iter().skip(counts.len());
            if let Some(error) = published.find_map(|reply| error::of_reply(address, reply)) {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// How many of the messages go to each node.
fn count_by_node<'a>(outgoing: &[(&'a str, Envelope)]) -> Vec<(&'a str, u64)> {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for (node, _) in outgoing {
        match counts.iter_mut().find(|(counted, _)| counted == node) {
            Some((_, count)) => *count += 1,
            None => counts.push((node, 1)),
        }
    }
    counts
}
