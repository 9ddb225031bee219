//! `ImClient`: connecting, presence, channels. Its calls that send are in `messages`, what operators ask in
//! `overview`.
//!
//! Called on any business thread; each call is at most one blocking round trip to the broker (clearing a
//! channel, and those in `overview`, are a few). Holds no state of its own besides settings and broker.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    broker::{Broker, JoinLimits, Page, PresenceEvent},
    error::{Error, Result},
    helper::event_bus::EventBus,
    id::{ClientId, IdKind},
    nodes::Nodes,
    token::random_token,
    wire::{Envelope, Ticket},
};

/// The business side of imcore: issues connect addresses, sends, manages channels, watches presence.
///
/// A clone is another handle to the same client and costs a few pointers. All methods may be called
/// from many threads at once. Each one blocks for one round trip to the broker,
/// [`clear_chan_client`](Self::clear_chan_client), [`nodes`](Self::nodes) and
/// [`connections_of`](Self::connections_of) for a few; during an outage it fails with a
/// [retryable](Error::is_retryable) error within the broker's deadline and never hangs.
///
/// # Async callers
///
/// There is no async runtime here, and every call but those of [`Batch`](crate::Batch) that only collect
/// blocks for a round trip, up to 5 s while Redis hangs. In an async service give it to a thread that may wait,
/// `tokio::task::spawn_blocking` or actix' `web::block`, with a clone of the client:
///
/// ```text
/// let im = app.im.clone();
/// tokio::task::spawn_blocking(move || im.send_message(0, [to], &message, false)).await??;
/// ```
///
/// - A [`Batch`](crate::Batch) borrows the client: build it within the closure.
/// - Callbacks of [`watch_presence`](Self::watch_presence) run on a thread of their own and are `Fn`: let them put what
///   they hear into a channel that the async side reads.
/// - Dropping an [`EventBus`] waits for its thread, 0.2 s or a callback that is running: drop it where waiting is
///   allowed, or [`detach`](EventBus::detach) it.
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
    pub(super) id_kind: IdKind,
    /// Most bytes of one message.
    pub(super) message_bytes: usize,
    joins: JoinLimits,
    pub(super) on_send: Option<OnSend>,
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
    /// The message's id, if it has one.
    pub id: Option<&'a str>,
}

/// Bytes of a channel's name.
const CHANNEL_NAME_BYTES: usize = 1024;

impl ImClient {
    /// How long a connect address can be used, as in the original.
    pub const TICKET_LIFE: Duration = Duration::from_secs(10);

    pub(super) fn from_parts(
        broker: Arc<dyn Broker>,
        nodes: Nodes,
        url_template: String,
        id_kind: IdKind,
        message_bytes: usize,
        joins: JoinLimits,
        on_send: Option<OnSend>,
    ) -> Self {
        let url_template = url_template.into();
        ImClient { broker, nodes, url_template, id_kind, message_bytes, joins, on_send }
    }

    /// The broker that this client uses, to be shared with a server or another client.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// Which ids clients may have here.
    pub fn id_kind(&self) -> IdKind {
        self.id_kind
    }

    /// The id that stands for the system: the sender of what no client sends.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// im.send_message(im.system(), [42], "the building closes at ten", false)?;
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn system(&self) -> ClientId {
        self.id_kind.system()
    }

    // --- Connecting ------------------------------------------------------------------------------

    /// Issues the address at which `client` may connect once within
    /// [`TICKET_LIFE`](Self::TICKET_LIFE).
    ///
    /// `meta` is the business's note about the connection (address, device, ...); it comes back in the
    /// online and offline events. Hand the address to the client over your own authenticated API: who
    /// holds it connects as `client`.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for the system's id (0, which is what a missing id becomes
    /// in many languages) and for one of another [kind](IdKind).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// // In the web API, once the user has logged in; the page opens a WebSocket there.
    /// let url = im.prev_connect_server(42, Some(r#"{"device": "phone"}"#))?;
    /// assert!(url.starts_with("ws://127.0.0.1:6001/ws?token="));
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn prev_connect_server(
        &self,
        client: impl Into<ClientId>,
        meta: Option<&str>,
    ) -> Result<String> {
        let client = self.check_user(client.into())?;
        let token = random_token()?;
        self.broker.put_ticket(&token, &Ticket::new(client, meta), Self::TICKET_LIFE)?;
        let index = client.node_of(self.nodes.len());
        let url = self
            .url_template
            .replace("{server}", self.nodes.name(index))
            .replace("{index}", &index.to_string());
        // A template may have a query of its own, for the proxy in front.
        let joint = match url.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        Ok(format!("{url}{joint}token={token}"))
    }

    /// Closes all connections of `client` with close code 4001, "do not reconnect", and voids the addresses that
    /// were issued for it before: it cannot come back with one of them. One that is issued afterwards is good.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// im.force_offline(42)?; // no effect if 42 is not there
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn force_offline(&self, client: impl Into<ClientId>) -> Result<()> {
        let client = self.check_kind(client.into())?;
        // First, so that none is taken once the node has closed what there is.
        self.broker.void_tickets(client)?;
        self.broker.publish(&[(self.nodes.owner(client), Envelope::ForceOffline { client })])
    }

    // --- Presence --------------------------------------------------------------------------------

    /// All clients that have a connection, in no order. Read in steps of a thousand, each a round trip; see
    /// [`Page`] for who is in it that comes or goes meanwhile.
    pub fn get_client_list_by_online(&self) -> Result<Vec<ClientId>> {
        self.broker.online_clients()
    }

    /// About `limit` of the clients that have a connection: those after the page whose
    /// [`next`](Page::next) is `after`. Costs what it returns, also where many are online.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if `after` was not given by such a page.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// let mut after = None;
    /// loop {
    ///     let page = im.online_page(after.as_deref(), 500)?;
    ///     println!("{:?} of {}", page.items, page.total);
    ///     match page.next {
    ///         Some(next) => after = Some(next),
    ///         None => break,
    ///     }
    /// }
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.broker.online_page(after, limit)
    }

    /// Whether `client` has a connection.
    pub fn has_online(&self, client: impl Into<ClientId>) -> Result<bool> {
        Ok(self.broker.are_online(&[client.into()])?.first().copied().unwrap_or(false))
    }

    /// Whether each of `clients` has a connection, in their order.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// assert_eq!(im.has_online_many([1, 2, 3])?, [false, false, false]);
    /// # Ok::<(), imcore::Error>(())
    /// ```
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
    /// What happens during an outage of the broker is missed, and nobody is told: whoever keeps what the
    /// events say takes [`watch_presence`](Self::watch_presence), of which this is the shorter form. Runs,
    /// ends and fails as that does.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// let events = im.event_bus(
    ///     |client, meta| println!("{client} is online: {meta:?}"),
    ///     |client, _| println!("one connection less of {client}"),
    /// )?;
    /// assert!(events.is_listening());
    /// events.stop(); // or keep it, or detach()
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn event_bus(
        &self,
        online: impl Fn(ClientId, Option<String>) + Send + 'static,
        offline: impl Fn(ClientId, Option<String>) + Send + 'static,
    ) -> Result<EventBus> {
        self.watch_presence(move |event| match event {
            PresenceEvent::Online(ticket) => online(ticket.client(), ticket.meta()),
            PresenceEvent::Offline(ticket) => offline(ticket.client(), ticket.meta()),
            PresenceEvent::Listening => {}
        })
    }

    /// Calls `callback` for every connection that opens or ends on any node, and with
    /// [`Listening`](PresenceEvent::Listening) whenever the subscription stands: at the beginning, and
    /// after each gap. Every event from there on comes; those before it may have been missed, so whoever
    /// keeps a list of who is online asks for it then.
    ///
    /// Runs on a thread of its own, one call at a time, reconnects for ever, and ends when the returned
    /// handle is dropped or [stopped](EventBus::stop). The first attempt to subscribe is made before this
    /// returns.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if the thread cannot be started.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// use std::{collections::HashSet, sync::Mutex};
    /// use imcore::broker::PresenceEvent;
    ///
    /// let online = Arc::new(Mutex::new(HashSet::new()));
    /// let asking = im.clone();
    /// let events = im.watch_presence(move |event| {
    ///     let mut online = online.lock().unwrap();
    ///     match event {
    ///         PresenceEvent::Listening => match asking.get_client_list_by_online() {
    ///             Ok(clients) => *online = clients.into_iter().collect(),
    ///             Err(error) => eprintln!("try again: {error}"),
    ///         },
    ///         PresenceEvent::Online(ticket) => drop(online.insert(ticket.client())),
    ///         // Of a client with several connections, one ended: ask.
    ///         PresenceEvent::Offline(ticket) => {
    ///             if !asking.has_online(ticket.client()).unwrap_or(true) {
    ///                 online.remove(&ticket.client());
    ///             }
    ///         }
    ///     }
    /// })?;
    /// events.stop();
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn watch_presence(
        &self,
        callback: impl Fn(PresenceEvent) + Send + 'static,
    ) -> Result<EventBus> {
        EventBus::start(self.broker.subscribe_events(), callback)
    }

    // --- Channels --------------------------------------------------------------------------------

    /// Makes one client a member of many channels. Joining twice has no effect.
    ///
    /// A client leaves its channels when its last connection ends. If it is known to be coming back then (an
    /// address of it is out, see [`prev_connect_server`](Self::prev_connect_server), or its node was away), it has 10 s. So
    /// a join that follows the issue of an address is not undone by the end of an older connection.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a name that is empty or longer than 1,024 bytes, for the
    /// system's id and for one of another [kind](IdKind); nothing is joined then. Also if the client is in as many
    /// channels as it [may be](crate::ImClientBuilder::channels_per_client); others are joined then, and the error
    /// says how many.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// im.join_chan(42, ["lobby", "news"])?;
    /// assert_eq!(im.get_chan_list_by_client_id(42)?.len(), 2);
    /// assert_eq!(im.get_chan_client_list("lobby")?, [42.into()]);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn join_chan<S: AsRef<str>>(
        &self,
        client: impl Into<ClientId>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        let client = self.check_user(client.into())?;
        self.each_channel(client, channels, |pairs| self.broker.join_within(pairs, &self.joins))
    }

    /// Makes many clients members of one channel; see [`join_chan`](Self::join_chan).
    pub fn join_chan_clients<C: Into<ClientId>>(
        &self,
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        self.each_client(channel, clients, |pairs| {
            pairs.iter().try_for_each(|(client, _)| self.check_user(*client).map(drop))?;
            self.broker.join_within(pairs, &self.joins)
        })
    }

    /// Ends the membership of one client in many channels. Leaving twice has no effect.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for an empty name; nothing is left then.
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

    /// Members of the channel, online or not, in no order; read in steps as
    /// [`get_client_list_by_online`](Self::get_client_list_by_online) is.
    pub fn get_chan_client_list(&self, channel: &str) -> Result<Vec<ClientId>> {
        self.broker.channel_members(channel)
    }

    /// About `limit` members of the channel, as [`online_page`](Self::online_page).
    pub fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        self.broker.members_page(channel, after, limit)
    }

    /// Ends the membership of all members of the channel that are not online. Two round trips to the
    /// broker, one more for every 100,000 members.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// im.join_chan_clients("lobby", [42, 43])?; // neither has connected
    /// im.clear_chan_client("lobby")?;
    /// assert_eq!(im.get_chan_online("lobby")?, 0);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn clear_chan_client(&self, channel: &str) -> Result<()> {
        self.broker.clear_channel(channel)
    }

    /// All channels with their number of members, in no order; read in steps as
    /// [`get_client_list_by_online`](Self::get_client_list_by_online) is.
    pub fn get_chan_list(&self) -> Result<Vec<(String, i64)>> {
        self.broker.channels()
    }

    /// About `limit` channels with their number of members, as [`online_page`](Self::online_page).
    pub fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        self.broker.channels_page(after, limit)
    }

    /// The channels that `client` is in, in no order.
    pub fn get_chan_list_by_client_id(&self, client: impl Into<ClientId>) -> Result<Vec<String>> {
        Ok(self.broker.channels_of(&[client.into()])?.pop().unwrap_or_default())
    }

    /// Number of members of the channel; 0 if there is none of that name.
    pub fn get_chan_online(&self, channel: &str) -> Result<i64> {
        self.broker.channel_size(channel)
    }

    /// An id that a client of this deployment can have.
    pub(super) fn check_kind(&self, client: ClientId) -> Result<ClientId> {
        match self.id_kind.admits(client) {
            true => Ok(client),
            false => Err(Error::argument(format!(
                "client {client}: this deployment has ids of the kind {}; one of another kind would end \
                 the .NET processes that hear of it",
                self.id_kind
            ))),
        }
    }

    /// As [`check_kind`](Self::check_kind), and not the system.
    fn check_user(&self, client: ClientId) -> Result<ClientId> {
        match client.is_system() {
            true => Err(Error::argument(format!(
                "client {client}: this id stands for the system; nobody connects or joins as it"
            ))),
            false => self.check_kind(client),
        }
    }

    /// The sender as it is written on the wire: the system in the form of this deployment.
    pub(super) fn check_sender(&self, sender: ClientId) -> Result<ClientId> {
        match sender.is_system() {
            true => Ok(self.system()),
            false => self.check_kind(sender),
        }
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

pub(super) fn check_channel(channel: &str) -> Result<()> {
    match channel.len() {
        0 => Err(Error::argument("channel: the name is empty")),
        1..=CHANNEL_NAME_BYTES => Ok(()),
        length => Err(Error::argument(format!(
            "channel: the name has {length} bytes; at most {CHANNEL_NAME_BYTES} are taken"
        ))),
    }
}
