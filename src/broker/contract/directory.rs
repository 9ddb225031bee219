//! Who may come, who is here, who is in which channel: what the business changes and asks.
//!
//! Called by helpers, and by a node that restores memberships after a loss.

use std::time::Duration;

use super::events::EventSubscription;
use crate::{
    error::{Error, Result},
    id::ClientId,
    wire::{NodeStatus, Ticket},
};

/// Tickets that are issued, clients that are online, and channels.
pub trait Directory: Send + Sync {
    // --- Who may come ----------------------------------------------------------------------------

    /// Stores what `token` stands for; it vanishes after `life`.
    fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()>;

    /// Tickets of `client` that were put here and not taken so far are good no more. Not those that a .NET helper
    /// wrote, which nobody can find by their client.
    fn void_tickets(&self, client: &ClientId) -> Result<()>;

    // --- Who is here -----------------------------------------------------------------------------

    /// All clients with an open connection, in no order. The system's id is left out.
    ///
    /// Read in steps, as if page by page; see [`Page`] for what that means. Costs memory and time by
    /// their number.
    fn online_clients(&self) -> Result<Vec<ClientId>>;

    /// About `limit` of them: those after the page whose [`next`](Page::next) is `after`, from the
    /// beginning if that is `None`.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if `after` was not given by a page.
    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>>;

    /// Whether each of `clients` has an open connection, in their order.
    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>>;

    /// What each session whose lease stands last said of its node, in no order: node and status. `None`
    /// before the first renewal, and from a version that says nothing.
    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>>;

    /// The open connections of `client` that sessions of `node` hold, in no order: number and ticket.
    ///
    /// Looks through all connections of the node, in steps between which the broker serves others: for an
    /// operator's eyes, not for business per message. What opens or closes meanwhile may be missed.
    fn connections_of(&self, client: &ClientId, node: &str) -> Result<Vec<(u64, Ticket)>>;

    /// A bounded part of that: looks through some thousand connections of the node. The page may be
    /// empty and not the last; [`total`](Page::total) is the number of the client's open connections on
    /// all nodes.
    fn connections_page(
        &self,
        client: &ClientId,
        node: &str,
        after: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>>;

    /// The presence events of all nodes. Connects on the first [`next`](EventSubscription::next).
    fn subscribe_events(&self) -> Box<dyn EventSubscription>;

    // --- Who is in which channel -----------------------------------------------------------------

    /// Makes each client a member of the channel beside it. Joining twice has no effect.
    fn join(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.join_within(memberships, &JoinLimits::default())
    }

    /// As [`join`](Directory::join), within limits.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if clients are in as many channels as they may be. The other
    /// memberships were made.
    fn join_within(&self, memberships: &[(ClientId, &str)], limits: &JoinLimits) -> Result<()>;

    /// Ends each membership. Leaving a channel one is not in has no effect.
    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()>;

    /// Members of the channel, online or not, in no order. The system's id is left out. Read in steps, as
    /// [`online_clients`](Directory::online_clients) is.
    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>>;

    /// About `limit` of them, as [`online_page`](Directory::online_page).
    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>>;

    /// Ends the membership of all members that are not online.
    fn clear_channel(&self, channel: &str) -> Result<()>;

    /// All channels with their number of members, in no order. Read in steps, as
    /// [`online_clients`](Directory::online_clients) is.
    fn channels(&self) -> Result<Vec<(String, i64)>>;

    /// About `limit` of them, as [`online_page`](Directory::online_page).
    fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>>;

    /// Channels of each of `clients`, in their order.
    fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>>;

    /// Number of members of the channel; 0 if there is none of that name.
    fn channel_size(&self, channel: &str) -> Result<i64> {
        Ok(self.channel_sizes(&[channel])?.pop().unwrap_or_default())
    }

    /// As [`channel_size`](Directory::channel_size), of each of `channels`, in their order.
    fn channel_sizes(&self, channels: &[&str]) -> Result<Vec<i64>>;
}

/// A part of a list that is read bit by bit, in no order.
///
/// What is there from the first page to the last is on one of them; what comes or goes meanwhile may be or
/// not, and an item may come twice. A page holds *about* as many items as were asked for: some more, fewer,
/// or none, which says nothing about whether it is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on this page.
    pub items: Vec<T>,
    /// What to ask the next page with; `None` if this was the last. An opaque text.
    pub next: Option<String>,
    /// Length of the whole list at this moment. Where several Redis share the nodes, a channel counts once for each that
    /// has members of it.
    pub total: u64,
}

/// Bounds on joins; see [`Directory::join_within`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JoinLimits {
    /// Channels that one client may be in. Default 0: no limit.
    pub channels_per_client: usize,
    /// How long a client that is not online stays a member without coming; counted from its last join.
    /// Default `None`: for ever.
    pub offline_life: Option<Duration>,
}

impl JoinLimits {
    /// Fails if some clients were refused.
    pub(crate) fn check(&self, refused: &[ClientId], asked: usize) -> Result<()> {
        let Some(client) = refused.first() else { return Ok(()) };
        let limit = self.channels_per_client;
        let made = asked - refused.len();
        Err(Error::argument(format!(
            "client {client} is in {limit} channels, as many as it may be (channels_per_client); leave \
             some first. {made} of {asked} memberships were made"
        )))
    }
}
