//! Keyed state in memory: the working set of a task.
//!
//! Small parts that operators put together: [`KeyIndex`] finds a key's slot and knows what is not
//! in memory; [`Changes`] remembers which slots an epoch changed and encodes them without
//! stopping the task; [`MapTable`] is the two with one value per key; [`RowArena`] keeps rows of
//! bytes. [`Keyed`] runs an operator's logic over them asynchronously: rows whose key must be
//! read wait, others go on, and order per key is kept. [`Stamped`] and [`DueSlots`] say when state has
//! expired, [`Sweep`] removes what nobody reads.

mod absent;
mod byte_heap;
mod changes;
mod delta;
mod elsewhere;
mod evict;
mod expiry;
mod find;
mod gone_pieces;
mod hash_order;
mod hashed;
mod hydrating;
mod hydrator;
mod index;
mod key_store;
mod keyed;
mod known;
mod leaving;
mod map_table;
#[cfg(test)]
mod map_table_test;
mod pieces;
mod place_table;
mod recency;
mod row_arena;
#[cfg(test)]
mod rows_test;
mod shrink;
mod stamped;
mod sweep;
mod undo;
mod waiting;

pub use changes::Changes;
pub use delta::{FrozenRows, StateDelta, TableDelta};
pub use elsewhere::Elsewhere;
pub use evict::{Evict, evict};
pub use expiry::{DueSlots, StateTtl, TimeDomain, Ttl};
pub use index::{KeyIndex, NO_SLOT};
pub use keyed::{Keyed, KeyedLogic, Wanted};
pub use map_table::{MapTable, Values};
pub(crate) use pieces::PieceId;
pub use row_arena::RowArena;
pub use stamped::{STAMP_BYTES, Stamped, split_stamp};
pub use sweep::{Expiring, Sweep};

use proto::types::{Epoch, KeyGroup, TableId};

/// A scan that an operator needs before it can start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanJob {
    /// State table.
    pub table: TableId,
    /// Key group.
    pub key_group: KeyGroup,
    /// At least as of this epoch, whatever the scope says.
    pub as_of: Epoch,
}

impl ScanJob {
    /// As of what the scope says.
    #[must_use]
    pub fn new(table: TableId, key_group: KeyGroup) -> ScanJob {
        ScanJob {
            table,
            key_group,
            as_of: Epoch::ZERO,
        }
    }
}
