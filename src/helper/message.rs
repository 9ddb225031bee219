//! `Message`: whom a message is for and how it is sent. Pure: plain data, checked by `batch` when it is added.

use crate::{error::Result, id::ClientId, token::random_u64, wire};

/// Whom a message is for, from whom, and what is told about it; what it says is given beside it, to
/// [`ImClient::send`](crate::ImClient::send) or [`Batch::add`](crate::Batch::add).
///
/// | made by | goes to | order, echo |
/// | --- | --- | --- |
/// | [`to`](Self::to) | these clients, each once however often it is listed | messages of one thread to one client keep their order |
/// | [`to_channel`](Self::to_channel) | the members of a channel that are connected | also behind joins and leaves that came before |
/// | [`to_everyone`](Self::to_everyone) | every connection of every node | as in a channel |
///
/// All connections of a client get it. A sender does not get its own message, unless it has more than one
/// connection: then all of them get it.
///
/// ```
/// use imcore::{Message, Receipt};
/// # let im = imcore::example_client()?;
///
/// im.send(Message::to([42, 43]), "from the system")?;
/// im.send(Message::to([42, 43]).from(7).receipt(Receipt::Sent).id("order 17"), "from 7")?;
/// im.send(Message::to_channel("lobby").from(7), "hello, everybody here")?;
/// im.send(Message::to_everyone(), &serde_json::json!({ "closing": "22:00" }))?;
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a message goes out with ImClient::send or Batch::add"]
pub struct Message {
    pub(super) to: Receivers,
    /// `None` is the system.
    pub(super) from: Option<ClientId>,
    pub(super) receipt: Receipt,
    pub(super) id: Option<String>,
    pub(super) volatile: bool,
    pub(super) trace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Receivers {
    Clients(Vec<ClientId>),
    Channel(String),
    Everyone,
}

/// What a sender is told of its message, for each receiver, over its own connections.
///
/// A receipt is a message of the original's form, `{"content", "receipt", "to", "status"}`, and `"id"` if the message
/// has one. `status` is `sent`, `acknowledged`, `offline` or `expired`. It comes to the *sender's sockets*, not to the code that called
/// [`send`](crate::ImClient::send): that learns only that the broker has taken the message, see
/// [`Accepted`](crate::Accepted).
///
/// Only messages to clients have receipts, and none goes to the system, nor for a sender's message to itself. They
/// come in no promised order. Content of more than `receipt_content_bytes` (a limit of the node, 4 KiB by default) is
/// left out of them; the [id](Message::id) is then what tells the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Receipt {
    /// No receipts.
    #[default]
    None,
    /// `sent` once the message was written to the socket of at least one of the receiver's connections, `offline`
    /// if it has none or all ended before that.
    Sent,
    /// `acknowledged` once the receiver has it: a client of `imcore.1` says so when its page or app has handled the message,
    /// any other proves by its WebSocket library's answer to a ping behind the message that it has arrived. Otherwise
    /// `offline`, if the receiver has no connection or all ended before that, or `expired`, if it was waited for and did not
    /// come back in time. Costs a small frame per message and receiver more than [`Sent`](Receipt::Sent).
    Acknowledged,
}

impl Message {
    fn new(to: Receivers) -> Self {
        Message { to, from: None, receipt: Receipt::None, id: None, volatile: false, trace: None }
    }

    /// A message to these clients. Who is offline misses it.
    ///
    /// An empty list is refused when the message is sent: nobody would get it.
    pub fn to<C: Into<ClientId>>(clients: impl IntoIterator<Item = C>) -> Self {
        Message::new(Receivers::Clients(clients.into_iter().map(Into::into).collect()))
    }

    /// A message to all members of the channel.
    ///
    /// Reaches everybody who joined before it is sent, is connected, and has not left when the node hands it on.
    /// The list of members is not read: it costs each node its own members.
    pub fn to_channel(channel: impl Into<String>) -> Self {
        Message::new(Receivers::Channel(channel.into()))
    }

    /// A message to every connection of every node. It always comes from the system.
    pub fn to_everyone() -> Self {
        Message::new(Receivers::Everyone)
    }

    /// Who sends it. Without this, and with the system's id (0 or the all-zero GUID), the system does.
    pub fn from(mut self, sender: impl Into<ClientId>) -> Self {
        self.from = Some(sender.into());
        self
    }

    /// What the sender is told, for each receiver. Default [`Receipt::None`].
    pub fn receipt(mut self, receipt: Receipt) -> Self {
        self.receipt = receipt;
        self
    }

    /// The sender's name for the message, 1 to 128 bytes, which its receipts repeat, and events that tell
    /// [who has not got it](crate::EventKind::Undelivered). Yours to choose, or a [fresh one](Self::fresh_id). Default none.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Worth nothing a moment later, such as "is typing" or a position in a game: no log keeps it, so it costs less;
    /// who is away at that moment misses it, and nobody counts that.
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// The W3C `traceparent` of what the message is sent for: nodes name it in their logs and to those who follow. What is none is
    /// left out, as that standard wants it.
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.trace = wire::traceparent(traceparent).map(str::to_owned);
        self
    }

    /// An id that no other message has: 128 random bits as 32 hex digits.
    ///
    /// It is made before the message is sent, so that receipts can be told apart also when the call fails and the
    /// message may have gone out all the same.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if the operating system gives no random bytes.
    ///
    /// ```
    /// use imcore::{Message, Receipt};
    /// # let im = imcore::example_client()?;
    ///
    /// let id = Message::fresh_id()?;
    /// im.send(Message::to([42]).from(7).receipt(Receipt::Sent).id(&id), "a long story")?;
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn fresh_id() -> Result<String> {
        Ok(format!("{:016x}{:016x}", random_u64()?, random_u64()?))
    }
}
