//! `ImClient`: what it holds, connecting, and who may be named in a call. Its other calls are in `batch` (sending),
//! `channels`, `presence` and, for operators, `overview`.
//!
//! Called on any business thread; calls block for a round trip to the broker. Holds no state of its own besides
//! settings and broker, and knows no backend.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    broker::{Broker, JoinLimits},
    error::{Error, Result},
    helper::{message::Receipt, public_url, routes::Routes},
    id::{ClientId, IdKind},
    token::random_token,
    wire::{Envelope, Ticket},
};

/// The business side of imcore: issues connect addresses, sends, manages channels, watches presence.
///
/// A clone is another handle to the same client and costs a few pointers. All methods may be called
/// from many threads at once. Each one blocks for one round trip to the broker,
/// [`kick`](Self::kick), [`prune_channel`](Self::prune_channel), [`nodes`](Self::nodes),
/// [`connections_of`](Self::connections_of) and whole lists for more; during an outage it fails with a
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
/// tokio::task::spawn_blocking(move || im.send(Message::to([to]), &payload)).await??;
/// ```
///
/// - A [`Batch`](crate::Batch) borrows the client: build it within the closure.
/// - Callbacks of [`watch_presence`](Self::watch_presence) run on a thread of their own and are `Fn`: let them
///   put what they hear into a channel that the async side reads.
/// - Dropping a [`PresenceWatch`](crate::PresenceWatch) waits for its thread, 0.2 s or a callback that is running:
///   drop it where waiting is allowed, or [`detach`](crate::PresenceWatch::detach) it.
///
/// ```
/// use std::sync::Arc;
/// use imcore::{ImClient, Message, broker::MemoryBroker};
///
/// let im = ImClient::builder()
///     .servers(["127.0.0.1:6001"])
///     .broker(Arc::new(MemoryBroker::new()))
///     .build()?;
/// let url = im.connect_url(1, Some("from the web"))?;
/// assert!(url.starts_with("ws://127.0.0.1:6001/ws?token="));
/// im.join([1], ["lobby"])?;
/// im.send(Message::to_channel("lobby"), &serde_json::json!({ "text": "welcome" }))?;
/// assert_eq!(im.channel_size("lobby")?, 1);
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Clone)]
pub struct ImClient {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) routes: Routes,
    /// `{server}` and `{index}` are still to be filled in.
    pub(super) url_template: Arc<str>,
    pub(super) id_kind: IdKind,
    /// Maximum size of one message in bytes of JSON.
    pub(super) message_bytes: usize,
    pub(super) joins: JoinLimits,
    pub(super) on_send: Option<OnSend>,
}

/// Called with every send, on the sending thread, before it goes to the broker.
pub(super) type OnSend = Arc<dyn Fn(&SendEvent<'_>) + Send + Sync>;

/// One envelope on its way to one node, as an [`on_send`](crate::ImClientBuilder::on_send) hook sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SendEvent<'a> {
    /// The node it goes to, as listed in [`servers`](crate::ImClientBuilder::servers).
    pub node: &'a str,
    /// Who sends it.
    pub sender: &'a ClientId,
    /// Receivers on that node; empty for a channel message or a broadcast.
    pub receivers: &'a [ClientId],
    /// The channel; `None` for a direct message or a broadcast.
    pub channel: Option<&'a str>,
    /// The message as JSON: the text that the receivers' sockets get.
    pub message: &'a str,
    /// What the sender is told.
    pub receipt: Receipt,
    /// The message's id, if it has one.
    pub id: Option<&'a str>,
}

impl ImClient {
    /// How long a connect address can be used, as in the original.
    pub const TICKET_LIFE: Duration = Ticket::LIFE;

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
    /// # let im = imcore::example_client()?;
    /// assert!(im.system().is_system());
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn system(&self) -> ClientId {
        self.id_kind.system()
    }

    // --- Connecting ------------------------------------------------------------------------------

    /// Issues the address at which `client` may connect once within
    /// [`TICKET_LIFE`](Self::TICKET_LIFE).
    ///
    /// `meta` is any text of yours about the connection (address, device, ...); it comes back in the
    /// online and offline events. Hand the address to the client over your own authenticated API: who
    /// holds it connects as `client`.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for the system's id (0, which is what a missing id becomes
    /// in many languages) and for one of another [kind](IdKind).
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// // In the web API, once the user has logged in; the page opens a WebSocket there.
    /// let url = im.connect_url(42, Some(r#"{"device": "phone"}"#))?;
    /// assert!(url.starts_with("ws://127.0.0.1:6001/ws?token="));
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn connect_url(&self, client: impl Into<ClientId>, meta: Option<&str>) -> Result<String> {
        self.issue(Ticket::new(client.into(), meta))
    }

    /// As [`connect_url`](Self::connect_url), for a client that is to be waited for as long as `keep` says when its
    /// connection ends, whatever its node is set to: a phone longer than a browser, zero not at all. Counts for clients
    /// that speak `imcore.1`. At most [a day](Ticket::LONGEST_KEEP), exact to two seconds.
    ///
    /// # Errors
    /// Those of [`connect_url`](Self::connect_url).
    ///
    /// ```
    /// use std::time::Duration;
    /// # let im = imcore::example_client()?;
    /// let url = im.connect_url_keeping(42, None, Duration::from_secs(600))?;
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn connect_url_keeping(
        &self,
        client: impl Into<ClientId>,
        meta: Option<&str>,
        keep: Duration,
    ) -> Result<String> {
        self.issue(Ticket::new(client.into(), meta).kept_for(keep))
    }

    /// The address for a ticket, which is stored.
    fn issue(&self, ticket: Ticket) -> Result<String> {
        self.check_user(ticket.client())?;
        let placement = self.routes.certain(&*self.broker)?;
        let url = public_url::fill(&self.url_template, placement.address(ticket.client())?);
        let token = random_token()?;
        self.broker.put_ticket(&token, &ticket, Self::TICKET_LIFE)?;
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
    /// Two round trips to the broker.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for an id of another [kind](IdKind).
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// im.kick(42)?; // no effect if 42 is not there
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn kick(&self, client: impl Into<ClientId>) -> Result<()> {
        let client = client.into();
        self.check_kind(&client)?;
        // First, so that none is taken once the node has closed what there is.
        self.broker.void_tickets(&client)?;
        self.dispatch(vec![Envelope::ForceOffline { client }])
    }

    /// An id that a client of this deployment can have.
    pub(super) fn check_kind(&self, client: &ClientId) -> Result<()> {
        self.id_kind.check(client)
    }

    /// Lists of the broker without what is no id here: who else writes there is not asked.
    pub(super) fn retain_own(&self, mut clients: Vec<ClientId>) -> Vec<ClientId> {
        if self.id_kind != IdKind::Text {
            clients.retain(|client| !matches!(client, ClientId::Text(_)));
        }
        clients
    }

    /// As [`check_kind`](Self::check_kind), and not the system.
    pub(super) fn check_user(&self, client: &ClientId) -> Result<()> {
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
            false => self.check_kind(&sender).map(|()| sender),
        }
    }
}

impl fmt::Debug for ImClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImClient")
            .field("broker", &self.broker.describe())
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}
