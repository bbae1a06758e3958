//! Which values each group has seen, per FILTER: what makes an aggregate DISTINCT.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use engine::{
    key::{KeyEncoder, Keys, mix},
    operator::OperatorError,
    state::{Changes, FrozenRows, KeyIndex, NO_SLOT},
};
use hashbrown::HashTable;
use proto::types::Epoch;

use super::{
    distinct_values::{Presence, ValueStore},
    plan::DistinctPlan,
    rows::{Rows, Selection},
    sub_row,
};

/// The distinct values of one set of columns, for all groups of one index.
#[derive(Debug)]
pub(crate) struct DistinctTable {
    number: usize,
    plan: DistinctPlan,
    encoder: KeyEncoder,
    entries: HashTable<u32>,
    /// By entry: slot of its group, hash of its value.
    groups: Vec<u32>,
    subs: Vec<u64>,
    values: ValueStore,
    presence: Presence,
    free: Vec<u32>,
    /// By group: its entries. A group that vanishes should have none left.
    live_of_group: Vec<u32>,
    changes: Changes,
    /// Whether changes are state; else they are told from other state.
    is_saved: bool,
}

/// The values of a batch's rows.
pub(crate) struct DistinctKeys {
    subs: Vec<u64>,
    keys: Keys,
    valid: Option<arrow::buffer::NullBuffer>,
}

impl DistinctTable {
    /// An empty table, the `number`-th of its aggregation.
    pub(crate) fn new(
        number: usize,
        plan: &DistinctPlan,
        retracts: bool,
    ) -> Result<Self, OperatorError> {
        let columns = (0..plan.columns.len()).collect();
        let encoder = KeyEncoder::new(columns, plan.types.clone())?;
        Ok(DistinctTable {
            number,
            plan: plan.clone(),
            entries: HashTable::new(),
            groups: Vec::new(),
            subs: Vec::new(),
            values: ValueStore::new(encoder.width()),
            presence: Presence::new(plan.filters.len(), retracts),
            encoder,
            free: Vec::new(),
            live_of_group: Vec::new(),
            changes: Changes::default(),
            is_saved: true,
        })
    }

    /// An empty table of values that may go, and that are never saved.
    pub(crate) fn unsaved(number: usize, plan: &DistinctPlan) -> Result<Self, OperatorError> {
        Ok(DistinctTable {
            is_saved: false,
            ..DistinctTable::new(number, plan, true)?
        })
    }

    /// The values of a batch's rows.
    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<DistinctKeys, OperatorError> {
        let columns: Vec<ArrayRef> = self
            .plan
            .columns
            .iter()
            .map(|column| batch.column(*column).clone())
            .collect();
        let keys = self.encoder.encode_arrays(&columns, batch.num_rows())?;
        let number = self.number as u64;
        Ok(DistinctKeys {
            subs: keys.hashes.iter().map(|hash| mix(*hash, number)).collect(),
            keys: keys.keys,
            valid: match self.plan.skips_null {
                true => columns[0].logical_nulls(),
                false => None,
            },
        })
    }

    /// Takes rows in. `news` gets, per filter, the rows that bring a value that was not there or
    /// take the last copy of one away.
    pub(crate) fn update(
        &mut self,
        index: &KeyIndex,
        rows: &Rows<'_>,
        batch: &RecordBatch,
        values: &DistinctKeys,
        news: &mut Vec<Selection>,
    ) {
        let masks = self.masks(batch);
        self.reset_news(rows.adds.is_some(), news);
        rows.for_each_valid(values.valid.as_ref(), |group, row, add| {
            let mask = masks.as_ref().map_or(1, |masks| masks[row]);
            if mask == 0 {
                return;
            }
            let sub = values.subs[row];
            let entry = match self.find(group as u32, sub, &values.keys, row) {
                NO_SLOT => self.insert(group as u32, sub, &values.keys, row),
                entry => entry,
            };
            self.change(index, entry, mask, add, |filter, add| {
                news[filter].push(group as u32, row as u32, add);
            });
        });
    }

    /// Takes in another table's values for groups that `group_of` maps. Answers columns of the
    /// values and, per filter, those that are new here.
    pub(crate) fn merge(
        &mut self,
        index: &KeyIndex,
        other: &DistinctTable,
        group_of: &[u32],
    ) -> Result<(Vec<ArrayRef>, Vec<Selection>), OperatorError> {
        let live = other.entries_in_order();
        let keys = other.values.keys_of(&live);
        let mut news = Vec::new();
        self.reset_news(false, &mut news);
        for (row, entry) in live.iter().enumerate() {
            let group = group_of[other.groups[*entry as usize] as usize];
            let sub = other.subs[*entry as usize];
            let here = match self.find(group, sub, &keys, row) {
                NO_SLOT => self.insert(group, sub, &keys, row),
                here => here,
            };
            let mask = other.presence.mask(*entry);
            self.change(index, here, mask, true, |filter, _| {
                news[filter].push(group, row as u32, true);
            });
        }
        Ok((self.encoder.decode(&keys)?, news))
    }

    /// Adds the values of group `from` to those of `into`. Answers as [`DistinctTable::merge`].
    pub(crate) fn merge_within(
        &mut self,
        index: &KeyIndex,
        into: u32,
        from: u32,
    ) -> Result<(Vec<ArrayRef>, Vec<Selection>), OperatorError> {
        let mut moved = self.entries_in_order();
        moved.retain(|entry| self.groups[*entry as usize] == from);
        let keys = self.values.keys_of(&moved);
        let mut news = Vec::new();
        self.reset_news(false, &mut news);
        for (row, entry) in moved.iter().enumerate() {
            let sub = self.subs[*entry as usize];
            let here = match self.find(into, sub, &keys, row) {
                NO_SLOT => self.insert(into, sub, &keys, row),
                here => here,
            };
            let parts = (
                self.number,
                &self.groups,
                &self.subs,
                &self.values,
                &self.presence,
            );
            self.changes
                .touch(here, |entry, rows| encode_entry(index, parts, entry, rows));
            self.presence.add(here, *entry, |filter| {
                news[filter].push(into, row as u32, true);
            });
        }
        self.vanish(index, from);
        Ok((self.encoder.decode(&keys)?, news))
    }

    /// The hash that a read of row `row`'s value asks for; `None` if the row does not count.
    pub(crate) fn sub(&self, values: &DistinctKeys, row: usize) -> Option<u64> {
        let counts = values
            .valid
            .as_ref()
            .is_none_or(|valid| valid.is_valid(row));
        counts.then(|| values.subs[row])
    }

    /// Puts a committed row of `group` into memory. An entry that is there wins.
    pub(crate) fn install(
        &mut self,
        group: u32,
        sub: u64,
        value: &[u8],
        mut presence: &[u8],
    ) -> Result<(), String> {
        let keys = self
            .values
            .read(value)
            .ok_or("a distinct value has too few bytes")?;
        if self.find(group, sub, &keys, 0) != NO_SLOT {
            return Ok(());
        }
        let entry = self.insert(group, sub, &keys, 0);
        self.presence.decode(entry, &mut presence)
    }

    /// A group vanishes. With it go entries that it should not have any more.
    pub(crate) fn vanish(&mut self, index: &KeyIndex, group: u32) {
        if self.live_of_group.get(group as usize).copied().unwrap_or(0) == 0 {
            return;
        }
        for entry in self.entries_in_order() {
            if self.groups[entry as usize] == group {
                self.remove(index, entry);
            }
        }
    }

    /// Forgets the values of groups that are another task's from now on; see [`Changes::forget`].
    pub(crate) fn forget(&mut self, index: &KeyIndex, left: &dyn Fn(u64) -> bool) {
        for entry in self.entries_in_order() {
            let (group, sub) = (self.groups[entry as usize], self.subs[entry as usize]);
            if !left(index.hash(group)) {
                continue;
            }
            let parts = (
                self.number,
                &self.groups,
                &self.subs,
                &self.values,
                &self.presence,
            );
            let encode = |entry, rows: &mut FrozenRows| encode_entry(index, parts, entry, rows);
            self.changes.forget(entry, encode);
            self.release(group, sub, entry);
        }
    }

    /// See [`Changes::freeze`].
    pub(crate) fn freeze(&mut self, epoch: Epoch) {
        self.changes.freeze(epoch);
    }

    /// See [`Changes::committed`].
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        self.changes.committed(epoch);
    }

    /// See [`Changes::roll_back`].
    pub(crate) fn roll_back(
        &mut self,
        index: &KeyIndex,
        restored: Epoch,
        dirty: &mut HashSet<u64>,
    ) {
        let groups = &self.groups;
        self.changes
            .roll_back(restored, |entry| index.hash(groups[entry as usize]), dirty);
    }

    /// See [`Changes::encode`].
    pub(crate) fn encode(&mut self, index: &KeyIndex, rows_max: usize) -> bool {
        let parts = (
            self.number,
            &self.groups,
            &self.subs,
            &self.values,
            &self.presence,
        );
        self.changes.encode(rows_max, |entry, rows| {
            encode_entry(index, parts, entry, rows)
        })
    }

    /// See [`Changes::take`].
    pub(crate) fn take_frozen(&mut self) -> FrozenRows {
        self.changes.take()
    }

    /// Live entries.
    pub(crate) fn len(&self) -> usize {
        self.groups.len() - self.free.len()
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.entries.allocation_size()
            + self.groups.len() * 12
            + self.values.memory()
            + self.presence.memory()
            + self.live_of_group.len() * 4
            + self.changes.memory()
    }

    /// Bytes of it that are free for new entries.
    pub(crate) fn free_memory(&self) -> usize {
        let columns = self.groups.len() * 12 + self.values.memory() + self.presence.memory();
        self.free.len() * (columns / self.groups.len().max(1))
    }

    fn reset_news(&self, retracts: bool, news: &mut Vec<Selection>) {
        news.resize_with(self.plan.filters.len(), Selection::default);
        news.iter_mut()
            .for_each(|selection| selection.clear(retracts));
    }

    /// Per row, the filters that it passes; `None`: there is one, and all rows pass.
    fn masks(&self, batch: &RecordBatch) -> Option<Vec<u64>> {
        if self.plan.filters == [None] {
            return None;
        }
        let mut masks = vec![0_u64; batch.num_rows()];
        for (bit, filter) in self.plan.filters.iter().enumerate() {
            let Some(column) = filter else {
                masks.iter_mut().for_each(|mask| *mask |= 1 << bit);
                continue;
            };
            let filter = batch.column(*column).as_boolean();
            let passes = match filter.nulls() {
                None => filter.values().clone(),
                Some(nulls) => filter.values() & nulls.inner(),
            };
            for (mask, pass) in masks.iter_mut().zip(&passes) {
                *mask |= u64::from(pass) << bit;
            }
        }
        Some(masks)
    }

    #[inline]
    fn find(&self, group: u32, sub: u64, keys: &Keys, row: usize) -> u32 {
        let same = |entry: &u32| {
            let at = *entry as usize;
            self.subs[at] == sub
                && self.groups[at] == group
                && self.values.equals(*entry, keys, row)
        };
        self.entries
            .find(entry_hash(group, sub), same)
            .copied()
            .unwrap_or(NO_SLOT)
    }

    fn insert(&mut self, group: u32, sub: u64, keys: &Keys, row: usize) -> u32 {
        let entry = match self.free.pop() {
            Some(entry) => {
                self.groups[entry as usize] = group;
                self.subs[entry as usize] = sub;
                entry
            }
            None => {
                self.groups.push(group);
                self.subs.push(sub);
                (self.groups.len() - 1) as u32
            }
        };
        self.values.put(entry, keys, row);
        self.presence.reset(entry);
        self.changes.reserve(self.groups.len());
        if self.live_of_group.len() <= group as usize {
            self.live_of_group.resize(group as usize + 1, 0);
        }
        self.live_of_group[group as usize] += 1;
        let (groups, subs) = (&self.groups, &self.subs);
        self.entries
            .insert_unique(entry_hash(group, sub), entry, |entry| {
                entry_hash(groups[*entry as usize], subs[*entry as usize])
            });
        entry
    }

    /// Counts a row in for the filters of `mask`; calls `changed` for those where that makes a
    /// difference, and drops the entry when nothing is left of it.
    fn change(
        &mut self,
        index: &KeyIndex,
        entry: u32,
        mask: u64,
        add: bool,
        changed: impl FnMut(usize, bool),
    ) {
        if let Presence::Mask(masks) = &self.presence
            && masks[entry as usize] & mask == mask
        {
            return;
        }
        if self.is_saved {
            let parts = (
                self.number,
                &self.groups,
                &self.subs,
                &self.values,
                &self.presence,
            );
            self.changes
                .touch(entry, |entry, rows| encode_entry(index, parts, entry, rows));
        }
        if self.presence.change(entry, mask, add, changed) {
            self.remove(index, entry);
        }
    }

    fn remove(&mut self, index: &KeyIndex, entry: u32) {
        let parts = (
            self.number,
            &self.groups,
            &self.subs,
            &self.values,
            &self.presence,
        );
        let (group, sub) = (self.groups[entry as usize], self.subs[entry as usize]);
        if self.is_saved {
            self.changes.delete(
                entry,
                index.hash(group),
                |out| {
                    let value = |out: &mut Vec<u8>| self.values.write(entry, out);
                    sub_row::write_identity(index, group, sub, self.number, value, out);
                },
                |entry, rows| encode_entry(index, parts, entry, rows),
            );
        }
        self.release(group, sub, entry);
    }

    fn release(&mut self, group: u32, sub: u64, entry: u32) {
        if let Ok(found) = self
            .entries
            .find_entry(entry_hash(group, sub), |other| *other == entry)
        {
            found.remove();
            self.values.forget(entry);
            self.live_of_group[group as usize] -= 1;
            self.free.push(entry);
        }
    }

    fn entries_in_order(&self) -> Vec<u32> {
        let mut live: Vec<u32> = self.entries.iter().copied().collect();
        live.sort_unstable();
        live
    }
}

type EntryParts<'a> = (
    usize,
    &'a Vec<u32>,
    &'a Vec<u64>,
    &'a ValueStore,
    &'a Presence,
);

fn encode_entry(index: &KeyIndex, parts: EntryParts<'_>, entry: u32, rows: &mut FrozenRows) {
    let (number, groups, subs, values, presence) = parts;
    let (group, sub) = (groups[entry as usize], subs[entry as usize]);
    rows.push(
        index.hash(group),
        |out| {
            let value = |out: &mut Vec<u8>| values.write(entry, out);
            sub_row::write_identity(index, group, sub, number, value, out);
        },
        Some(|out: &mut Vec<u8>| presence.encode(entry, out)),
    );
}

#[inline]
fn entry_hash(group: u32, sub: u64) -> u64 {
    // The value's hash is even in all bits; the group only has to tell equal values apart.
    (sub ^ u64::from(group).wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(19)
}
