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
            if name.is_empty() || name.trim() != name {
                return Err(Error::config(format!(
                    "servers: {name:?} is not a node name; expected one like 127.0.0.1:6001"
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
