//! What a change of the nodes would come to, before it is made: everybody takes and gives in turn, by the rules by which nodes
//! do it, until nobody has anything to do.
//!
//! Pure.

use std::collections::BTreeSet;

use super::table::{SlotNode, SlotTable};
use crate::error::{Error, Result};

/// A change of the nodes that is only thought of; see [`ImClient::plan_slots`](crate::ImClient::plan_slots).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhatIf {
    /// A node comes, or has another weight from now on.
    Joins {
        /// Its name.
        node: String,
        /// How many slots it takes compared with others; 0 takes none.
        weight: u32,
    },
    /// A node gives all its slots away.
    Drains {
        /// Its name.
        node: String,
    },
    /// A node dies.
    Dies {
        /// Its name.
        node: String,
    },
}

/// What a change of the nodes would come to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SlotPlan {
    /// The slots that would have another owner, rising.
    pub moves: Vec<SlotMove>,
    /// Slots that nobody would serve, rising: their node dies, and no other takes any.
    pub unserved: Vec<usize>,
    /// The table once nothing moves any more.
    pub table: SlotTable,
}

/// A slot that would have another owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotMove {
    /// Which.
    pub slot: usize,
    /// The node that owns it now, if one does.
    pub from: Option<String>,
    /// The node that would.
    pub to: String,
    /// About how many clients are connected in it: as many as in any other slot of its node.
    pub clients: u64,
}

impl SlotPlan {
    /// About how many clients would be sent on, each once.
    pub fn clients(&self) -> u64 {
        self.moves.iter().map(|moved| moved.clients).sum()
    }

    /// How many slots `node` would serve.
    pub fn slots_of(&self, node: &str) -> usize {
        self.table.slots_of(node).filter(|slot| !self.unserved.contains(slot)).count()
    }
}

impl SlotTable {
    /// What `changes` would come to where the nodes `living` live, and nodes have as many connections as `connections` says.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if a node is to go that does not stand in the table.
    pub(crate) fn plan(
        &self,
        changes: &[WhatIf],
        living: &[String],
        connections: impl Fn(&str) -> u64,
    ) -> Result<SlotPlan> {
        let mut living: BTreeSet<&str> = living.iter().map(String::as_str).collect();
        let mut table = self.clone();
        // By the time it happens, those who come now have come, and what moves has moved.
        for (name, node) in self.nodes() {
            table.set_node(name, SlotNode { joining: false, listed: false, ..node.clone() });
        }
        (0..self.count()).for_each(|slot| table.moved(slot));
        for change in changes {
            match change {
                WhatIf::Joins { node, weight } => {
                    let said = table.node(node).cloned().unwrap_or_else(|| SlotNode::new(node));
                    table.set_node(node, SlotNode { weight: *weight, draining: false, ..said });
                    living.insert(node);
                }
                WhatIf::Drains { node } => {
                    let said = table.node(node).cloned().ok_or_else(|| stands_not(node))?;
                    table.set_node(node, SlotNode { draining: true, ..said });
                }
                WhatIf::Dies { node } => {
                    table.node(node).ok_or_else(|| stands_not(node))?;
                    living.remove(&**node);
                }
            }
        }
        let living: Vec<_> = living.into_iter().collect();
        table.settle(&living);
        let clients = |owner: Option<&str>| {
            let owner = owner?;
            Some(connections(owner).div_ceil(self.slots_of(owner).count() as u64))
        };
        let moves = (0..self.count()).filter_map(|slot| {
            let (from, to) = (self.owner(slot), table.owner(slot)?);
            (from != Some(to)).then(|| SlotMove {
                slot,
                from: from.map(str::to_owned),
                to: to.to_owned(),
                clients: clients(from).unwrap_or(0),
            })
        });
        let is_served =
            |slot: &usize| table.owner(*slot).is_some_and(|owner| living.contains(&owner));
        let unserved = (0..self.count()).filter(|slot| !is_served(slot)).collect();
        Ok(SlotPlan { moves: moves.collect(), unserved, table })
    }

    /// Has all who live take and give, one after the other, until nobody has anything to do; how many slots changed owners.
    pub(super) fn settle(&mut self, living: &[&str]) -> usize {
        let mut moves = 0;
        loop {
            let before = moves;
            for node in living {
                while let Some((slot, to)) = self.next_move(node, living) {
                    self.set_owner(slot, &to, None);
                    moves += 1;
                    debug_assert!(moves <= 2 * self.count(), "it never ends: {self:?}");
                }
            }
            if moves == before {
                return moves;
            }
        }
    }

    /// What `node` does next: takes a slot itself, or gives it to another.
    fn next_move(&self, node: &str, living: &[&str]) -> Option<(usize, String)> {
        let is_alive = |name: &str| living.contains(&name);
        match self.take(node, is_alive) {
            Some(slot) => Some((slot, node.to_owned())),
            None => self.give(node, is_alive).map(|(slot, to)| (slot, to.to_owned())),
        }
    }
}

fn stands_not(node: &str) -> Error {
    Error::argument(format!("no node {node:?} stands in the table of slots"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// Names that live, by their first letters.
    fn names(text: &str) -> Vec<String> {
        text.chars().map(|name| name.to_string()).collect()
    }

    /// Three nodes that share 60 slots, and what comes of a change: each has 100 connections.
    fn plan(changes: &[WhatIf]) -> Result<SlotPlan> {
        let mut table = SlotTable::new(60);
        ["a", "b", "c"].into_iter().for_each(|node| table.set_node(node, SlotNode::new(node)));
        table.settle(&["a", "b", "c"]);
        table.plan(changes, &names("abc"), |_| 100)
    }

    fn joins(node: &str, weight: u32) -> WhatIf {
        WhatIf::Joins { node: node.into(), weight }
    }

    #[test]
    fn what_moves_is_said_before_it_does() {
        for (change, moved, of) in [
            (joins("d", 1), 15, ["a", "b", "c"].as_slice()),
            (joins("d", 3), 30, &["a", "b", "c"]),
            (joins("d", 0), 0, &[]),
            (joins("a", 2), 10, &["b", "c"]),
            (WhatIf::Drains { node: "b".into() }, 20, &["b"]),
            (WhatIf::Dies { node: "b".into() }, 20, &["b"]),
        ] {
            let plan = plan(std::slice::from_ref(&change)).unwrap();
            assert_eq!(plan.moves.len(), moved, "{change:?}");
            assert_eq!(plan.clients(), 5 * moved as u64, "{change:?}");
            let from: BTreeSet<_> =
                plan.moves.iter().filter_map(|moved| moved.from.as_deref()).collect();
            assert_eq!(from.into_iter().collect::<Vec<_>>(), of, "{change:?}");
            assert!(
                plan.moves.iter().all(|moved| plan.table.owner(moved.slot) == Some(&*moved.to))
            );
        }
    }

    #[test]
    fn one_comes_as_another_goes() {
        let replaced = [joins("d", 1), WhatIf::Drains { node: "a".into() }];
        let plan = plan(&replaced).unwrap();
        assert!(
            plan.moves.iter().all(|moved| moved.from.as_deref() == Some("a") && moved.to == "d")
        );
        assert_eq!(plan.moves.len(), 20);
    }

    #[test]
    fn the_last_keeps_what_it_has_and_a_stranger_cannot_go() {
        let mut table = SlotTable::new(4);
        table.set_node("a", SlotNode { joining: true, ..SlotNode::new("a") });
        let drained = [WhatIf::Drains { node: "a".into() }];
        let first = table.plan(&[], &names("a"), |_| 0).unwrap();
        assert_eq!((first.moves.len(), first.moves[0].from.as_deref()), (4, None), "it takes all");
        assert_eq!(first.table.plan(&drained, &names("a"), |_| 9).unwrap().moves, []);
        let lost = [WhatIf::Dies { node: "a".into() }];
        let lost = first.table.plan(&lost, &names("a"), |_| 9).unwrap();
        assert_eq!((lost.unserved, lost.moves), (vec![0, 1, 2, 3], vec![]));
        let error = plan(&[WhatIf::Dies { node: "x".into() }]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains("\"x\""), "{error}");
    }
}
