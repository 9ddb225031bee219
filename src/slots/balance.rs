//! Which slot a node takes or gives away next, so that all come to own as many as their weights say by the fewest moves.
//!
//! While a node serves a fixed list still, nobody does either. Owners give; only from the dead is taken. Every node computes what it does itself, all from the same table, and the
//! broker lets one change through at a time: whoever comes second computes again.

use std::collections::HashMap;

use super::table::SlotTable;

impl SlotTable {
    /// The slot that `node` takes next, if any: one that nobody owns whose lease stands, which `is_alive` says.
    pub(crate) fn take(&self, node: &str, is_alive: impl Fn(&str) -> bool) -> Option<usize> {
        if self.listed().next().is_some() {
            return None;
        }
        let shares = self.shares(&is_alive);
        let share = shares.iter().find(|(name, _)| *name == node)?.1;
        if self.slots_of(node).count() >= share {
            return None;
        }
        let is_free = |slot: &usize| !self.owner(*slot).is_some_and(&is_alive);
        (0..self.count()).filter(is_free).max_by_key(|slot| rank(*slot, node))
    }

    /// The slot that `node` gives away next, if any, and to whom: one beyond its share, any if it drains, to the node that lacks most.
    /// None while nodes could still take what nobody owns: they are not to get more than their share.
    pub(crate) fn give(
        &self,
        node: &str,
        is_alive: impl Fn(&str) -> bool,
    ) -> Option<(usize, &str)> {
        let is_unserved = |slot| !self.owner(slot).is_some_and(&is_alive);
        if (0..self.count()).any(is_unserved) || self.listed().next().is_some() {
            return None;
        }
        let shares = self.shares(&is_alive);
        let share = shares.iter().find(|(name, _)| *name == node).map_or(0, |(_, share)| *share);
        if self.slots_of(node).count() <= share {
            return None;
        }
        let counts = self.counts();
        let lacks = |(name, share): &(&str, usize)| {
            share.saturating_sub(counts.get(name).copied().unwrap_or(0))
        };
        let to = shares.iter().filter(|share| lacks(share) > 0).max_by_key(|share| lacks(share))?.0;
        let settled = self.slots_of(node).filter(|slot| self.moving_from(*slot).is_none());
        let slot = settled.max_by_key(|slot| rank(*slot, to))?;
        Some((slot, to))
    }

    /// How many slots each node is to own that is alive and does not drain: together all of them. Where that leaves a
    /// remainder, those get one more who own more than others already: so the fewest move.
    pub fn shares(&self, is_alive: impl Fn(&str) -> bool) -> Vec<(&str, usize)> {
        let takes = self.nodes().filter(|(name, node)| node.takes() && is_alive(name));
        let takers: Vec<_> = takes.map(|(name, node)| (name, u64::from(node.weight))).collect();
        let weights: u64 = takers.iter().map(|(_, weight)| weight).sum();
        if weights == 0 {
            return Vec::new();
        }
        let count = self.count() as u64;
        let parts = takers.iter().map(|(name, weight)| {
            let (whole, rest) = (count * weight / weights, count * weight % weights);
            (*name, whole as usize, rest)
        });
        let mut parts: Vec<_> = parts.collect();
        let left = self.count() - parts.iter().map(|(_, whole, _)| whole).sum::<usize>();
        let counts = self.counts();
        // Who already owns more than its whole part first, then whose part is nearest to one more, then by name.
        parts.sort_by_cached_key(|(name, whole, rest)| {
            let owns_more = counts.get(name).is_some_and(|owned| owned > whole);
            (*rest == 0, !owns_more, std::cmp::Reverse(*rest), *name)
        });
        let shares = parts.iter().enumerate();
        shares.map(|(place, (name, whole, _))| (*name, whole + usize::from(place < left))).collect()
    }

    /// How many slots each owner has.
    fn counts(&self) -> HashMap<&str, usize> {
        let owners = (0..self.count()).filter_map(|slot| self.owner(slot));
        owners.fold(HashMap::new(), |mut counts, owner| {
            *counts.entry(owner).or_default() += 1;
            counts
        })
    }
}

/// Nodes that take at the same time begin with different slots.
fn rank(slot: usize, node: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ (slot as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = node
        .bytes()
        .fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::SlotNode;

    fn counts(table: &SlotTable, nodes: &[&str]) -> Vec<usize> {
        nodes.iter().map(|node| table.slots_of(node).count()).collect()
    }

    fn of(nodes: &[&str]) -> SlotTable {
        let mut table = SlotTable::new(64);
        nodes.iter().for_each(|node| table.set_node(node, SlotNode::new(*node)));
        table
    }

    #[test]
    fn a_fifth_takes_its_share_and_nothing_else_moves() {
        let mut table = of(&["a", "b", "c", "d"]);
        assert_eq!(table.settle(&["a", "b", "c", "d"]), 64);
        assert_eq!(counts(&table, &["a", "b", "c", "d"]), [16; 4]);
        table.set_node("e", SlotNode::new("e"));
        let moves = table.settle(&["a", "b", "c", "d", "e"]);
        assert!(moves <= 13, "{moves} of 64");
        assert!(
            counts(&table, &["a", "b", "c", "d", "e"])
                .iter()
                .all(|count| (12..=13).contains(count))
        );
        // It drains again: only what it had moves.
        let had = table.slots_of("e").count();
        table.set_node("e", SlotNode { draining: true, ..SlotNode::new("e") });
        assert_eq!(table.settle(&["a", "b", "c", "d", "e"]), had);
        assert_eq!(counts(&table, &["a", "b", "c", "d", "e"]), [16, 16, 16, 16, 0]);
    }

    #[test]
    fn the_slots_of_the_dead_are_taken_by_all() {
        let mut table = of(&["a", "b", "c", "d"]);
        table.settle(&["a", "b", "c", "d"]);
        assert_eq!(table.settle(&["a", "c", "d"]), 16);
        let counts = counts(&table, &["a", "b", "c", "d"]);
        assert!(
            counts[1] == 0 && counts.iter().all(|count| [0, 21, 22].contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn nothing_moves_while_a_node_serves_a_list() {
        let mut table = SlotTable::of_list(63, &["a", "b", "c"]).unwrap();
        for name in ["a", "b", "d"] {
            table.set_node(name, SlotNode::new(name));
            assert_eq!(table.settle(&["a", "b", "d"]), 0, "c is away, as it is started anew");
        }
        table.set_node("c", SlotNode::new("c"));
        assert!((15..=16).contains(&table.settle(&["a", "b", "c", "d"])));
    }

    #[test]
    fn weights_count() {
        let mut table = of(&["a", "b"]);
        table.set_node("b", SlotNode { weight: 3, ..SlotNode::new("b") });
        table.set_node("idle", SlotNode { weight: 0, ..SlotNode::new("idle") });
        table.settle(&["a", "b", "idle"]);
        assert_eq!(counts(&table, &["a", "b", "idle"]), [16, 48, 0]);
    }

    #[test]
    fn nobody_takes_from_the_last() {
        let mut table = of(&["a"]);
        table.settle(&["a"]);
        table.set_node("a", SlotNode { draining: true, ..SlotNode::new("a") });
        assert_eq!(table.settle(&["a"]), 0);
        assert_eq!(counts(&table, &["a"]), [64]);
    }

    #[test]
    fn whatever_comes_and_goes_it_ends_even() {
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let names: Vec<String> = (0..9).map(|number| format!("im-{number}")).collect();
        for count in [1, 7, 64, 256] {
            let mut table = SlotTable::new(count);
            for _ in 0..60 {
                let name = &names[random(9) as usize];
                let (weight, draining) = (random(4) as u32, random(4) == 0);
                table.set_node(name, SlotNode { weight, draining, ..SlotNode::new(name) });
                let alive: Vec<_> =
                    names.iter().map(String::as_str).filter(|_| random(5) > 0).collect();
                let before = table.clone();
                let moves = table.settle(&alive);
                let shares = table.shares(|name| alive.contains(&name));
                for (name, share) in &shares {
                    assert_eq!(table.slots_of(name).count(), *share, "{table:?}");
                }
                let had = |name: &str| before.slots_of(name).count();
                let least: usize =
                    shares.iter().map(|(name, share)| share.saturating_sub(had(name))).sum();
                assert_eq!(moves, least, "more moves than there had to be");
            }
        }
    }
}
