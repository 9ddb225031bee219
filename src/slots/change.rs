//! Changes of the table: who may make which, and what becomes of it.
//!
//! Pure. A broker looks here what a change comes to, and makes it if the table is still the same.

use super::table::{SlotNode, SlotTable};
use crate::{error::Error, wire::Envelope};

/// A change of the [`SlotTable`] by a node.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SlotChange<'a> {
    /// The node stands in the table with what it says of itself, for the first time or anew. Makes the table, of `count` slots, if
    /// there is none.
    Stand {
        /// What it says.
        said: &'a SlotNode,
        /// How many slots there are.
        count: usize,
    },
    /// The node takes a slot that no living node owns.
    Take {
        /// Which.
        slot: usize,
    },
    /// The node gives a slot that it owns to a living node, and has clients of it to send on.
    Give {
        /// Which.
        slot: usize,
        /// To whom.
        to: &'a str,
    },
    /// The node has no clients any more of a slot that it has given away.
    Left {
        /// Which.
        slot: usize,
    },
    /// A node that owns nothing stands in the table no more: the one that says so, or one that lives no more.
    Forget {
        /// Which.
        node: &'a str,
    },
}

/// What an operator orders of a node that stands in the [`SlotTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotOrder {
    /// That it gives its slots away, or takes its share again. Ends with its process.
    Draining(bool),
    /// How many slots it takes compared with others, whatever its own setting says; `None`: as that says again. Stays in the table,
    /// also while the node is away.
    Weight(Option<u32>),
}

/// What a change comes to.
#[derive(Debug, PartialEq)]
pub(crate) struct Changed {
    /// The table after it.
    pub(crate) table: SlotTable,
    /// A node that must be alive for it.
    pub(crate) alive: Option<String>,
    /// A node that must not.
    pub(crate) dead: Option<String>,
    /// The slot that was given, or taken from a dead node, and to whom.
    pub(crate) given: Option<(u64, String)>,
}

impl Changed {
    /// Without conditions.
    pub(crate) fn of(table: SlotTable) -> Self {
        Changed { table, alive: None, dead: None, given: None }
    }

    /// What nodes are told of it.
    pub(crate) fn notice(&self) -> Envelope {
        let (version, given) = (self.table.version, self.given.clone());
        let from = self.dead.clone().filter(|_| given.is_some());
        Envelope::Slots { version, given, from }
    }
}

/// Why a table has another number of slots than a node was told.
#[derive(Debug, PartialEq)]
pub(crate) struct OtherCount(pub(crate) usize);

impl OtherCount {
    /// What whoever is told another number has to change.
    pub(crate) fn error(&self) -> Error {
        let count = self.0;
        Error::config(
            "slots",
            format!("the table has {count} slots, for ever; say {count} on every node"),
        )
    }
}

impl SlotTable {
    /// The table after a change by `node`; `None` if it cannot be made in this one.
    pub(crate) fn changed(
        table: Option<&SlotTable>,
        node: &str,
        change: &SlotChange<'_>,
    ) -> Result<Option<Changed>, OtherCount> {
        if let (SlotChange::Stand { count, .. }, Some(table)) = (change, table)
            && *count != table.count()
        {
            return Err(OtherCount(table.count()));
        }
        let mut after = match (table, change) {
            (Some(table), _) => table.clone(),
            (None, SlotChange::Stand { count, .. }) => SlotTable::new(*count),
            (None, _) => return Ok(None),
        };
        let stands = after.node(node).is_some();
        let (mut alive, mut dead, mut given) = (None, None, None);
        let is_made = match *change {
            SlotChange::Stand { said, .. } => {
                after.set_node(node, said.clone());
                true
            }
            SlotChange::Take { slot }
                if stands && slot < after.count() && after.owner(slot) != Some(node) =>
            {
                dead = after.owner(slot).map(str::to_owned);
                given = dead.is_some().then(|| (slot as u64, node.to_owned()));
                after.set_owner(slot, node, None);
                true
            }
            SlotChange::Give { slot, to } => {
                // The former owner has first to hand over what it has.
                let is_own = after.owner(slot) == Some(node) && after.moving_from(slot).is_none();
                let can = is_own && to != node && after.node(to).is_some();
                if can {
                    alive = Some(to.to_owned());
                    given = Some((slot as u64, to.to_owned()));
                    after.set_owner(slot, to, Some(node));
                }
                can
            }
            SlotChange::Left { slot } if after.moving_from(slot) == Some(node) => {
                after.moved(slot);
                true
            }
            SlotChange::Forget { node: gone } => {
                let can = after.node(gone).is_some() && after.slots_of(gone).next().is_none();
                if can {
                    dead = (gone != node).then(|| gone.to_owned());
                    after.remove_node(gone);
                }
                can
            }
            _ => false,
        };
        Ok(is_made.then_some(Changed { table: after, alive, dead, given }))
    }

    /// The table once `order` stands for `node`; `None` if it does already, or there is no such node. A weight can be taken back of a
    /// node that has gone.
    pub(crate) fn ordered(&self, node: &str, order: SlotOrder) -> Option<SlotTable> {
        let mut after = self.clone();
        match (order, self.node(node)) {
            (SlotOrder::Draining(draining), Some(said)) if said.draining != draining => {
                after.set_node(node, SlotNode { draining, ..said.clone() });
            }
            (SlotOrder::Weight(Some(weight)), Some(said))
                if self.ordered_weight(node) != Some(weight) =>
            {
                after.order_weight(node, Some(weight));
                after.set_node(node, SlotNode { weight, ..said.clone() });
            }
            // The node itself knows what its setting says.
            (SlotOrder::Weight(None), _) if self.ordered_weight(node).is_some() => {
                after.order_weight(node, None);
            }
            _ => return None,
        }
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(table: &SlotTable, node: &str, change: SlotChange) -> Option<Changed> {
        SlotTable::changed(Some(table), node, &change).unwrap()
    }

    fn two() -> SlotTable {
        let mut table = SlotTable::new(4);
        ["a", "b"].into_iter().for_each(|node| table.set_node(node, SlotNode::new(node)));
        (0..3).for_each(|slot| table.set_owner(slot, "a", None));
        table
    }

    #[test]
    fn the_first_makes_the_table() {
        let said = SlotNode::new("a.example.com");
        let stand = SlotChange::Stand { said: &said, count: 4 };
        let made = SlotTable::changed(None, "a", &stand).unwrap().unwrap().table;
        assert_eq!((made.version, made.count(), made.node("a")), (1, 4, Some(&said)));
        let other = SlotChange::Stand { said: &said, count: 5 };
        assert_eq!(SlotTable::changed(Some(&made), "b", &other), Err(OtherCount(4)));
        assert_eq!(SlotTable::changed(None, "a", &SlotChange::Take { slot: 0 }), Ok(None));
    }

    #[test]
    fn owners_give_and_only_from_the_dead_is_taken() {
        let table = two();
        let given = after(&table, "a", SlotChange::Give { slot: 1, to: "b" }).unwrap();
        assert_eq!((given.alive.as_deref(), given.table.owner(1)), (Some("b"), Some("b")));
        assert_eq!(given.table.moving_from(1), Some("a"));
        for (node, change) in [
            ("b", SlotChange::Give { slot: 1, to: "b" }),
            ("a", SlotChange::Give { slot: 1, to: "a" }),
            ("a", SlotChange::Give { slot: 1, to: "c" }),
            ("a", SlotChange::Give { slot: 3, to: "b" }),
            ("a", SlotChange::Give { slot: 9, to: "b" }),
            ("a", SlotChange::Take { slot: 1 }),
            ("c", SlotChange::Take { slot: 3 }),
            ("b", SlotChange::Take { slot: 4 }),
            ("a", SlotChange::Left { slot: 1 }),
            ("b", SlotChange::Forget { node: "a" }),
            ("b", SlotChange::Forget { node: "c" }),
        ] {
            assert_eq!(after(&table, node, change), None, "{node} {change:?}");
        }
        let taken = after(&table, "b", SlotChange::Take { slot: 1 }).unwrap();
        assert_eq!((taken.dead.as_deref(), taken.table.moving_from(1)), (Some("a"), None));
        let free = after(&table, "b", SlotChange::Take { slot: 3 }).unwrap();
        assert_eq!((free.dead, free.alive), (None, None));
        assert_eq!(after(&given.table, "b", SlotChange::Left { slot: 1 }), None);
        let left = after(&given.table, "a", SlotChange::Left { slot: 1 }).unwrap();
        assert_eq!(left.table.moving_from(1), None);
    }

    #[test]
    fn who_owns_nothing_may_go() {
        let table = two();
        assert_eq!(after(&table, "b", SlotChange::Forget { node: "b" }).unwrap().dead, None);
        let by_other = after(&table, "a", SlotChange::Forget { node: "b" }).unwrap();
        assert_eq!((by_other.dead.as_deref(), by_other.table.node("b")), (Some("b"), None));
    }

    #[test]
    fn an_order_counts_once_and_a_weight_outlives_its_node() {
        let table = two();
        let drains = table.ordered("b", SlotOrder::Draining(true)).unwrap();
        assert!(drains.node("b").unwrap().draining && drains.version > table.version);
        for (node, order) in [
            ("b", SlotOrder::Draining(false)),
            ("c", SlotOrder::Draining(true)),
            ("c", SlotOrder::Weight(Some(2))),
            ("b", SlotOrder::Weight(None)),
        ] {
            assert_eq!(table.ordered(node, order), None, "{node} {order:?}");
        }
        let heavy = table.ordered("b", SlotOrder::Weight(Some(2))).unwrap();
        assert_eq!((heavy.ordered_weight("b"), heavy.node("b").unwrap().weight), (Some(2), 2));
        assert_eq!(heavy.ordered("b", SlotOrder::Weight(Some(2))), None);
        let gone = after(&heavy, "b", SlotChange::Forget { node: "b" }).unwrap().table;
        assert_eq!((gone.node("b"), gone.ordered_weight("b")), (None, Some(2)));
        let lifted = gone.ordered("b", SlotOrder::Weight(None)).unwrap();
        assert!(lifted.ordered_weight("b").is_none() && lifted.version > gone.version);
    }
}
