//! `ImClient`: every call that business code makes.
//!
//! Called on any business thread; each call is at most one blocking round trip to the broker. Holds no
//! state of its own besides settings and broker.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    broker::Broker,
    error::{Error, ErrorKind, Result},
    helper::event_bus::EventBus,
    id::{ClientId, IdKind},
    nodes::Nodes,
    token::random_token,
    wire::{Envelope, Ticket},
};

/// How long a connect token can be used, as in the original.
const TICKET_LIFE: Duration = Duration::from_secs(10);

/// The business side of imcore: issues connect addresses, sends, manages channels, watches presence.
///
/// A clone is another handle to the same client and costs a few pointers. All methods may be called
/// from many threads at once. Each one blocks for one round trip to the broker; during an outage it
/// fails with a [retryable](Error::is_retryable) error within the broker's deadline and never hangs.
///
/// ```
/// use std::sync::Arc;
/// use imcore::{ImClient, broker::MemoryBroker};
///
/// let im = ImClient::builder()
///     .servers(["127.0.0.1:6001"])
///     .broker(Arc::new(MemoryBroker::new()))
///     .build()?;
/// let url = im.prev_connect_server(1, Some("from the web"))?;
/// assert!(url.starts_with("ws://127.0.0.1:6001/ws?token="));
/// im.join_chan(1, ["lobby"])?;
/// im.send_chan_message(0, "lobby", &serde_json::json!({ "text": "welcome" }))?;
/// assert_eq!(im.get_chan_online("lobby")?, 1);
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Clone)]
pub struct ImClient {
    broker: Arc<dyn Broker>,
    pub(super) nodes: Nodes,
    /// `{server}` and `{index}` are still to be filled in.
    url_template: Arc<str>,
    id_kind: IdKind,
    on_send: Option<OnSend>,
}

/// Called with every send, on the sending thread, before it goes to the broker.
pub(super) type OnSend = Arc<dyn Fn(&SendEvent<'_>) + Send + Sync>;

/// One envelope on its way to one node, as an [`on_send`](crate::ImClientBuilder::on_send) hook sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SendEvent<'a> {
    /// The node it goes to, as listed in [`servers`](crate::ImClientBuilder::servers).
    pub server: &'a str,
    /// Who sends it.
    pub sender: ClientId,
    /// Receivers on that node; empty for a channel message or a broadcast.
    pub receivers: &'a [ClientId],
    /// The channel; `None` for a direct message or a broadcast.
    pub channel: Option<&'a str>,
    /// The message as JSON: the text that the receivers' sockets get.
    pub message: &'a str,
    /// Whether the sender wants receipts.
    pub receipt: bool,
}

impl ImClient {
    pub(super) fn from_parts(
        broker: Arc<dyn Broker>,
        nodes: Nodes,
        url_template: String,
        id_kind: IdKind,
        on_send: Option<OnSend>,
    ) -> Self {
        ImClient { broker, nodes, url_template: url_template.into(), id_kind, on_send }
    }

    /// The broker that this client uses, to be shared with a server or another client.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    // --- Connecting ------------------------------------------------------------------------------

    /// Issues the address at which `client` may connect once within 10 seconds.
    ///
    /// `meta` is the business's note about the connection (address, device, ...); it comes back in the
    /// online and offline events. Hand the address to the client over your own authenticated API: who
    /// holds it connects as `client`.
    pub fn prev_connect_server(
        &self,
        client: impl Into<ClientId>,
        meta: Option<&str>,
    ) -> Result<String> {
        let client = client.into();
        let token = random_token()?;
        self.broker.put_ticket(&token, &Ticket::new(client, meta), TICKET_LIFE)?;
        let index = client.node_of(self.nodes.len());
        let url = self
            .url_template
            .replace("{server}", self.nodes.name(index))
            .replace("{index}", &index.to_string());
        Ok(format!("{url}?token={token}"))
    }

    /// Closes all connections of `client` with close code 4001: "do not reconnect".
    pub fn force_offline(&self, client: impl Into<ClientId>) -> Result<()> {
        let client = client.into();
        self.broker.publish(&[(self.nodes.owner(client), Envelope::ForceOffline { client })])
    }

    // --- Messages --------------------------------------------------------------------------------

    /// Sends `message` from `sender` to `receivers`, each once however often it is listed.
    ///
    /// The receivers' sockets get the message's JSON text. With `receipt` the sender's own sockets get,
    /// for each receiver other than itself, `{"content", "receipt", "to", "status"}`. Sender 0 (or the
    /// all-zero GUID) is the system and gets no receipts. Messages of one thread to one receiver keep
    /// their order; receipts come in no promised order. Delivery is at most once: who is offline misses
    /// the message.
    ///
    /// # Errors
    /// [`Encode`](ErrorKind::Encode) if `message` is not serialisable; nothing was sent then.
    pub fn send_message<C: Into<ClientId>>(
        &self,
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        receipt: bool,
    ) -> Result<()> {
        let sender = sender.into();
        let content = encode(message)?;
        let mut seen = HashSet::new();
        let mut by_node: Vec<(usize, Vec<ClientId>)> = Vec::new();
        for receiver in receivers {
            let receiver = receiver.into();
            if !seen.insert(receiver) {
                continue;
            }
            let node = receiver.node_of(self.nodes.len());
            match by_node.iter_mut().find(|(index, _)| *index == node) {
                Some((_, receivers)) => receivers.push(receiver),
                None => by_node.push((node, vec![receiver])),
            }
        }
        let outgoing: Vec<_> = by_node
            .into_iter()
            .map(|(node, receivers)| {
                let content = content.clone();
                (self.nodes.name(node), Envelope::Direct { sender, receivers, content, receipt })
            })
            .collect();
        self.send(&outgoing)
    }

    /// Sends `message` to all members of `channel`; a sender with one connection does not get its own.
    ///
    /// Reaches everybody who joined before this call, is connected and has not left when the node hands the
    /// message on, without reading the member list.
    ///
    /// # Errors
    /// [`Encode`](ErrorKind::Encode); [`Argument`](ErrorKind::Argument) for an empty name, which would
    /// be a broadcast on the wire.
    pub fn send_chan_message(
        &self,
        sender: impl Into<ClientId>,
        channel: &str,
        message: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        check_channel(channel)?;
        self.send_to_all_nodes(sender.into(), Some(channel), message)
    }

    /// Sends `message` to every connection of every node.
    pub fn send_broadcast_message(&self, message: &(impl Serialize + ?Sized)) -> Result<()> {
        self.send_to_all_nodes(self.id_kind.system(), None, message)
    }

    fn send_to_all_nodes(
        &self,
        sender: ClientId,
        channel: Option<&str>,
        message: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        let content = encode(message)?;
        let outgoing: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                let (channel, content) = (channel.map(str::to_owned), content.clone());
                (node, Envelope::Channel { sender, channel, content })
            })
            .collect();
        self.send(&outgoing)
    }

    fn send(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        if outgoing.is_empty() {
            return Ok(());
        }
        if let Some(hook) = &self.on_send {
            outgoing
                .iter()
                .filter_map(|(node, sent)| send_event(node, sent))
                .for_each(|e| hook(&e));
        }
        self.broker.publish(outgoing)
    }

    // --- Presence --------------------------------------------------------------------------------

    /// All clients that have a connection, in no order.
    pub fn get_client_list_by_online(&self) -> Result<Vec<ClientId>> {
        self.broker.online_clients()
    }

    /// Whether `client` has a connection.
    pub fn has_online(&self, client: impl Into<ClientId>) -> Result<bool> {
        Ok(self.broker.are_online(&[client.into()])?.first().copied().unwrap_or(false))
    }

    /// Whether each of `clients` has a connection, in their order.
    pub fn has_online_many<C: Into<ClientId>>(
        &self,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<Vec<bool>> {
        let clients: Vec<_> = clients.into_iter().map(Into::into).collect();
        self.broker.are_online(&clients)
    }

    /// Calls `online` and `offline` for every connection that opens or ends on any node, with the
    /// client and the meta data of the connection.
    ///
    /// Runs on a thread of its own, reconnects for ever, and ends when the returned handle is dropped
    /// or [stopped](EventBus::stop). Events during an outage of the broker are missed. The first attempt
    /// to subscribe is made before this returns.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) if the thread cannot be started.
    pub fn event_bus(
        &self,
        online: impl Fn(ClientId, Option<String>) + Send + 'static,
        offline: impl Fn(ClientId, Option<String>) + Send + 'static,
    ) -> Result<EventBus> {
        EventBus::start(self.broker.subscribe_events(), online, offline)
    }

    // --- Channels --------------------------------------------------------------------------------

    /// Makes one client a member of many channels. Joining twice has no effect.
    ///
    /// A client leaves its channels when its last connection ends.
    ///
    /// # Errors
    /// [`Argument`](ErrorKind::Argument) for an empty name; nothing is joined then.
    pub fn join_chan<S: AsRef<str>>(
        &self,
        client: impl Into<ClientId>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        self.each_channel(client.into(), channels, |pairs| self.broker.join(pairs))
    }

    /// Makes many clients members of one channel; see [`join_chan`](Self::join_chan).
    pub fn join_chan_clients<C: Into<ClientId>>(
        &self,
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        self.each_client(channel, clients, |pairs| self.broker.join(pairs))
    }

    /// Ends the membership of one client in many channels. Leaving twice has no effect.
    ///
    /// # Errors
    /// [`Argument`](ErrorKind::Argument) for an empty name; nothing is left then.
    pub fn leave_chan<S: AsRef<str>>(
        &self,
        client: impl Into<ClientId>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        self.each_channel(client.into(), channels, |pairs| self.broker.leave(pairs))
    }

    /// Ends the membership of many clients in one channel; see [`leave_chan`](Self::leave_chan).
    pub fn leave_chan_clients<C: Into<ClientId>>(
        &self,
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        self.each_client(channel, clients, |pairs| self.broker.leave(pairs))
    }

    /// Members of the channel, online or not, in no order.
    pub fn get_chan_client_list(&self, channel: &str) -> Result<Vec<ClientId>> {
        self.broker.channel_members(channel)
    }

    /// Ends the membership of all members of the channel that are not online.
    pub fn clear_chan_client(&self, channel: &str) -> Result<()> {
        self.broker.clear_channel(channel)
    }

    /// All channels with their number of members, in no order.
    pub fn get_chan_list(&self) -> Result<Vec<(String, i64)>> {
        self.broker.channels()
    }

    /// The channels that `client` is in, in no order.
    pub fn get_chan_list_by_client_id(&self, client: impl Into<ClientId>) -> Result<Vec<String>> {
        Ok(self.broker.channels_of(&[client.into()])?.pop().unwrap_or_default())
    }

    /// Number of members of the channel; 0 if there is none of that name.
    pub fn get_chan_online(&self, channel: &str) -> Result<i64> {
        self.broker.channel_size(channel)
    }

    fn each_channel<S: AsRef<str>>(
        &self,
        client: ClientId,
        channels: impl IntoIterator<Item = S>,
        call: impl FnOnce(&[(ClientId, &str)]) -> Result<()>,
    ) -> Result<()> {
        let channels: Vec<S> = channels.into_iter().collect();
        let pairs: Vec<_> = channels.iter().map(|channel| (client, channel.as_ref())).collect();
        pairs.iter().try_for_each(|(_, channel)| check_channel(channel))?;
        call(&pairs)
    }

    fn each_client<C: Into<ClientId>>(
        &self,
        channel: &str,
        clients: impl IntoIterator<Item = C>,
        call: impl FnOnce(&[(ClientId, &str)]) -> Result<()>,
    ) -> Result<()> {
        check_channel(channel)?;
        let pairs: Vec<_> = clients.into_iter().map(|client| (client.into(), channel)).collect();
        call(&pairs)
    }
}

impl fmt::Debug for ImClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImClient")
            .field("broker", &self.broker.describe())
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

fn encode(message: &(impl Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(message).map_err(|error| {
        Error::new(ErrorKind::Encode, "the message has no JSON form").with_source(error)
    })
}

fn check_channel(channel: &str) -> Result<()> {
    if channel.is_empty() {
        return Err(Error::argument("channel: the name is empty"));
    }
    Ok(())
}

fn send_event<'a>(server: &'a str, envelope: &'a Envelope) -> Option<SendEvent<'a>> {
    match envelope {
        Envelope::Direct { sender, receivers, content, receipt } => Some(SendEvent {
            server,
            sender: *sender,
            receivers,
            channel: None,
            message: content,
            receipt: *receipt,
        }),
        Envelope::Channel { sender, channel, content } => Some(SendEvent {
            server,
            sender: *sender,
            receivers: &[],
            channel: channel.as_deref(),
            message: content,
            receipt: false,
        }),
        Envelope::ForceOffline { .. } | Envelope::Probe { .. } => None,
    }
}
