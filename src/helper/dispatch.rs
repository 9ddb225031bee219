//! The way out: messages split by the nodes that own their receivers, and sent again to others when owners have changed.
//!
//! Called by `Batch` and by a kick, on any business thread.

use crate::{
    error::{Error, ErrorKind, Result},
    helper::{batch::send_event, client::ImClient},
    placement::Placement,
    wire::Envelope,
};

/// Receivers of one envelope: some 400 KB of GUIDs. A longer list goes out in several.
const RECEIVERS: usize = 10_000;

/// How often owners may change while one call is made.
const ATTEMPTS: usize = 100;

impl ImClient {
    /// Sends messages in order to the nodes that own their receivers, channel messages to all. One round trip to the broker, or
    /// one per thousand messages and nodes, and two more each time the table of slots has changed.
    pub(super) fn dispatch(&self, mut messages: Vec<Envelope>) -> Result<()> {
        let broker = &**self.broker();
        let mut placement = self.routes.now(broker)?;
        for _ in 0..ATTEMPTS {
            let outgoing = address(messages, &placement)?;
            if outgoing.is_empty() {
                return Ok(());
            }
            if let Some(hook) = &self.on_send {
                let events = outgoing.iter().filter_map(|(node, sent)| send_event(node, sent));
                events.for_each(|event| hook(&event));
            }
            let Some(version) = placement.version() else { return broker.publish(&outgoing) };
            let sent = broker.publish_by(version, &outgoing)?;
            if sent >= outgoing.len() {
                return Ok(());
            }
            messages = unaddressed(outgoing, sent);
            placement = self.routes.certain(broker)?;
        }
        Err(Error::new(ErrorKind::Interrupted, "owners of slots change all the time"))
    }
}

/// Each message for each node that is to get it.
fn address(messages: Vec<Envelope>, placement: &Placement) -> Result<Vec<(&str, Envelope)>> {
    let mut outgoing = Vec::with_capacity(messages.len());
    for message in messages {
        match message.message().0 {
            Envelope::Direct { receivers, .. } => {
                let parts = placement.by_owner(receivers.iter().cloned())?;
                // Most messages have one receiver, or all of them on one node.
                if let [(node, receivers)] = &parts[..]
                    && receivers.len() <= RECEIVERS
                {
                    outgoing.push((*node, message));
                    continue;
                }
                for (node, receivers) in parts {
                    let chunks = receivers.chunks(RECEIVERS);
                    outgoing.extend(chunks.map(|part| (node, message.to(part.to_vec()))));
                }
            }
            Envelope::Channel { .. } => {
                outgoing.extend(placement.nodes().into_iter().map(|node| (node, message.clone())));
            }
            Envelope::ForceOffline { client } => outgoing.push((placement.owner(client)?, message)),
            _ => {}
        }
    }
    Ok(outgoing)
}

/// What was not sent, as it was before it was addressed; a channel message once for all its copies.
fn unaddressed(outgoing: Vec<(&str, Envelope)>, sent: usize) -> Vec<Envelope> {
    let mut messages: Vec<Envelope> = Vec::new();
    let mut nodes: Vec<&str> = Vec::new();
    for (node, message) in outgoing.into_iter().skip(sent) {
        let is_copy = matches!(message.message().0, Envelope::Channel { .. })
            && messages.last() == Some(&message)
            && !nodes.contains(&node);
        if !is_copy {
            nodes.clear();
            messages.push(message);
        }
        nodes.push(node);
    }
    messages
}
