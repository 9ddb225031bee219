//! Who owns a client: the list of nodes, and the rule by which each client belongs to one of them.
//!
//! Pure. Used by helper and server alike, which must agree on it, and by nothing below them: the broker takes
//! the name of a node and never asks whose it is. Only this file knows that the list has an order.

use std::sync::Arc;

use crate::{
    error::{Error, Result},
    id::ClientId,
    slots,
};

/// Which node owns a client. Cheap to clone.
///
/// Every process of a deployment, helpers and nodes, is given the same names in the same order, and by that
/// comes to the same answer without asking anybody. Clients can connect to their own node only.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    nodes: Arc<[String]>,
}

impl Placement {
    /// Clients are spread over `nodes` by their ids, as in the .NET original: integers by their remainder
    /// (never negative), GUIDs by the remainder of their last two bytes read as a big-endian number.
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
        Ok(Placement { nodes: nodes.into() })
    }

    /// Name of the node that owns `client`.
    pub(crate) fn owner(&self, client: impl Into<ClientId>) -> &str {
        &self.nodes[self.slot(client.into())]
    }

    /// Names of all nodes, in the order of the list.
    pub(crate) fn nodes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.nodes.iter().map(String::as_str)
    }

    /// Place in the list of the node called `name`: what `{index}` stands for in an address.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node == name)
    }

    /// Distributes clients among their nodes: each node that owns any, with those, in the order of coming.
    pub(crate) fn by_owner(
        &self,
        clients: impl IntoIterator<Item = ClientId>,
    ) -> Vec<(&str, Vec<ClientId>)> {
        let mut found: Vec<(usize, Vec<ClientId>)> = Vec::new();
        for client in clients {
            let slot = self.slot(client);
            match found.iter_mut().find(|(other, _)| *other == slot) {
                Some((_, clients)) => clients.push(client),
                None => found.push((slot, vec![client])),
            }
        }
        found.into_iter().map(|(slot, clients)| (&*self.nodes[slot], clients)).collect()
    }

    fn slot(&self, client: ClientId) -> usize {
        slots::slot(client, self.nodes.len())
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
            assert_eq!(three().owner(id), node, "{id}");
        }
        for (id, node) in [
            ("0f8fad5b-d9cb-469f-a165-70867728950e", "1"),
            ("7c9e6679-7425-40de-944b-e07fc1f90ae7", "1"),
            ("8f14e45f-ceea-467f-a9b1-0000000003e9", "2"),
            ("8f14e45f-ceea-467f-a9b1-000000010000", "0"),
            ("8f14e45f-ceea-467f-a9b1-00000000ffff", "0"),
        ] {
            assert_eq!(three().owner(id.parse::<ClientId>().unwrap()), node, "{id}");
        }
    }

    #[test]
    fn negative_ids_have_a_node() {
        for id in [-1, -2, i64::MIN] {
            assert!(three().nodes().any(|node| node == three().owner(id)));
        }
    }

    #[test]
    fn clients_are_distributed_in_the_order_of_coming() {
        let clients = [2, 5, 0, 8].map(ClientId::from);
        let expected = vec![("2", [2, 5, 8].map(ClientId::from).to_vec()), ("0", vec![0.into()])];
        assert_eq!(three().by_owner(clients), expected);
    }
}
