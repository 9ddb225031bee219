//! The table of slots, where the number of nodes may change: whoever sends reads it, nodes change it.

use crate::{
    error::Result,
    slots::{SlotChange, SlotOrder, SlotTable},
};

/// Reading and changing the [`SlotTable`].
pub trait Slots: Send + Sync {
    /// The table; `None` where nodes are a fixed list.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if what is there cannot be read, as when a newer version wrote it.
    fn slot_table(&self) -> Result<Option<SlotTable>>;

    /// The version of the table; 0 where there is none.
    fn slot_version(&self) -> Result<u64>;

    /// Changes the table, if that is still at `version` (0: there is none), the lease of the session with this id stands, and it is one of
    /// `node`, which makes the change. Whether it was changed; if not, read it again.
    ///
    /// Nodes that stand in the table hear of each change by an [`Envelope::Slots`](crate::wire::Envelope), in order
    /// with all messages: what was published to a node before the change comes before it.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if the table has another number of slots, or cannot be read.
    fn change_slots(
        &self,
        session: &str,
        node: &str,
        version: u64,
        change: &SlotChange<'_>,
    ) -> Result<bool>;

    /// Names of the nodes that live, in no order: those with a session that nobody has ended, also if its lease has run out.
    fn living(&self) -> Result<Vec<String>>;

    /// Makes the table, if there is none. For operators: no lease is asked for. Whether there was none.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if the one that is there cannot be read.
    fn begin_slots(&self, table: &SlotTable) -> Result<bool>;

    /// Notes in the table what is ordered of `node`. For operators: no lease is asked for. Whether it stands in the table.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if the table cannot be read.
    fn order(&self, node: &str, order: SlotOrder) -> Result<bool>;
}
