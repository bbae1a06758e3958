//! What becomes of an index and the tables of the rows that it finds at barriers and commits, after a
//! failure, and when key groups move.

use std::collections::HashSet;

use engine::{
    operator::Reassigned,
    state::{KeyIndex, StateDelta},
};
use proto::types::Epoch;

use crate::rows::RowTable;

/// See `OperatorState::freeze`.
pub(super) fn freeze<'a>(
    index: &mut KeyIndex,
    tables: impl Iterator<Item = &'a mut RowTable>,
    epoch: Epoch,
) {
    index.freeze(epoch);
    tables.for_each(|table| table.freeze(epoch));
}

/// See `OperatorState::encode`.
pub(super) fn encode<'a>(
    mut tables: impl Iterator<Item = &'a mut RowTable>,
    rows_max: usize,
) -> bool {
    tables.all(|table| table.encode(rows_max))
}

/// See `OperatorState::take_delta`.
pub(super) fn take_delta<'a>(tables: impl Iterator<Item = &'a mut RowTable>) -> StateDelta {
    StateDelta {
        tables: tables.filter_map(RowTable::take_delta).collect(),
        ..StateDelta::default()
    }
}

/// See `OperatorState::committed`.
pub(super) fn committed<'a>(
    index: &mut KeyIndex,
    tables: impl Iterator<Item = &'a mut RowTable>,
    epoch: Epoch,
) {
    index.committed(epoch);
    tables.for_each(|table| table.committed(epoch));
}

/// Forgets all rows of keys of which some were changed after `restored`: they are to be read again.
pub(super) fn roll_back<'a>(
    index: &mut KeyIndex,
    tables: impl Iterator<Item = &'a mut RowTable>,
    restored: Epoch,
) {
    let mut tables: Vec<&mut RowTable> = tables.collect();
    let mut dirty = HashSet::new();
    for table in &mut tables {
        table.roll_back(restored, &mut dirty);
    }
    let is_dirty = |hash: u64| dirty.contains(&hash);
    for table in tables {
        table.forget_left(&is_dirty);
    }
    let keys: Vec<u32> = index.iter().collect();
    for key in keys {
        if is_dirty(index.hash(key)) {
            index.forget(key);
        }
    }
    index.roll_back(restored);
    index.mark_unknown(&dirty);
}

/// Forgets the rows of key groups that are another task's from now on, and says which they were.
pub(super) fn forget_left(index: &KeyIndex, table: &mut RowTable, change: &Reassigned) -> Vec<u32> {
    match change.left.is_empty() {
        true => Vec::new(),
        false => table.forget_left(&|hash| change.left.contains(index.key_group(hash))),
    }
}

/// Forgets the keys of key groups that are another task's from now on; those that came are to be read.
pub(super) fn reassign(index: &mut KeyIndex, change: &Reassigned) {
    for key_slot in index.slots_of(&change.left) {
        index.forget(key_slot);
    }
    index.reassign(&change.left, &change.came);
}
