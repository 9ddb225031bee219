//! Who owns a client: a list of nodes, by whose order each client belongs to one of them, or a table of slots.
//!
//! Pure. Used by helper and server alike, which must agree on it, and by nothing below them: the broker takes
//! the name of a node and never asks whose it is. Only this file knows that the list has an order.

use std::sync::Arc;

use crate::{
    error::{Error, ErrorKind, Result},
    id::ClientId,
    slots::{self, SlotTable},
};

/// Which node owns a client, at one moment. Cheap to clone. Clients can connect to their own node only.
#[derive(Debug, Clone)]
pub(crate) struct Placement(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// Every process of a deployment, helpers and nodes, is given the same names in the same order, and by that comes to
    /// the same answer without asking anybody.
    Fixed(Arc<[String]>),
    /// The broker's table, as it was when it was read.
    Slots(Arc<SlotTable>),
}

impl Placement {
    /// Clients are spread over `nodes` by their ids, as in the .NET original: integers by their remainder
    /// (never negative), GUIDs by the remainder of their last two bytes read as a big-endian number. Texts, which it has not,
    /// by the remainder of a hash.
    ///
    /// Refuses an empty list and empty, repeated or malformed names: each would send messages astray silently.
    pub(crate) fn fixed<N: Into<String>>(nodes: impl IntoIterator<Item = N>) -> Result<Self> {
        let nodes: Vec<String> = nodes.into_iter().map(Into::into).collect();
        if nodes.is_empty() {
            return Err(Error::config(
                "servers",
                "the list is empty; name at least one node, for example 127.0.0.1:6001",
            ));
        }
        for (index, name) in nodes.iter().enumerate() {
            if let Some(why) = mistake(name) {
                return Err(Error::config(
                    "servers",
                    format!("{name:?} {why}; a node's name is like 127.0.0.1:6001 or im-0"),
                ));
            }
            if nodes[..index].contains(name) {
                return Err(Error::config("servers", format!("{name:?} is listed twice")));
            }
        }
        Ok(Placement(Kind::Fixed(nodes.into())))
    }

    /// Clients belong to slots, by the same rule, and slots to nodes as the table says.
    pub(crate) fn slots(table: impl Into<Arc<SlotTable>>) -> Self {
        Placement(Kind::Slots(table.into()))
    }

    /// Which version of the table it is; `None` of a list, which never changes.
    pub(crate) fn version(&self) -> Option<u64> {
        match &self.0 {
            Kind::Fixed(_) => None,
            Kind::Slots(table) => Some(table.version),
        }
    }

    /// Name of the node that owns `client`.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if nobody owns its slot.
    pub(crate) fn owner(&self, client: &ClientId) -> Result<&str> {
        self.owner_of(self.slot(client))
    }

    /// Names of all nodes, in the order of the list.
    pub(crate) fn nodes(&self) -> Vec<&str> {
        match &self.0 {
            Kind::Fixed(nodes) => nodes.iter().map(String::as_str).collect(),
            Kind::Slots(table) => table.nodes().map(|(name, _)| name).collect(),
        }
    }

    /// Place in the list of the node called `name`.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        match &self.0 {
            Kind::Fixed(nodes) => nodes.iter().position(|node| node == name),
            Kind::Slots(_) => None,
        }
    }

    /// How many slots `node` owns, if it stands in a table.
    pub(crate) fn slots_of(&self, node: &str) -> Option<usize> {
        let Kind::Slots(table) = &self.0 else { return None };
        table.node(node).map(|_| table.slots_of(node).count())
    }

    /// What stands for `{index}` and `{server}` in the address of `client`: the place and the name of its node in the list,
    /// its slot and what the node that owns it is called by clients.
    pub(crate) fn address(&self, client: &ClientId) -> Result<(usize, &str)> {
        let slot = self.slot(client);
        let owner = self.owner_of(slot)?;
        Ok(match &self.0 {
            Kind::Fixed(_) => (slot, owner),
            Kind::Slots(table) => (slot, table.node(owner).map_or(owner, |node| &node.address)),
        })
    }

    /// Distributes clients among their nodes: each node that owns any, with those, in the order of coming.
    pub(crate) fn by_owner(
        &self,
        clients: impl IntoIterator<Item = ClientId>,
    ) -> Result<Vec<(&str, Vec<ClientId>)>> {
        let mut found: Vec<(&str, Vec<ClientId>)> = Vec::new();
        for client in clients {
            let owner = self.owner(&client)?;
            // Names of one placement are the same if they lie at the same place, which most do.
            match found.iter_mut().find(|(other, _)| std::ptr::eq(*other, owner) || *other == owner)
            {
                Some((_, clients)) => clients.push(client),
                None => found.push((owner, vec![client])),
            }
        }
        Ok(found)
    }

    /// Whether `node` has nothing to do with any client, or nobody else could take its clients.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn is_left_by(&self, node: &str) -> bool {
        let Kind::Slots(table) = &self.0 else { return true };
        let is_owner = table.slots_of(node).next().is_some();
        let others = table.nodes().any(|(name, other)| name != node && other.takes());
        let is_left = !is_owner && table.leaving(node).next().is_none();
        is_left || !others || table.listed().next().is_some()
    }

    /// The node that owns a slot, where there are such.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn slot_owner(&self, slot: usize) -> Option<&str> {
        let Kind::Slots(table) = &self.0 else { return None };
        table.owner(slot)
    }

    /// The node that has still to hand a slot over to its owner.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn former_owner(&self, slot: usize) -> Option<&str> {
        let Kind::Slots(table) = &self.0 else { return None };
        table.moving_from(slot)
    }

    /// Whether another node owns the client, to which `own` hands nothing over.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn has_gone_from(&self, client: &ClientId, own: &str) -> bool {
        let Kind::Slots(table) = &self.0 else { return false };
        table.has_gone_from(self.slot(client), own)
    }

    /// A node besides `own` that has connections of `client`, or may have, where owners change.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn other(&self, client: &ClientId, own: &str) -> Option<&str> {
        let Kind::Slots(table) = &self.0 else { return None };
        table.other(self.slot(client), own)
    }

    fn slot(&self, client: &ClientId) -> usize {
        let count = match &self.0 {
            Kind::Fixed(nodes) => nodes.len(),
            Kind::Slots(table) => table.count(),
        };
        slots::slot(client, count)
    }

    fn owner_of(&self, slot: usize) -> Result<&str> {
        match &self.0 {
            Kind::Fixed(nodes) => Ok(&nodes[slot]),
            Kind::Slots(table) => table.owner(slot).ok_or_else(|| {
                let detail = format!("no node serves slot {slot} yet");
                Error::new(ErrorKind::Unavailable, detail)
            }),
        }
    }
}

/// The path of all WebSocket addresses must be absolute: the original builds an unusable URL from `ws`.
pub(crate) fn check_path(path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains(['?', '#', ' ']) {
        return Ok(());
    }
    Err(Error::config(
        "path",
        format!("{path:?} must start with / and hold no ?, # or blank, for example /ws"),
    ))
}

/// What is wrong with a name, if anything: something that was meant to be several, or an address.
fn mistake(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is no name"),
        _ if name.contains(';') => Some("has a semicolon; separate names with commas"),
        _ if name.contains(',') => Some("is several names; give each as an entry of its own"),
        _ if name.trim() != name => Some("has a blank around it; separate names with commas alone"),
        _ if name.contains(|c: char| c.is_whitespace() || c.is_control()) => Some("holds a blank"),
        _ if name.contains("://") => Some("is a URL; leave its scheme out"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_meant_otherwise_are_refused() {
        let refusal = |names: &[&str]| {
            Placement::fixed(names.iter().copied()).err().map(|error| error.to_string())
        };
        assert_eq!(refusal(&["a", "10.0.0.1:6001", "[::1]:1", "im.example.com/s1"]), None);
        for (names, why) in [
            (&["im-0;im-1"][..], "has a semicolon; separate names with commas"),
            (&["im-0,im-1"], "several names"),
            (&["a", " b"], "has a blank around it"),
            (&["a b"], "holds a blank"),
            (&["a", "a"], "listed twice"),
            (&["", "a"], "is no name"),
            (&["http://a:1", "http://b:1"], "is a URL"),
            (&[], "the list is empty"),
        ] {
            assert!(refusal(names).is_some_and(|text| text.contains(why)), "{names:?}");
        }
    }

    fn three() -> Placement {
        Placement::fixed(["0", "1", "2"]).unwrap()
    }

    #[test]
    fn ownership_follows_the_recorded_table() {
        for (id, node) in [
            (1, "1"),
            (2, "2"),
            (3, "0"),
            (1001, "2"),
            (i64::MAX, "1"),
            (9_007_199_254_740_993, "0"),
            (4_294_967_296, "1"),
            (-3, "0"),
        ] {
            assert_eq!(three().owner(&id.into()).unwrap(), node, "{id}");
        }
        for (id, node) in [
            ("0f8fad5b-d9cb-469f-a165-70867728950e", "1"),
            ("7c9e6679-7425-40de-944b-e07fc1f90ae7", "1"),
            ("8f14e45f-ceea-467f-a9b1-0000000003e9", "2"),
            ("8f14e45f-ceea-467f-a9b1-000000010000", "0"),
            ("8f14e45f-ceea-467f-a9b1-00000000ffff", "0"),
        ] {
            assert_eq!(three().owner(&id.parse().unwrap()).unwrap(), node, "{id}");
        }
    }

    #[test]
    fn negative_ids_have_a_node() {
        for id in [-1, -2, i64::MIN] {
            assert!(three().nodes().contains(&three().owner(&id.into()).unwrap()));
        }
    }

    #[test]
    fn clients_are_distributed_in_the_order_of_coming() {
        let clients = [2, 5, 0, 8].map(ClientId::from);
        let expected = vec![("2", [2, 5, 8].map(ClientId::from).to_vec()), ("0", vec![0.into()])];
        assert_eq!(three().by_owner(clients).unwrap(), expected);
    }

    #[test]
    fn a_table_leads_to_the_owner_of_the_slot() {
        let fields = [
            ("form", "1"),
            ("version", "7"),
            ("count", "4"),
            ("0", "a"),
            ("1", "b"),
            ("2", "b"),
            ("node:a", r#"{"address":"a.example.com","weight":1,"draining":false}"#),
            ("node:b", r#"{"address":"b.example.com","weight":1,"draining":false}"#),
        ];
        let placement = Placement::slots(SlotTable::read(fields).unwrap().unwrap());
        assert_eq!((placement.version(), placement.nodes()), (Some(7), vec!["a", "b"]));
        assert_eq!((placement.slots_of("b"), placement.slots_of("c")), (Some(2), None));
        assert_eq!(placement.owner(&5.into()).unwrap(), "b");
        assert_eq!(placement.address(&6.into()).unwrap(), (2, "b.example.com"));
        let clients = [1, 4, 2].map(ClientId::from);
        let expected = vec![("b", [1, 2].map(ClientId::from).to_vec()), ("a", vec![4.into()])];
        assert_eq!(placement.by_owner(clients).unwrap(), expected);
        let error = placement.owner(&3.into()).unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("slot 3"), "{error}");
    }
}
