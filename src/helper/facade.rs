//! `ImHelper`: one `ImClient` for the whole process, under the original's names. Called by business code that
//! comes from C#.
//!
//! Holds nothing but that client, and does nothing but call it.

use std::sync::OnceLock;

use serde::Serialize;

use crate::{
    error::{Error, ErrorKind, Result},
    helper::{
        client::ImClient,
        message::{Message, Receipt},
        watch::PresenceWatch,
    },
    id::ClientId,
};

static CLIENT: OnceLock<ImClient> = OnceLock::new();

/// The original's `ImHelper`: its calls under its names, for the one [`ImClient`] of the process.
///
/// Set once with [`initialization`](ImHelper::initialization), then called from anywhere. Each call is one of
/// [`ImClient`], whose documentation says what it does, gives and fails with; before the initialization each
/// fails with [`Config`](crate::ErrorKind::Config). What the original had not (options of a message, batches,
/// pages, nodes) is there alone: [`ImHelper::client`]. New code takes [`ImClient`] itself.
///
/// ```
/// use std::sync::Arc;
/// use imcore::{ImClient, ImHelper, broker::MemoryBroker};
///
/// ImHelper::initialization(
///     ImClient::builder()
///         .servers(["127.0.0.1:6001"])
///         .broker(Arc::new(MemoryBroker::new()))
///         .build()?,
/// )?;
/// ImHelper::send_message(0, [1, 2], "hello", false)?;
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Debug)]
pub struct ImHelper;

impl ImHelper {
    /// Sets the client for the whole process.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when it was set before: two parts of a program that
    /// disagree about it must be noticed.
    pub fn initialization(client: ImClient) -> Result<()> {
        CLIENT.set(client).map_err(|_| {
            Error::new(ErrorKind::Config, "ImHelper::initialization was called a second time")
        })
    }

    /// The client that was set.
    pub fn client() -> Result<&'static ImClient> {
        CLIENT.get().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "ImHelper is not initialised; call ImHelper::initialization first",
            )
        })
    }

    /// [`ImClient::connect_url`].
    pub fn prev_connect_server(client: impl Into<ClientId>, meta: Option<&str>) -> Result<String> {
        Self::client()?.connect_url(client, meta)
    }

    /// [`ImClient::kick`].
    pub fn force_offline(client: impl Into<ClientId>) -> Result<()> {
        Self::client()?.kick(client)
    }

    /// [`ImClient::send`] of a [`Message::to`] these receivers, with [`Receipt::Sent`] or without receipts.
    pub fn send_message<C: Into<ClientId>>(
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        receipt: bool,
    ) -> Result<()> {
        let receipt = if receipt { Receipt::Sent } else { Receipt::None };
        let to = Message::to(receivers).from(sender).receipt(receipt);
        Self::client()?.send(to, message).map(drop)
    }

    /// [`ImClient::send`] of a [`Message::to_channel`].
    pub fn send_chan_message(
        sender: impl Into<ClientId>,
        channel: &str,
        message: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        Self::client()?.send(Message::to_channel(channel).from(sender), message).map(drop)
    }

    /// [`ImClient::send`] of a [`Message::to_everyone`].
    pub fn send_broadcast_message(message: &(impl Serialize + ?Sized)) -> Result<()> {
        Self::client()?.send(Message::to_everyone(), message).map(drop)
    }

    /// [`ImClient::online_clients`].
    pub fn get_client_list_by_online() -> Result<Vec<ClientId>> {
        Self::client()?.online_clients()
    }

    /// [`ImClient::is_online`].
    pub fn has_online(client: impl Into<ClientId>) -> Result<bool> {
        Self::client()?.is_online(client)
    }

    /// [`ImClient::are_online`]: the original's `HasOnline` of several.
    pub fn has_online_many<C: Into<ClientId>>(
        clients: impl IntoIterator<Item = C>,
    ) -> Result<Vec<bool>> {
        Self::client()?.are_online(clients)
    }

    /// [`ImClient::on_presence`].
    pub fn event_bus(
        online: impl Fn(ClientId, Option<String>) + Send + 'static,
        offline: impl Fn(ClientId, Option<String>) + Send + 'static,
    ) -> Result<PresenceWatch> {
        Self::client()?.on_presence(online, offline)
    }

    /// [`ImClient::join`] of one client in many channels.
    pub fn join_chan<S: AsRef<str>>(
        client: impl Into<ClientId>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        Self::client()?.join([client], channels)
    }

    /// [`ImClient::join`] of many clients in one channel.
    pub fn join_chan_clients<C: Into<ClientId>>(
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        Self::client()?.join(clients, [channel])
    }

    /// [`ImClient::leave`] of one client in many channels.
    pub fn leave_chan<S: AsRef<str>>(
        client: impl Into<ClientId>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        Self::client()?.leave([client], channels)
    }

    /// [`ImClient::leave`] of many clients in one channel: the original's `LeaveChan` of several.
    pub fn leave_chan_clients<C: Into<ClientId>>(
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        Self::client()?.leave(clients, [channel])
    }

    /// [`ImClient::channel_members`].
    pub fn get_chan_client_list(channel: &str) -> Result<Vec<ClientId>> {
        Self::client()?.channel_members(channel)
    }

    /// [`ImClient::prune_channel`].
    pub fn clear_chan_client(channel: &str) -> Result<()> {
        Self::client()?.prune_channel(channel)
    }

    /// [`ImClient::channels`].
    pub fn get_chan_list() -> Result<Vec<(String, i64)>> {
        Self::client()?.channels()
    }

    /// [`ImClient::channels_of`].
    pub fn get_chan_list_by_client_id(client: impl Into<ClientId>) -> Result<Vec<String>> {
        Self::client()?.channels_of(client)
    }

    /// [`ImClient::channel_size`]: the number of members, online or not, whatever the name says.
    pub fn get_chan_online(channel: &str) -> Result<i64> {
        Self::client()?.channel_size(channel)
    }
}
