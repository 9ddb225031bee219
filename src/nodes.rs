//! The list of nodes, and which of them owns a client. Used by helper and server alike.

use std::sync::Arc;

use crate::{
    error::{Error, Result},
    id::ClientId,
};

/// Names of all nodes in the order on which every process of a deployment agrees. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Nodes(Arc<[String]>);

impl Nodes {
    /// Refuses an empty list and empty or repeated names: each would send messages astray silently.
    pub(crate) fn new(names: Vec<String>) -> Result<Self> {
        if names.is_empty() {
            return Err(Error::config(
                "servers: the list is empty; name at least one node, for example 127.0.0.1:6001",
            ));
        }
        for (index, name) in names.iter().enumerate() {
            if let Some(why) = mistake(name) {
                return Err(Error::config(format!(
                    "servers: {name:?} {why}; a node's name is like 127.0.0.1:6001 or im-0"
                )));
            }
            if names[..index].contains(name) {
                return Err(Error::config(format!("servers: {name:?} is listed twice")));
            }
        }
        Ok(Nodes(names.into()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        &self.0[index]
    }

    /// Place of the node called `name`.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|node| node == name)
    }

    /// Name of the node that owns `client`.
    pub(crate) fn owner(&self, client: ClientId) -> &str {
        self.name(client.node_of(self.len()))
    }
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
            let names = names.iter().map(|name| name.to_string()).collect();
            Nodes::new(names).err().map(|error| error.to_string())
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
}
