//! What an operator asks: how the nodes are, and where a client is connected.
//!
//! Called on any thread; unlike the other calls these are for eyes, not for every message.

use crate::{
    broker::Page,
    error::{Error, Result},
    helper::client::ImClient,
    id::ClientId,
    placement::Placement,
    slots::{SlotOrder, SlotPlan, SlotTable, WhatIf},
    wire::{NodeStatus, Ticket},
};

/// One node of the deployment; see [`ImClient::nodes`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its place in the [`servers`](crate::ImClientBuilder::servers) list; `None` if it is not there, which
    /// is a second deployment on the same broker, or a mistake: its list and this one differ. Always `None` with
    /// [slots](crate::ImClientBuilder::slots).
    pub index: Option<usize>,
    /// How many slots it owns, where nodes come and go; `None` in a fixed list, and of a node that does not stand in the table.
    pub slots: Option<usize>,
    /// What it said of itself when it last renewed its lease. `None`: it is down, cannot reach the broker,
    /// or is a .NET node, which says nothing.
    pub status: Option<NodeStatus>,
}

/// One open connection of a client; see [`ImClient::connections_of`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The node that holds it.
    pub node: String,
    /// Its number there, as in the node's log (`connection=`).
    pub number: u64,
    /// The `meta` that was given to [`connect_url`](ImClient::connect_url).
    pub meta: Option<String>,
}

impl ImClient {
    /// All nodes: those of the [`servers`](crate::ImClientBuilder::servers) list in its order, then others
    /// that use the same broker, by name. A name comes twice if two processes serve under it.
    ///
    /// A node speaks with each renewal of its lease, that is every third of it, and is silent once that has
    /// run out: after 7 s by default. Two round trips to the broker, however many nodes there are.
    pub fn nodes(&self) -> Result<Vec<NodeInfo>> {
        let heard = self.broker().statuses()?;
        // Before the first stands in the table, they are seen all the same.
        let placement = self.routes.now(&**self.broker()).ok();
        let known = placement.as_ref().map(Placement::nodes).unwrap_or_default().into_iter();
        let silent = known.filter(|name| heard.iter().all(|(other, _)| other != name));
        let silent: Vec<_> = silent.map(|name| (name.to_owned(), None)).collect();
        let node = |(name, status): (String, Option<NodeStatus>)| NodeInfo {
            index: placement.as_ref().and_then(|placement| placement.index_of(&name)),
            slots: placement.as_ref().and_then(|placement| placement.slots_of(&name)),
            name,
            status,
        };
        let mut nodes: Vec<_> = heard.into_iter().chain(silent).map(node).collect();
        let place = |node: &NodeInfo| (node.index.unwrap_or(usize::MAX), node.name.clone());
        nodes.sort_by_cached_key(place);
        Ok(nodes)
    }

    /// Which node owns which slot, and what is moving; `None` where nodes are a fixed list, or none stands in the table yet.
    ///
    /// # Errors
    /// Those of the broker, and [`Config`](crate::ErrorKind::Config) if a newer version has written the table.
    pub fn slot_table(&self) -> Result<Option<SlotTable>> {
        self.broker().slot_table()
    }

    /// Makes the first table of a deployment whose nodes are a fixed list, `servers` in its order, and is to let them come and go: `count`
    /// slots, of which each is owned by the node that has its clients now. Whether there was no table. Nothing moves by it, nor
    /// before all of these nodes are started anew with slots.
    ///
    /// # Errors
    /// Those of the broker, and [`Config`](crate::ErrorKind::Config) if `count` is no multiple of their number, or one of them
    /// does not live.
    pub fn begin_slots(&self, count: usize, servers: &[&str]) -> Result<bool> {
        let (table, broker) = (SlotTable::of_list(count, servers)?, self.broker());
        Placement::fixed(servers.iter().copied())?;
        let living = broker.living()?;
        if let Some(silent) = servers.iter().find(|name| !living.iter().any(|node| node == *name)) {
            let detail =
                format!("no node {silent:?} lives here; name all nodes, in the order of the list");
            return Err(Error::config("servers", detail));
        }
        broker.begin_slots(&table)
    }

    /// What `changes` of the nodes would come to, all together, by the rules that nodes balance by: which slots would move, and
    /// about how many clients. Changes nothing. `None` where [`slot_table`](Self::slot_table) is.
    ///
    /// # Errors
    /// Those of `slot_table`, and [`Argument`](crate::ErrorKind::Argument) if a node is to go that does not stand in the table.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// use imcore::WhatIf;
    ///
    /// let plan = im.plan_slots(&[WhatIf::Joins { node: "im-3".into(), weight: 1 }])?;
    /// assert!(plan.is_none(), "nodes are a list here");
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn plan_slots(&self, changes: &[WhatIf]) -> Result<Option<SlotPlan>> {
        let broker = self.broker();
        let Some(table) = broker.slot_table()? else { return Ok(None) };
        let (living, statuses) = (broker.living()?, broker.statuses()?);
        let connections = |node: &str| {
            let of_node = statuses.iter().filter(|(name, _)| name == node);
            of_node.filter_map(|(_, status)| Some(status.as_ref()?.connections)).sum()
        };
        table.plan(changes, &living, connections).map(Some)
    }

    /// Has the node called `node` give its slots away, or take its share again; whether it stands in the table. Waits for nobody: the
    /// node sends its clients on at its own pace, and goes on running. What is said so ends with its process.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// assert!(!im.set_draining("im-3", true)?, "nodes are a list here");
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn set_draining(&self, node: &str, draining: bool) -> Result<bool> {
        self.broker().order(node, SlotOrder::Draining(draining))
    }

    /// Has the node called `node` take so many slots compared with others, whatever its own setting says, or with `None` as many as that
    /// says again; whether it stands in the table. The order stays there, also over a restart of the node, until it is taken back.
    /// [`plan_slots`](Self::plan_slots) says beforehand what would move.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// ```
    /// # let im = imcore::example_client()?;
    /// assert!(!im.set_weight("im-3", Some(2))?, "nodes are a list here");
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn set_weight(&self, node: &str, weight: Option<u32>) -> Result<bool> {
        self.broker().order(node, SlotOrder::Weight(weight))
    }

    /// Name of the node that owns `client`: the only one that it can connect to. Asks nobody, where nodes are a fixed list.
    ///
    /// # Errors
    /// With [slots](crate::ImClientBuilder::slots) those of the broker, and [`Unavailable`](crate::ErrorKind::Unavailable) if no
    /// node owns the client's slot.
    pub fn node_of(&self, client: impl Into<ClientId>) -> Result<String> {
        Ok(self.routes.now(&**self.broker())?.owner(&client.into())?.to_owned())
    }

    /// A bounded part of [`connections_of`](Self::connections_of): looks through up to 5,000 connections of
    /// the owning node. May be empty and not the last; the total is that of the client's connections.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if `after` was not given by such a page.
    pub fn connections_page(
        &self,
        client: impl Into<ClientId>,
        after: Option<&str>,
    ) -> Result<Page<ConnectionInfo>> {
        let client = client.into();
        let node = &self.node_of(&client)?;
        let Page { items, next, total } = self.broker().connections_page(&client, node, after)?;
        let items = items.into_iter().map(|found| connection(node, found)).collect();
        Ok(Page { items, next, total })
    }

    /// The open connections of `client`, by number, each with its `meta`.
    ///
    /// The broker keeps them by node, not by client, so this looks through all connections of the owning
    /// node in steps of 500, each a round trip, and stops once all were found: half a second in the worst
    /// case for a node with 250,000. A client that is offline costs one round trip. Made for an
    /// operator's tool; to know whether somebody is online, ask [`is_online`](Self::is_online).
    ///
    /// What opens or closes while it looks may be missing, or shown still.
    pub fn connections_of(&self, client: impl Into<ClientId>) -> Result<Vec<ConnectionInfo>> {
        let client = client.into();
        let node = &self.node_of(&client)?;
        let mut open = self.broker().connections_of(&client, node)?;
        open.sort_by_key(|(number, _)| *number);
        Ok(open.into_iter().map(|found| connection(node, found)).collect())
    }
}

fn connection(node: &str, (number, ticket): (u64, Ticket)) -> ConnectionInfo {
    ConnectionInfo { node: node.to_owned(), number, meta: ticket.meta() }
}
