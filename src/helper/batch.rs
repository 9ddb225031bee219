//! Sending: `ImClient::send`, and `Batch`, of which it is one of a single message.
//!
//! Called on any business thread. Adding a message checks and encodes it; sending is one call of the broker.

use std::{collections::HashSet, fmt};

use serde::Serialize;

use crate::{
    error::{Error, ErrorKind, Result},
    helper::{
        channels::check_channel,
        client::{ImClient, SendEvent},
        message::{Message, Receipt, Receivers},
    },
    id::ClientId,
    wire::{Envelope, MESSAGE_ID_BYTES},
};

/// What is known when a send returns: the broker has taken the messages for every node they are for.
///
/// That is not delivery, and nobody's reading of it. Delivery is at most once: who is offline misses a message,
/// and so do the clients of a node that is away from the broker at that moment (it counts what it missed). What
/// became of a message for each receiver is told to its sender's connections, if it wants [receipts](Receipt);
/// who is online at this moment says [`are_online`](ImClient::are_online). What must not be lost belongs in the
/// business's database, from where a client reads it when it connects.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Accepted {}

impl ImClient {
    /// Sends `payload` as the [`Message`] says: to clients, to a channel or to everyone.
    ///
    /// The receivers' sockets get the payload's JSON text: of a string, a map, or a type of yours that implements
    /// `Serialize`.
    ///
    /// # Errors
    /// [`Encode`](ErrorKind::Encode) if `payload` is not serialisable. [`Argument`](ErrorKind::Argument) if
    /// its JSON is longer than [`message_bytes`](crate::ImClientBuilder::message_bytes) (1 MiB by default); for
    /// an empty list of receivers or name of a channel; for an id of another [kind](crate::IdKind); for an id of
    /// the message that is empty or longer than 128 bytes; for receipts of a message to a channel or to
    /// everyone, and a sender of one to everyone. Nothing was sent then. For those of the broker see
    /// [`Batch::send`].
    ///
    /// ```
    /// use imcore::{Message, Receipt};
    /// # let im = imcore::example_client()?;
    ///
    /// let greeting = serde_json::json!({ "text": "hello" });
    /// im.send(Message::to([42, 43]).from(7).receipt(Receipt::Sent), &greeting)?;
    /// im.send(Message::to_channel("lobby").from(7), &greeting)?;
    /// im.send(Message::to_everyone(), "the building closes at ten")?;
    /// assert!(im.send(Message::to_channel(""), "no name").is_err());
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn send(&self, message: Message, payload: &(impl Serialize + ?Sized)) -> Result<Accepted> {
        let mut batch = self.batch();
        batch.add(message, payload)?;
        batch.send()
    }

    /// Starts to collect messages that are sent together, in one round trip.
    pub fn batch(&self) -> Batch<'_> {
        Batch { im: self, messages: Vec::new() }
    }
}

/// Messages that go out together, in order, with one call of the broker.
///
/// Made by [`ImClient::batch`]. Collecting calls nobody and never blocks; a message that cannot be sent is
/// refused when it is added. Nothing goes out before [`send`](Batch::send), and nothing at all from a
/// batch that is dropped.
///
/// ```
/// use imcore::Message;
/// # let im = imcore::example_client()?;
///
/// let mut batch = im.batch();
/// batch.add(Message::to([1, 2]), "you are invited")?;
/// batch.add(Message::to_channel("lobby"), &serde_json::json!({ "invited": [1, 2] }))?;
/// batch.send()?;
/// # Ok::<(), imcore::Error>(())
/// ```
#[must_use = "nothing is sent before send()"]
pub struct Batch<'a> {
    im: &'a ImClient,
    /// In order, not yet split by node.
    messages: Vec<Envelope>,
}

impl<'a> Batch<'a> {
    /// Adds a message, as [`ImClient::send`] would send it.
    ///
    /// # Errors
    /// Those of [`ImClient::send`], without those of the broker. The batch stays as it was.
    pub fn add(&mut self, message: Message, payload: &(impl Serialize + ?Sized)) -> Result<()> {
        check(&message)?;
        let content = self.encode(payload)?;
        let sender = match message.from {
            Some(sender) => self.im.check_sender(sender)?,
            None => self.im.system(),
        };
        let Message { to, receipt, id, volatile: is_volatile, trace, .. } = message;
        let envelope = match to {
            Receivers::Clients(clients) => {
                let receivers = self.receivers(clients)?;
                Envelope::Direct {
                    sender,
                    receivers,
                    content,
                    receipt: receipt != Receipt::None,
                    id,
                    acknowledge: receipt == Receipt::Acknowledged,
                    about: false,
                    trace,
                }
            }
            Receivers::Channel(channel) => {
                Envelope::Channel { sender, channel: Some(channel), content, trace }
            }
            Receivers::Everyone => Envelope::Channel { sender, channel: None, content, trace },
        };
        self.messages.push(match is_volatile {
            true => volatile(envelope),
            false => envelope,
        });
        Ok(())
    }

    /// Sends everything in the order in which it was added. Blocks for one round trip to the broker, or one
    /// per thousand messages and nodes.
    ///
    /// # Errors
    /// Those of the broker, and with [slots](crate::ImClientBuilder::slots) [`Unavailable`](ErrorKind::Unavailable) if nobody owns
    /// a receiver's slot. After [`Interrupted`](ErrorKind::Interrupted) the batch has been sent in part, or
    /// may have been, after [`Timeout`](ErrorKind::Timeout) likewise; after any other nothing was sent.
    pub fn send(self) -> Result<Accepted> {
        self.im.dispatch(self.messages)?;
        Ok(Accepted {})
    }

    /// Who gets it, each once.
    fn receivers(&self, receivers: Vec<ClientId>) -> Result<Vec<ClientId>> {
        receivers.iter().try_for_each(|receiver| self.im.check_kind(receiver))?;
        if receivers.is_empty() {
            return Err(Error::argument(
                "receivers: the list is empty; nobody would get the message",
            ));
        }
        Ok(unique(receivers))
    }

    /// The payload's JSON, if the bus can carry it.
    fn encode(&self, payload: &(impl Serialize + ?Sized)) -> Result<String> {
        let content = serde_json::to_string(payload).map_err(|error| {
            Error::new(ErrorKind::Encode, "the message has no JSON form").with_source(error)
        })?;
        let limit = self.im.message_bytes;
        if content.len() > limit {
            return Err(Error::argument(format!(
                "message: {} bytes of JSON are more than the {limit} that may be sent \
                 (ImClientBuilder::message_bytes); send a reference to what is large",
                content.len()
            )));
        }
        Ok(content)
    }
}

fn volatile(envelope: Envelope) -> Envelope {
    Envelope::Volatile(Box::new(envelope))
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

/// What can be said of a message without knowing the deployment.
fn check(message: &Message) -> Result<()> {
    if let Some(id) = &message.id
        && !(1..=MESSAGE_ID_BYTES).contains(&id.len())
    {
        return Err(Error::argument(format!(
            "id: {} bytes; a message's id has 1 to {MESSAGE_ID_BYTES}",
            id.len()
        )));
    }
    match &message.to {
        Receivers::Clients(_) => return Ok(()),
        Receivers::Channel(channel) => check_channel(channel)?,
        Receivers::Everyone if message.from.as_ref().is_some_and(|sender| !sender.is_system()) => {
            return Err(Error::argument("from: a message to everyone comes from the system"));
        }
        Receivers::Everyone => {}
    }
    if message.receipt != Receipt::None || message.id.is_some() {
        return Err(Error::argument(
            "receipt, id: a message to a channel or to everyone has no receipts; list the clients",
        ));
    }
    Ok(())
}

/// Each client once, in the order in which they come first.
fn unique(mut clients: Vec<ClientId>) -> Vec<ClientId> {
    if clients.len() > 1 {
        let mut seen = HashSet::with_capacity(clients.len());
        clients.retain(|client| seen.insert(client.clone()));
    }
    clients
}

/// What a hook is shown of an envelope to a node.
pub(super) fn send_event<'a>(node: &'a str, envelope: &'a Envelope) -> Option<SendEvent<'a>> {
    match envelope.message().0 {
        Envelope::Direct { sender, receivers, content, receipt, id, acknowledge, .. } => {
            Some(SendEvent {
                node,
                sender,
                receivers,
                channel: None,
                message: content,
                receipt: match (receipt, acknowledge) {
                    (true, true) => Receipt::Acknowledged,
                    (true, false) => Receipt::Sent,
                    (false, _) => Receipt::None,
                },
                id: id.as_deref(),
            })
        }
        Envelope::Channel { sender, channel, content, .. } => Some(SendEvent {
            node,
            sender,
            receivers: &[],
            channel: channel.as_deref(),
            message: content,
            receipt: Receipt::None,
            id: None,
        }),
        Envelope::ForceOffline { .. }
        | Envelope::Probe { .. }
        | Envelope::Volatile(_)
        | Envelope::Forwarded(_)
        | Envelope::Slots { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::broker::MemoryBroker;

    /// A client that notes what it sends, one line per envelope.
    fn noting() -> (ImClient, Arc<Mutex<Vec<String>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&sent);
        let im = ImClient::builder()
            .servers(["n0", "n1"])
            .broker(Arc::new(MemoryBroker::new()))
            .on_send(move |SendEvent { node, sender, receivers, channel, receipt, id, .. }| {
                let line = format!("{node} {sender} {receivers:?} {channel:?} {receipt:?} {id:?}");
                notes.lock().unwrap().push(line);
            });
        (im.build().unwrap(), sent)
    }

    #[test]
    fn a_message_goes_where_it_says_and_as_it_says() {
        let (im, sent) = noting();
        im.send(Message::to([1, 3, 2, 3]).from(7).receipt(Receipt::Sent).id("x"), "a").unwrap();
        im.send(Message::to([4]), "b").unwrap();
        im.send(Message::to_channel("c").from(7), "c").unwrap();
        im.send(Message::to_everyone().from(0), "d").unwrap();
        im.send(Message::to([5]).volatile(), "e").unwrap();
        let expected = [
            "n1 7 [1, 3] None Sent Some(\"x\")",
            "n0 7 [2] None Sent Some(\"x\")",
            "n0 0 [4] None None None",
            "n0 7 [] Some(\"c\") None None",
            "n1 7 [] Some(\"c\") None None",
            "n0 0 [] None None None",
            "n1 0 [] None None None",
            "n1 0 [5] None None None",
        ];
        assert_eq!(*sent.lock().unwrap(), expected);
    }

    #[test]
    fn what_no_node_would_obey_is_refused_before_anything_is_sent() {
        let (im, sent) = noting();
        let mut batch = im.batch();
        for (message, why) in [
            (Message::to(Vec::<i64>::new()), "the list is empty"),
            (Message::to([1]).id(""), "1 to 128"),
            (Message::to([1]).id("x".repeat(129)), "1 to 128"),
            (Message::to_channel(""), "the name is empty"),
            (Message::to_channel("c").receipt(Receipt::Sent), "no receipts"),
            (Message::to_channel("c").id("x"), "no receipts"),
            (Message::to_everyone().receipt(Receipt::Sent), "no receipts"),
            (Message::to_everyone().from(7), "comes from the system"),
        ] {
            let error = batch.add(message, "text").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            assert!(error.to_string().contains(why), "{error}");
        }
        batch.send().unwrap();
        assert!(sent.lock().unwrap().is_empty());
    }
}
