//! Channels: joining, leaving, and who is in them; the calls of `ImClient` about it.
//!
//! Called on any business thread.

use crate::{
    broker::Page,
    error::{Error, Result},
    helper::client::ImClient,
    id::ClientId,
};

/// Bytes of a channel's name.
const CHANNEL_NAME_BYTES: usize = 1024;

impl ImClient {
    /// Makes one client a member of many channels. Joining twice has no effect.
    ///
    /// A client leaves its channels when its last connection ends. If it is known to be coming back then (an
    /// address of it is out, see [`prev_connect_server`](Self::prev_connect_server), or its node was away), it has 10 s. So
    /// a join that follows the issue of an address is not undone by the end of an older connection.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a name that is empty or longer than 1,024 bytes, for the
    /// system's id and for one of another [kind](crate::IdKind); nothing is joined then. Also if the client is in as many
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
        self.each_channel(client.into(), channels, |pairs| self.join_pairs(pairs))
    }

    /// Makes many clients members of one channel; see [`join_chan`](Self::join_chan).
    pub fn join_chan_clients<C: Into<ClientId>>(
        &self,
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        self.each_client(channel, clients, |pairs| self.join_pairs(pairs))
    }

    /// Makes each client a member of the channel beside it, in order; see [`join_chan`](Self::join_chan).
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// # let broker = Arc::new(MemoryBroker::new());
    /// # let im = ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()?;
    /// im.join_pairs(&[(42.into(), "lobby"), (43.into(), "news")])?;
    /// assert_eq!(im.get_chan_client_list("news")?, [43.into()]);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn join_pairs(&self, pairs: &[(ClientId, &str)]) -> Result<()> {
        for (client, channel) in pairs {
            self.check_user(*client)?;
            check_channel(channel)?;
        }
        self.broker().join_within(pairs, &self.joins)
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
        self.each_channel(client.into(), channels, |pairs| self.broker().leave(pairs))
    }

    /// Ends the membership of many clients in one channel; see [`leave_chan`](Self::leave_chan).
    pub fn leave_chan_clients<C: Into<ClientId>>(
        &self,
        channel: &str,
        clients: impl IntoIterator<Item = C>,
    ) -> Result<()> {
        self.each_client(channel, clients, |pairs| self.broker().leave(pairs))
    }

    /// Members of the channel, online or not, in no order; read in steps as
    /// [`get_client_list_by_online`](Self::get_client_list_by_online) is.
    pub fn get_chan_client_list(&self, channel: &str) -> Result<Vec<ClientId>> {
        self.broker().channel_members(channel)
    }

    /// About `limit` members of the channel, as [`online_page`](Self::online_page).
    pub fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        self.broker().members_page(channel, after, limit)
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
        self.broker().clear_channel(channel)
    }

    /// All channels with their number of members, in no order; read in steps as
    /// [`get_client_list_by_online`](Self::get_client_list_by_online) is.
    pub fn get_chan_list(&self) -> Result<Vec<(String, i64)>> {
        self.broker().channels()
    }

    /// About `limit` channels with their number of members, as [`online_page`](Self::online_page).
    pub fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        self.broker().channels_page(after, limit)
    }

    /// The channels that `client` is in, in no order.
    pub fn get_chan_list_by_client_id(&self, client: impl Into<ClientId>) -> Result<Vec<String>> {
        Ok(self.broker().channels_of(&[client.into()])?.pop().unwrap_or_default())
    }

    /// Number of members of the channel; 0 if there is none of that name.
    pub fn get_chan_online(&self, channel: &str) -> Result<i64> {
        self.broker().channel_size(channel)
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

pub(super) fn check_channel(channel: &str) -> Result<()> {
    match channel.len() {
        0 => Err(Error::argument("channel: the name is empty")),
        1..=CHANNEL_NAME_BYTES => Ok(()),
        length => Err(Error::argument(format!(
            "channel: the name has {length} bytes; at most {CHANNEL_NAME_BYTES} are taken"
        ))),
    }
}
