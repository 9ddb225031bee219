//! What business code sends: the sending calls of `ImClient`, and `Batch`, of which each is one of a single
//! message.

use std::{collections::HashSet, fmt};

use serde::Serialize;

use crate::{
    error::{Error, ErrorKind, Result},
    helper::{
        channels::check_channel,
        client::{ImClient, SendEvent},
    },
    id::ClientId,
    token::random_u64,
    wire::{Envelope, MESSAGE_ID_BYTES},
};

/// Receivers of one envelope: some 400 KB of GUIDs. A longer list goes out in several.
const RECEIVERS: usize = 10_000;

impl ImClient {
    /// Sends `message` from `sender` to `receivers`, each once however often it is listed.
    ///
    /// The receivers' sockets get the message's JSON text. With `receipt` the sender's own sockets get,
    /// for each receiver other than itself, `{"content", "receipt", "to", "status"}`. Sender 0 (or the
    /// all-zero GUID) is the system and gets no receipts. Messages of one thread to one receiver keep
    /// their order; receipts come in no promised order. Delivery is at most once: who is offline misses
    /// the message. How long a receipt's content may be, and what stands for longer content:
    /// [`send_with_receipts`](Self::send_with_receipts).
    ///
    /// # Errors
    /// [`Encode`](ErrorKind::Encode) if `message` is not serialisable; [`Argument`](ErrorKind::Argument) if
    /// its JSON is longer than [`message_bytes`](crate::ImClientBuilder::message_bytes) (1 MiB by default), if
    /// there is no receiver, and for an id of another [kind](crate::IdKind). Nothing was sent then.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// // Any JSON: a string, a map, or a type of yours that implements `Serialize`.
    /// im.send_message(7, [42, 43], &serde_json::json!({ "text": "hello" }), true)?;
    /// im.send_message(0, [42], "from the system", false)?;
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn send_message<C: Into<ClientId>>(
        &self,
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        receipt: bool,
    ) -> Result<()> {
        let mut batch = self.batch();
        batch.message(sender, receivers, message, receipt)?;
        batch.send()
    }

    /// Sends as [`send_message`](Self::send_message) does with receipts, under an id that every receipt
    /// repeats: `{"content", "receipt", "to", "status", "id"}`. A node leaves content of more than
    /// [`receipt_content_bytes`](crate::server::Limits::receipt_content_bytes) out of receipts (4 KiB by
    /// default); the id is then what tells the message.
    ///
    /// `id` is yours to choose, 1 to 128 bytes; with `None` a fresh one is made. Returns the id.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message); [`Argument`](ErrorKind::Argument) for an unusable id.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// let id = im.send_with_receipts(7, [42, 43], "a long story", None)?;
    /// assert_eq!(im.send_with_receipts(7, [42], "hello", Some("order 17"))?, "order 17");
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn send_with_receipts<C: Into<ClientId>>(
        &self,
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        id: Option<&str>,
    ) -> Result<String> {
        let mut batch = self.batch();
        let id = batch.message_with_receipts(sender, receivers, message, id)?;
        batch.send()?;
        Ok(id)
    }

    /// Sends `message` to all members of `channel`; a sender with one connection does not get its own.
    ///
    /// Reaches everybody who joined before this call, is connected and has not left when the node hands the
    /// message on, without reading the member list.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message); [`Argument`](ErrorKind::Argument) for an empty name too,
    /// which would be a broadcast on the wire.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// im.join_chan(42, ["lobby"])?;
    /// im.send_chan_message(7, "lobby", "hello, everybody here")?;
    /// assert!(im.send_chan_message(7, "", "hello").is_err());
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn send_chan_message(
        &self,
        sender: impl Into<ClientId>,
        channel: &str,
        message: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        let mut batch = self.batch();
        batch.chan_message(sender, channel, message)?;
        batch.send()
    }

    /// Sends `message` to every connection of every node.
    ///
    /// # Errors
    /// As [`send_message`](Self::send_message).
    pub fn send_broadcast_message(&self, message: &(impl Serialize + ?Sized)) -> Result<()> {
        let mut batch = self.batch();
        batch.broadcast_message(message)?;
        batch.send()
    }

    /// Starts to collect messages that are sent together, in one round trip.
    pub fn batch(&self) -> Batch<'_> {
        Batch { im: self, outgoing: Vec::new() }
    }
}

/// Messages that go out together, in order, with one call of the broker.
///
/// Made by [`ImClient::batch`]. Collecting calls nobody and never blocks; a message that cannot be sent is
/// refused when it is added. Nothing goes out before [`send`](Batch::send), and nothing at all from a
/// batch that is dropped.
///
/// ```
/// # use std::sync::Arc;
/// # use imcore::{ImClient, broker::MemoryBroker};
/// # let broker = Arc::new(MemoryBroker::new());
/// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
/// let mut batch = im.batch();
/// batch.message(0, [1, 2], "you are invited", false)?;
/// batch.chan_message(0, "lobby", &serde_json::json!({ "invited": [1, 2] }))?;
/// batch.send()?;
/// # Ok::<(), imcore::Error>(())
/// ```
#[must_use = "nothing is sent before send()"]
pub struct Batch<'a> {
    im: &'a ImClient,
    outgoing: Vec<(&'a str, Envelope)>,
}

impl<'a> Batch<'a> {
    /// Adds what [`ImClient::send_message`] would send.
    ///
    /// # Errors
    /// [`Encode`](ErrorKind::Encode) if `message` is not serialisable; [`Argument`](ErrorKind::Argument) if
    /// its JSON is too long. The batch stays as it was.
    pub fn message<C: Into<ClientId>>(
        &mut self,
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        receipt: bool,
    ) -> Result<()> {
        let content = self.encode(message)?;
        self.add_direct(sender.into(), receivers, content, receipt, None)
    }

    /// Adds what [`ImClient::send_with_receipts`] would send; returns the message's id.
    ///
    /// # Errors
    /// As [`ImClient::send_with_receipts`], without those of the broker. The batch stays as it was.
    pub fn message_with_receipts<C: Into<ClientId>>(
        &mut self,
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        id: Option<&str>,
    ) -> Result<String> {
        let id = message_id(id)?;
        let content = self.encode(message)?;
        self.add_direct(sender.into(), receivers, content, true, Some(&id))?;
        Ok(id)
    }

    /// Adds an envelope for each node that owns a receiver, and more of them for a long list.
    fn add_direct<C: Into<ClientId>>(
        &mut self,
        sender: ClientId,
        receivers: impl IntoIterator<Item = C>,
        content: String,
        receipt: bool,
        id: Option<&str>,
    ) -> Result<()> {
        let sender = self.im.check_sender(sender)?;
        let mut seen = HashSet::new();
        let mut unique = Vec::new();
        for receiver in receivers {
            let receiver = self.im.check_kind(receiver.into())?;
            if seen.insert(receiver) {
                unique.push(receiver);
            }
        }
        let by_node = self.im.placement.by_owner(unique);
        if by_node.is_empty() {
            return Err(Error::argument(
                "receivers: the list is empty; nobody would get the message",
            ));
        }
        for (node, receivers) in &by_node {
            self.outgoing.extend(receivers.chunks(RECEIVERS).map(|receivers| {
                let (receivers, content) = (receivers.to_vec(), content.clone());
                let id = id.map(str::to_owned);
                let envelope = Envelope::Direct { sender, receivers, content, receipt, id };
                (*node, envelope)
            }));
        }
        Ok(())
    }

    /// Adds what [`ImClient::send_chan_message`] would send.
    ///
    /// # Errors
    /// As [`message`](Self::message); [`Argument`](ErrorKind::Argument) for an empty name too. The batch stays
    /// as it was.
    pub fn chan_message(
        &mut self,
        sender: impl Into<ClientId>,
        channel: &str,
        message: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        check_channel(channel)?;
        self.add_for_all_nodes(sender.into(), Some(channel), message)
    }

    /// Adds what [`ImClient::send_broadcast_message`] would send.
    ///
    /// # Errors
    /// As [`message`](Self::message); the batch stays as it was.
    pub fn broadcast_message(&mut self, message: &(impl Serialize + ?Sized)) -> Result<()> {
        self.add_for_all_nodes(self.im.id_kind.system(), None, message)
    }

    /// Sends everything in the order in which it was added. Blocks for one round trip to the broker, or one
    /// per thousand messages and nodes.
    ///
    /// # Errors
    /// Those of the broker. After [`Interrupted`](ErrorKind::Interrupted) the batch has been sent in part, or
    /// may have been, after [`Timeout`](ErrorKind::Timeout) likewise; after any other nothing was sent.
    pub fn send(self) -> Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        if let Some(hook) = &self.im.on_send {
            let events = self.outgoing.iter().filter_map(|(node, sent)| send_event(node, sent));
            events.for_each(|event| hook(&event));
        }
        self.im.broker().publish(&self.outgoing)
    }

    fn add_for_all_nodes(
        &mut self,
        sender: ClientId,
        channel: Option<&str>,
        message: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        let sender = self.im.check_sender(sender)?;
        let content = self.encode(message)?;
        self.outgoing.extend(self.im.placement.nodes().map(|node| {
            let (channel, content) = (channel.map(str::to_owned), content.clone());
            (node, Envelope::Channel { sender, channel, content })
        }));
        Ok(())
    }

    /// The message's JSON, if the bus can carry it.
    fn encode(&self, message: &(impl Serialize + ?Sized)) -> Result<String> {
        let content = serde_json::to_string(message).map_err(|error| {
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

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("outgoing", &self.outgoing.len()).finish_non_exhaustive()
    }
}

/// The id that was chosen, or a fresh one.
fn message_id(chosen: Option<&str>) -> Result<String> {
    match chosen {
        None => Ok(format!("{:016x}{:016x}", random_u64()?, random_u64()?)),
        Some(id) if (1..=MESSAGE_ID_BYTES).contains(&id.len()) => Ok(id.to_owned()),
        Some(id) => Err(Error::argument(format!(
            "id: {} bytes; a message's id has 1 to {MESSAGE_ID_BYTES}",
            id.len()
        ))),
    }
}

fn send_event<'a>(server: &'a str, envelope: &'a Envelope) -> Option<SendEvent<'a>> {
    match envelope {
        Envelope::Direct { sender, receivers, content, receipt, id } => Some(SendEvent {
            server,
            sender: *sender,
            receivers,
            channel: None,
            message: content,
            receipt: *receipt,
            id: id.as_deref(),
        }),
        Envelope::Channel { sender, channel, content } => Some(SendEvent {
            server,
            sender: *sender,
            receivers: &[],
            channel: channel.as_deref(),
            message: content,
            receipt: false,
            id: None,
        }),
        Envelope::ForceOffline { .. } | Envelope::Probe { .. } => None,
    }
}
