//! Who serves whom where the number of nodes may change: slots, which stay for ever, and their owners, which do not.
//!
//! Pure. A client belongs to a slot by its id, by the rule that places it in a fixed list of nodes; a table says which node
//! owns which slot. The broker keeps the table, nodes change it, and whoever sends or issues addresses follows it.

mod balance;
mod change;
mod plan;
mod table;

use crate::id::ClientId;

pub(crate) use change::Changed;
pub use change::{SlotChange, SlotOrder};
pub use plan::{SlotMove, SlotPlan, WhatIf};
pub use table::{SlotNode, SlotTable};

/// Most slots that a deployment can have: GUIDs are spread by two bytes.
pub const MOST_SLOTS: usize = 4096;

/// The highest weight that can be ordered of a node.
pub const MOST_WEIGHT: u32 = 1000;

/// The slot of `client` among `count`, which is not 0: integers by their remainder (never negative), GUIDs by the remainder
/// of their last two bytes read as a big-endian number; the .NET original places clients in its list of nodes like this. Texts,
/// which it has not, by the remainder of a hash.
pub(crate) fn slot(client: &ClientId, count: usize) -> usize {
    match client {
        ClientId::Int(id) => id.rem_euclid(count as i64) as usize,
        ClientId::Guid([.., high, low]) => usize::from(u16::from_be_bytes([*high, *low])) % count,
        ClientId::Text(text) => (text.place() % count as u64) as usize,
    }
}

/// Slot number `slot` of `count` as it is written in the servers list of a .NET helper: `07`, all equally long.
fn slot_number(slot: usize, count: usize) -> String {
    let width = count.saturating_sub(1).to_string().len();
    format!("{slot:0width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equally_long() {
        for (slot, count, name) in [(0, 1, "0"), (7, 10, "7"), (7, 64, "07"), (7, 101, "007")] {
            assert_eq!(slot_number(slot, count), name);
        }
    }

    #[test]
    fn many_slots_split_a_fixed_list() {
        // Slot i given to node i mod n: nobody moves on the day of the change.
        for id in [-7i64, -1, 0, 1, 5, 63, 64, 65, i64::MAX, i64::MIN + 1] {
            assert_eq!(slot(&id.into(), 63) % 3, slot(&id.into(), 3), "{id}");
        }
    }
}
