//! Channels: joining, leaving, who is in them, and whether their clients are told; the calls of `ImClient` about it.
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
    /// Makes each of `clients` a member of each of `channels`. Joining twice has no effect.
    ///
    /// A client leaves its channels when its last connection ends. If it is known to be coming back then (an
    /// address of it is out, see [`connect_url`](Self::connect_url), or its node was away), it has 10 s. So
    /// a join that follows the issue of an address is not undone by the end of an older connection.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a name that is empty or longer than 1,024 bytes, for the
    /// system's id and for one of another [kind](crate::IdKind); nothing is joined then. Also if a client is in
    /// as many channels as it [may be](crate::ImClientBuilder::channels_per_client); the other memberships are
    /// made then, and the error says how many.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// im.join([42], ["lobby", "news"])?;
    /// im.join([43, 44], ["lobby"])?;
    /// assert_eq!(im.channels_of(42)?.len(), 2);
    /// assert_eq!(im.channel_size("lobby")?, 3);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn join<C: Into<ClientId>, S: AsRef<str>>(
        &self,
        clients: impl IntoIterator<Item = C>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        each_with_each(clients, channels, |pairs| self.join_checked(pairs))
    }

    /// Makes each client a member of the channel beside it, in order; else as [`join`](Self::join).
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// im.join_pairs([(42, "lobby"), (43, "news")])?;
    /// assert_eq!(im.channel_members("news")?, [43.into()]);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn join_pairs<C: Into<ClientId>, S: AsRef<str>>(
        &self,
        pairs: impl IntoIterator<Item = (C, S)>,
    ) -> Result<()> {
        beside(pairs, |pairs| self.join_checked(pairs))
    }

    /// Ends the membership of each of `clients` in each of `channels`. Leaving twice has no effect.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a name that is empty or too long; nothing is left then.
    pub fn leave<C: Into<ClientId>, S: AsRef<str>>(
        &self,
        clients: impl IntoIterator<Item = C>,
        channels: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        each_with_each(clients, channels, |pairs| self.leave_checked(pairs))
    }

    /// Ends the membership of each client in the channel beside it; else as [`leave`](Self::leave).
    pub fn leave_pairs<C: Into<ClientId>, S: AsRef<str>>(
        &self,
        pairs: impl IntoIterator<Item = (C, S)>,
    ) -> Result<()> {
        beside(pairs, |pairs| self.leave_checked(pairs))
    }

    /// Members of the channel, online or not, in no order; read in steps as
    /// [`online_clients`](Self::online_clients) is.
    pub fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        Ok(self.retain_own(self.broker().channel_members(channel)?))
    }

    /// About `limit` members of the channel; else as [`online_clients_page`](Self::online_clients_page).
    pub fn channel_members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        let page = self.broker().members_page(channel, after, limit)?;
        Ok(Page { items: self.retain_own(page.items), ..page })
    }

    /// Number of members of the channel, online or not; 0 if there is none of that name.
    pub fn channel_size(&self, channel: &str) -> Result<i64> {
        self.broker().channel_size(channel)
    }

    /// Ends the membership of all members of the channel that are not online. Two round trips to the
    /// broker, one more for every 100,000 members.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// im.join([42, 43], ["lobby"])?; // neither has connected
    /// im.prune_channel("lobby")?;
    /// assert_eq!(im.channel_size("lobby")?, 0);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn prune_channel(&self, channel: &str) -> Result<()> {
        self.broker().clear_channel(channel)
    }

    /// Whether the clients of a channel are told who of its members is online: all of them when they come, then what
    /// changes, once a second at most. With 200 online or more they are told the number alone.
    ///
    /// ```text
    /// {"channel":"lobby","online":2,"joined":["42","43"],"left":[]}
    /// ```
    ///
    /// Stays so while nobody is in the channel, for a day; then it ends by itself. Switching it on twice has no effect. What a page does
    /// with it: `docs/protocol.md`.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a name that is empty or too long.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// im.set_roster("lobby", true)?;
    /// im.join([42], ["lobby"])?; // is told who is there, once connected
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn set_roster(&self, channel: &str, on: bool) -> Result<()> {
        check_channel(channel)?;
        self.broker().set_roster(channel, on)
    }

    /// All channels with their number of members, in no order; read in steps as
    /// [`online_clients`](Self::online_clients) is.
    pub fn channels(&self) -> Result<Vec<(String, i64)>> {
        self.broker().channels()
    }

    /// About `limit` channels with their number of members; else as
    /// [`online_clients_page`](Self::online_clients_page).
    pub fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        self.broker().channels_page(after, limit)
    }

    /// The channels that `client` is in, in no order.
    pub fn channels_of(&self, client: impl Into<ClientId>) -> Result<Vec<String>> {
        Ok(self.broker().channels_of(&[client.into()])?.pop().unwrap_or_default())
    }

    fn join_checked(&self, pairs: &[(ClientId, &str)]) -> Result<()> {
        for (client, channel) in pairs {
            self.check_user(client)?;
            check_channel(channel)?;
        }
        self.broker().join_within(pairs, &self.joins)
    }

    fn leave_checked(&self, pairs: &[(ClientId, &str)]) -> Result<()> {
        pairs.iter().try_for_each(|(_, channel)| check_channel(channel))?;
        self.broker().leave(pairs)
    }
}

/// Every client with every channel, a client's channels together.
fn each_with_each<C: Into<ClientId>, S: AsRef<str>>(
    clients: impl IntoIterator<Item = C>,
    channels: impl IntoIterator<Item = S>,
    call: impl FnOnce(&[(ClientId, &str)]) -> Result<()>,
) -> Result<()> {
    let channels: Vec<S> = channels.into_iter().collect();
    // Also where the list of clients is empty, a name that cannot be used is a mistake.
    channels.iter().try_for_each(|channel| check_channel(channel.as_ref()))?;
    let mut pairs = Vec::new();
    for client in clients {
        let client = client.into();
        pairs.extend(channels.iter().map(|channel| (client.clone(), channel.as_ref())));
    }
    call(&pairs)
}

fn beside<C: Into<ClientId>, S: AsRef<str>>(
    pairs: impl IntoIterator<Item = (C, S)>,
    call: impl FnOnce(&[(ClientId, &str)]) -> Result<()>,
) -> Result<()> {
    let (clients, channels): (Vec<ClientId>, Vec<S>) =
        pairs.into_iter().map(|(client, channel)| (client.into(), channel)).unzip();
    let pairs: Vec<_> = clients.into_iter().zip(channels.iter().map(S::as_ref)).collect();
    call(&pairs)
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
