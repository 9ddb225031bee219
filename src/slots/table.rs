//! The table of slots: which node owns which, which of them are moving, and what is known of the nodes.
//!
//! Kept by the broker as a hash of texts, whose form only this file knows, and changed by nodes whose lease stands, one
//! change and one version at a time.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{MOST_SLOTS, slot_number};
use crate::error::{Error, Result};

/// Which node owns which slot, at one version.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SlotTable {
    /// Rises by one with each change.
    pub version: u64,
    owners: Vec<Option<Arc<str>>>,
    /// Slots that have a new owner while the former one still has clients of it, with the former one.
    moving: BTreeMap<usize, Arc<str>>,
    nodes: BTreeMap<Arc<str>, SlotNode>,
    /// What operators have ordered, also of nodes that do not stand here now.
    weights: BTreeMap<Arc<str>, u32>,
}

/// What a node says of itself in the [`SlotTable`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlotNode {
    /// What stands for `{server}` in the addresses that clients are given.
    pub address: String,
    /// How many slots it takes compared with others; 0 takes none.
    pub weight: u32,
    /// Whether it gives its slots away: it is about to stop.
    #[serde(default)]
    pub draining: bool,
    /// Whether it has only just come: it takes nothing before everybody who sends knows that it is there.
    #[serde(default)]
    pub joining: bool,
    /// Whether it serves a fixed list still: nothing moves before it is started anew with slots.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub listed: bool,
}

impl SlotNode {
    /// A node that takes as many slots as others do.
    pub fn new(address: impl Into<String>) -> Self {
        let (draining, joining, listed) = (false, false, false);
        SlotNode { address: address.into(), weight: 1, draining, joining, listed }
    }
}

impl SlotTable {
    /// A table of `count` slots that nobody owns.
    pub(super) fn new(count: usize) -> Self {
        SlotTable { owners: vec![None; count], ..SlotTable::default() }
    }

    /// A table that nobody has made yet: nobody owns any of its `count` slots.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn empty(count: usize) -> Self {
        SlotTable::new(count)
    }

    /// The table in which each client of a fixed list, `nodes` in its order, stays with its node: slot `i` is owned by the node at place
    /// `i` modulo their number.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if `count` is no multiple of their number, as clients would have to move, or no number
    /// of slots at all.
    pub(crate) fn of_list(count: usize, nodes: &[&str]) -> Result<Self> {
        let refused = |detail: String| Err(Error::config("slots", detail));
        if !(1..=MOST_SLOTS).contains(&count) {
            return refused(format!("{count} is no number from 1 to {MOST_SLOTS}"));
        }
        let many = nodes.len();
        if many == 0 || !count.is_multiple_of(many) {
            let least = count / many.max(1) * many;
            return refused(format!(
                "{count} slots cannot come from {many} nodes without moving clients: take a multiple of {many}, as {} or {}",
                if least == 0 { many } else { least },
                least + many.max(1)
            ));
        }
        let mut table = SlotTable::new(count);
        for node in nodes {
            table.set_node(node, SlotNode { listed: true, ..SlotNode::new(*node) });
        }
        (0..count).for_each(|slot| table.set_owner(slot, nodes[slot % many], None));
        Ok(table)
    }

    /// The nodes that serve a fixed list still. As long as there are any no slot changes its owner.
    pub fn listed(&self) -> impl Iterator<Item = &str> {
        self.nodes().filter(|(_, node)| node.listed).map(|(name, _)| name)
    }

    /// Number of slots.
    pub fn count(&self) -> usize {
        self.owners.len()
    }

    /// What slot number `slot` is called in the servers list of a .NET helper: `s07`, all equally long.
    pub fn slot_name(&self, slot: usize) -> String {
        format!("s{}", self.slot_number(slot))
    }

    /// The number in it: `07`.
    pub(crate) fn slot_number(&self, slot: usize) -> String {
        slot_number(slot, self.count())
    }

    /// The node that owns `slot`; `None` if none does, or there is no such slot.
    pub fn owner(&self, slot: usize) -> Option<&str> {
        self.owners.get(slot)?.as_deref()
    }

    /// The node that owned `slot` before and still has clients of it.
    pub fn moving_from(&self, slot: usize) -> Option<&str> {
        self.moving.get(&slot).map(|from| &**from)
    }

    /// A node besides `own` that has connections of `slot`, or may have: the one that owns it, or did before.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn other(&self, slot: usize, own: &str) -> Option<&str> {
        self.owner(slot).into_iter().chain(self.moving_from(slot)).find(|node| *node != own)
    }

    /// Whether another node owns `slot` to which `node` hands nothing over: it has done so, or was taken for dead.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    pub(crate) fn has_gone_from(&self, slot: usize, node: &str) -> bool {
        self.owner(slot).is_some_and(|owner| owner != node) && self.moving_from(slot) != Some(node)
    }

    /// All nodes by name, those that own nothing too.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &SlotNode)> {
        self.nodes.iter().map(|(name, node)| (&**name, node))
    }

    /// What `node` says of itself.
    pub fn node(&self, node: &str) -> Option<&SlotNode> {
        self.nodes.get(node)
    }

    /// How many slots `node` takes compared with others by an operator's order, which counts before its own setting.
    pub fn ordered_weight(&self, node: &str) -> Option<u32> {
        self.weights.get(node).copied()
    }

    /// The slots that `node` owns, rising.
    pub fn slots_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = usize> + 'a {
        let owns = move |(slot, owner): (usize, &Option<Arc<str>>)| {
            (owner.as_deref() == Some(node)).then_some(slot)
        };
        self.owners.iter().enumerate().filter_map(owns)
    }

    /// The slots that `node` owned and still has clients of, rising.
    pub fn leaving<'a>(&'a self, node: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.moving.iter().filter(move |(_, from)| &***from == node).map(|(slot, _)| *slot)
    }

    // --- Changes, as the broker makes them ---------------------------------------------------------

    /// Adds a node, or what it says of itself anew.
    pub(super) fn set_node(&mut self, name: &str, node: SlotNode) {
        self.nodes.insert(name.into(), node);
        self.version += 1;
    }

    /// Notes, or forgets, what was ordered of a node.
    pub(super) fn order_weight(&mut self, name: &str, weight: Option<u32>) {
        match weight {
            Some(weight) => self.weights.insert(name.into(), weight),
            None => self.weights.remove(name),
        };
        self.version += 1;
    }

    /// Takes out a node that owns nothing, and has none of its former clients to send on.
    pub(super) fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
        self.moving.retain(|_, from| &**from != name);
        self.version += 1;
    }

    /// Gives `slot` to `node`; `from` is its owner if that is alive, and so has clients to send on.
    pub(super) fn set_owner(&mut self, slot: usize, node: &str, from: Option<&str>) {
        if let Some(owner) = self.owners.get_mut(slot) {
            *owner = Some(node.into());
            match from {
                Some(from) => self.moving.insert(slot, from.into()),
                None => self.moving.remove(&slot),
            };
            self.version += 1;
        }
    }

    /// The former owner of `slot` has no clients of it any more.
    pub(super) fn moved(&mut self, slot: usize) {
        if self.moving.remove(&slot).is_some() {
            self.version += 1;
        }
    }

    // --- Its form in the broker: a hash with `form`, `version`, `count`, `0` .. for owners, `from0` .. for former owners,
    // --- `node:NAME` with JSON, and `weight:NAME` for what was ordered.

    /// Reads the fields of the hash; `None` if there are none. The error says what is wrong with them.
    pub(crate) fn read<K: AsRef<str>, V: AsRef<str>>(
        fields: impl IntoIterator<Item = (K, V)>,
    ) -> Option<std::result::Result<Self, String>> {
        let fields: BTreeMap<String, String> = fields
            .into_iter()
            .map(|(key, value)| (key.as_ref().into(), value.as_ref().into()))
            .collect();
        (!fields.is_empty()).then(|| Self::from_fields(&fields))
    }

    fn from_fields(fields: &BTreeMap<String, String>) -> std::result::Result<Self, String> {
        let number = |name: &str| -> std::result::Result<u64, String> {
            let text = fields.get(name).ok_or_else(|| format!("it has no {name:?}"))?;
            text.parse().map_err(|_| format!("its {name:?} is {text:?}, which is no number"))
        };
        match number("form")? {
            1 => {}
            form => return Err(format!("its form {form} is that of a newer version of imcore")),
        }
        let count = number("count")?;
        let count = usize::try_from(count).ok().filter(|count| (1..=MOST_SLOTS).contains(count));
        let count = count.ok_or_else(|| format!("its count is not from 1 to {MOST_SLOTS}"))?;
        let mut table = SlotTable::new(count);
        table.version = number("version")?;
        for (name, value) in fields {
            if let Some(node) = name.strip_prefix("node:") {
                let said = serde_json::from_str(value);
                let said =
                    said.map_err(|error| format!("what it says of node {node:?}: {error}"))?;
                table.nodes.insert(node.into(), said);
            } else if let Some(node) = name.strip_prefix("weight:") {
                let weight = value.parse();
                let weight =
                    weight.map_err(|_| format!("its {name:?} is {value:?}, which is no weight"))?;
                table.weights.insert(node.into(), weight);
            }
        }
        for (name, value) in fields {
            let (slot, is_former) = match name.strip_prefix("from") {
                Some(slot) => (slot, true),
                None => (name.as_str(), false),
            };
            let Ok(slot) = slot.parse::<usize>() else { continue };
            if slot >= count {
                return Err(format!("it has {count} slots, but {name:?} too"));
            }
            match is_former {
                true => drop(table.moving.insert(slot, value.as_str().into())),
                false => table.owners[slot] = Some(value.as_str().into()),
            }
        }
        for slot in 0..count {
            if let Some(owner) = table.owner(slot).filter(|owner| table.node(owner).is_none()) {
                return Err(format!("slot {slot} is owned by {owner:?}, of which it says nothing"));
            }
        }
        Ok(table)
    }

    /// The fields of the hash.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let mut fields = vec![
            ("form".into(), "1".into()),
            ("version".into(), self.version.to_string()),
            ("count".into(), self.count().to_string()),
        ];
        let owners = self.owners.iter().enumerate();
        fields.extend(
            owners.filter_map(|(slot, owner)| Some((slot.to_string(), owner.as_deref()?.into()))),
        );
        fields.extend(
            self.moving.iter().map(|(slot, from)| (format!("from{slot}"), from.to_string())),
        );
        fields
            .extend(self.nodes.iter().map(|(name, node)| (format!("node:{name}"), node.encode())));
        let weights = self.weights.iter();
        fields.extend(weights.map(|(name, weight)| (format!("weight:{name}"), weight.to_string())));
        fields
    }
}

impl SlotNode {
    /// Whether it takes slots.
    pub(crate) fn takes(&self) -> bool {
        !self.draining && !self.joining && self.weight > 0
    }

    /// As it stands in the table.
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always valid JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> SlotTable {
        let mut table = SlotTable::new(4);
        table.set_node("a", SlotNode::new("a.example.com"));
        table.set_node("b", SlotNode { weight: 2, draining: true, ..SlotNode::new("b:1") });
        (0..3).for_each(|slot| table.set_owner(slot, "a", None));
        table.set_owner(1, "b", Some("a"));
        table.order_weight("b", Some(2));
        table
    }

    #[test]
    fn a_table_survives_its_form() {
        let table = table();
        assert_eq!(SlotTable::read(table.fields()), Some(Ok(table.clone())));
        assert_eq!(table.slots_of("a").collect::<Vec<_>>(), [0, 2]);
        assert_eq!((table.owner(1), table.moving_from(1)), (Some("b"), Some("a")));
        assert_eq!((table.owner(3), table.owner(4)), (None, None));
        assert_eq!(table.leaving("a").collect::<Vec<_>>(), [1]);
        assert_eq!((table.version, table.ordered_weight("b")), (7, Some(2)));
    }

    #[test]
    fn a_list_becomes_a_table_in_which_nobody_moves() {
        let refusal = |count, nodes: &[&str]| {
            SlotTable::of_list(count, nodes)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        let nodes = ["b", "a", "c"];
        let table = SlotTable::of_list(63, &nodes).unwrap();
        for client in [0i64, 1, 2, 62, 63, 1001, i64::MAX] {
            let slot = crate::slots::slot(&client.into(), 63);
            assert_eq!(table.owner(slot), Some(nodes[(client % 3) as usize]), "{client}");
        }
        assert_eq!(table.listed().collect::<Vec<_>>(), ["a", "b", "c"]);
        let read = SlotTable::read(table.fields()).unwrap().unwrap();
        assert_eq!(read, table);
        assert!(refusal(64, &nodes).contains("a multiple of 3, as 63 or 66"));
        assert!(refusal(2, &nodes).contains("as 3 or 3"), "{}", refusal(2, &nodes));
        assert!(refusal(0, &nodes).contains("from 1 to 4096"));
        assert!(refusal(64, &[]).contains("0 nodes"));
    }

    #[test]
    fn what_is_no_table_is_said() {
        assert!(SlotTable::read(Vec::<(String, String)>::new()).is_none());
        let with = |name: &str, value: &str| {
            let mut fields = table().fields();
            fields.retain(|(known, _)| known != name);
            if !value.is_empty() {
                fields.push((name.into(), value.into()));
            }
            SlotTable::read(fields).unwrap().unwrap_err()
        };
        for (name, value, why) in [
            ("form", "2", "newer version"),
            ("form", "", "has no"),
            ("version", "x", "no number"),
            ("count", "0", "from 1 to"),
            ("count", "99999999999999", "from 1 to"),
            ("count", "2", "has 2 slots"),
            ("7", "a", "has 4 slots"),
            ("3", "z", "says nothing"),
            ("node:b", "{", "node \"b\""),
            ("weight:b", "-1", "no weight"),
        ] {
            assert!(with(name, value).contains(why), "{name} {value}: {}", with(name, value));
        }
    }
}
