//! `ImHelper`: one `ImClient` for the whole process, under the original's names.

use std::sync::OnceLock;

use serde::Serialize;

use crate::{
    broker::{Page, PresenceEvent},
    error::{Error, Result},
    helper::{
        client::ImClient,
        event_bus::EventBus,
        messages::Batch,
        overview::{Connection, Node},
    },
    id::ClientId,
};

static CLIENT: OnceLock<ImClient> = OnceLock::new();

/// The process-wide [`ImClient`]: set once with [`initialization`](ImHelper::initialization), then
/// called from anywhere. Every method is the one of the same name there, with its errors, and fails with
/// [`Config`](crate::ErrorKind::Config) before the initialization.
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
        CLIENT
            .set(client)
            .map_err(|_| Error::config("ImHelper::initialization was called a second time"))
    }

    /// The client that was set.
    pub fn client() -> Result<&'static ImClient> {
        CLIENT.get().ok_or_else(|| {
            Error::config("ImHelper is not initialised; call ImHelper::initialization first")
        })
    }

    /// See [`ImClient::prev_connect_server`].
    pub fn prev_connect_server(client: impl Into<ClientId>, meta: Option<&str>) -> Result<String> {
        Self::client()?.prev_connect_server(client, meta)
    }

    /// See [`ImClient::force_offline`].
    pub fn force_offline(client: impl Into<ClientId>) -> Result<()> {
        Self::client()?.force_offline(client)
    }

    /// See [`ImClient::send_message`].
    pub fn send_message<C: Into<ClientId>>(
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        receipt: bool,
    ) -> Result<()> {
        Self::client()?.send_message(sender, receivers, message, receipt)
    }

    /// See [`ImClient::send_with_receipts`].
    pub fn send_with_receipts<C: Into<ClientId>>(
        sender: impl Into<ClientId>,
        receivers: impl IntoIterator<Item = C>,
        message: &(impl Serialize + ?Sized),
        id: Option<&str>,
    ) -> Result<String> {
        Self::client()?.send_with_receipts(sender, receivers, message, id)
    }

    /// See [`ImClient::send_chan_message`].
    pub fn send_chan_message(
        sender: impl Into<ClientId>,
        channel: &str,
        message: &(impl Serialize + ?Sized),
    ) -> Result<()> {
        Self::client()?.send_chan_message(sender, channel, message)
    }

    /// See [`ImClient::send_broadcast_message`].
    pub fn send_broadcast_message(message: &(impl Serialize + ?Sized)) -> Result<()> {
        Self::client()?.send_broadcast_message(message)
    }

    /// See [`ImClient::batch`].
    pub fn batch() -> Result<Batch<'static>> {
        Ok(Self::client()?.batch())
    }

    /// See [`ImClient::get_client_list_by_online`].
    pub fn get_client_list_by_online() -> Result<Vec<ClientId>> {
        Self::client()?.get_client_list_by_online()
    }

    /// See [`ImClient::has_online`].
    pub fn has_online(client: impl Into<ClientId>) -> Result<bool> {
        Self::client()?.has_online(client)
    }

    /// See [`ImClient::has_online_many`].
    pub fn has_online_many<C: Into<ClientId>>(
        clients: impl IntoIterator<Item = C>,
    ) -> Result<Vec<bool>> {
        Self::client()?.has_online_many(clients)
    }

    /// See [`ImClient::event_bus`].
    pub fn event_bus(
        online: impl Fn(ClientId, Option<String>) + Send + 'static,
        offline: impl Fn(ClientId, Option<String>) + Send + 'static,
    ) -> Result<EventBus> {
        Self::client()?.event_bus(online, offline)
    }

    /// See [`ImClient::watch_presence`].
    pub fn watch_presence(callback: impl Fn(PresenceEvent) + Send + 'static) -> Result<EventBus> {
        Self::client()?.watch_presence(callback)
    }

    /// See [`ImClient::online_page`].
    pub fn online_page(after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        Self::client()?.online_page(after, limit)
    }

    /// See [`ImClient::channels_page`].
    pub fn channels_page(after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        Self::client()?.channels_page(after, limit)
    }

    /// See [`ImClient::members_page`].
    pub fn members_page(
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        Self::client()?.members_page(channel, after, limit)
    }

    /// See [`ImClient::join_chan`].
    pub fn join_chan<S: AsRef<str>>(
        client: impl Into<ClientId>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        Self::client()?.join_chan(client, channels)
    }

    /// See [`ImClient::join_chan_clients`].
    pub fn join_chan_clients<C: Into<ClientId>>(
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        Self::client()?.join_chan_clients(channel, clients)
    }

    /// See [`ImClient::leave_chan`].
    pub fn leave_chan<S: AsRef<str>>(
        client: impl Into<ClientId>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        Self::client()?.leave_chan(client, channels)
    }

    /// See [`ImClient::leave_chan_clients`].
    pub fn leave_chan_clients<C: Into<ClientId>>(
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        Self::client()?.leave_chan_clients(channel, clients)
    }

    /// See [`ImClient::get_chan_client_list`].
    pub fn get_chan_client_list(channel: &str) -> Result<Vec<ClientId>> {
        Self::client()?.get_chan_client_list(channel)
    }

    /// See [`ImClient::clear_chan_client`].
    pub fn clear_chan_client(channel: &str) -> Result<()> {
        Self::client()?.clear_chan_client(channel)
    }

    /// See [`ImClient::get_chan_list`].
    pub fn get_chan_list() -> Result<Vec<(String, i64)>> {
        Self::client()?.get_chan_list()
    }

    /// See [`ImClient::get_chan_list_by_client_id`].
    pub fn get_chan_list_by_client_id(client: impl Into<ClientId>) -> Result<Vec<String>> {
        Self::client()?.get_chan_list_by_client_id(client)
    }

    /// See [`ImClient::get_chan_online`].
    pub fn get_chan_online(channel: &str) -> Result<i64> {
        Self::client()?.get_chan_online(channel)
    }

    /// See [`ImClient::nodes`].
    pub fn nodes() -> Result<Vec<Node>> {
        Self::client()?.nodes()
    }

    /// See [`ImClient::connections_of`].
    pub fn connections_of(client: impl Into<ClientId>) -> Result<Vec<Connection>> {
        Self::client()?.connections_of(client)
    }
}
