//! Groups that expire by age: a group goes as a whole, with all its values, once no row has come for
//! it for long enough.
//!
//! What takes back rows of a group that is not there (any more) is ignored, as Flink does.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::UInt32Array;
use engine::{
    ChangeBatch, Timestamp,
    key::KeyBatch,
    operator::OperatorError,
    state::{Expiring, NO_SLOT, Ttl},
};
use proto::types::TableId;
use state_client::{KeyRequest, LoadedRow};

use super::group::GroupAggregateOperator;

impl GroupAggregateOperator {
    /// Of the slots that rows have, those whose group has expired.
    pub(super) fn expired_slots(&mut self) -> BTreeSet<u32> {
        let values = &mut self.store.main.values;
        if values.ttl().is_none() {
            return BTreeSet::new();
        }
        let slots = self.slots.iter().copied();
        slots
            .filter(|slot| *slot != NO_SLOT && values.has_expired(*slot))
            .collect()
    }

    /// Removes the groups of a batch that have expired: its rows begin new ones.
    pub(super) fn remove_expired(&mut self, keys: &KeyBatch) {
        if self.store.main.values.ttl().is_none() {
            return;
        }
        self.store.main.index().find(keys, &mut self.slots);
        for slot in self.expired_slots() {
            self.store.remove(slot);
        }
    }

    /// The batch without what takes back rows that no group has, its rows' slots likewise; `None`: it
    /// has nothing of the kind. Without a lifetime such rows do not exist.
    pub(super) fn without_unknown(
        &mut self,
        batch: &ChangeBatch,
    ) -> Result<Option<ChangeBatch>, OperatorError> {
        let values = &self.store.main.values;
        if values.ttl().is_none() || batch.kinds.is_none() || !self.plan.retracts() {
            return Ok(None);
        }
        let mut counts: BTreeMap<u32, i64> = BTreeMap::new();
        let mut kept: Vec<u32> = Vec::with_capacity(batch.num_rows());
        for (row, slot) in self.slots.iter().enumerate() {
            let count = counts.entry(*slot).or_insert_with(|| values.rows(*slot));
            if batch.kind(row).is_add() {
                *count += 1;
            } else if *count > 0 {
                *count -= 1;
            } else {
                continue;
            }
            kept.push(row as u32);
        }
        if kept.len() == batch.num_rows() {
            return Ok(None);
        }
        self.slots = kept.iter().map(|row| self.slots[*row as usize]).collect();
        Ok(Some(batch.take(&UInt32Array::from(kept))?))
    }

    /// Whether values of a group that goes are not in memory.
    pub(super) fn lacks_values(&self, slot: u32) -> bool {
        let hash = self.store.main.index().hash(slot);
        !self.plan.distincts.is_empty()
            && self.store.main.values.is_incomplete(slot)
            && !self.loaded_whole.contains(&hash)
    }

    fn read(&self, table: TableId, hash: u64) -> KeyRequest {
        KeyRequest {
            table,
            namespace: 0,
            hash,
            sub: None,
        }
    }
}

impl Expiring for GroupAggregateOperator {
    fn ttl(&self) -> Ttl {
        let ttl = self.store.main.values.ttl();
        ttl.expect("only what has a lifetime is asked for it")
    }

    fn set_now(&mut self, now: Timestamp) {
        self.store.main.values.set_now(now);
    }

    fn expire(
        &mut self,
        keys_max: usize,
        wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError> {
        let mut due = Vec::new();
        let more = self.store.main.values.take_due(keys_max, &mut due);
        for slot in due {
            if !self.store.main.index().holds(slot) {
                continue;
            }
            if self.lacks_values(slot) {
                let hash = self.store.main.index().hash(slot);
                wanted.push(self.read(self.tables.distinct, hash));
                // It does not go before they are here.
                self.store.main.index_mut().touch(slot);
                self.store.main.values.keep_due(slot);
            } else {
                self.store.remove(slot);
            }
        }
        Ok(more)
    }

    fn partial_tables(&self) -> Vec<TableId> {
        let is_partial = !self.store.main.index().is_resident();
        Vec::from_iter(is_partial.then_some(self.tables.main))
    }

    fn overdue(&self, _table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let index = self.store.main.index();
        let values = &self.store.main.values;
        let overdue = rows
            .iter()
            .filter(|row| values.is_overdue(&row.value) && index.is_unknown(row.hash));
        let hashes: BTreeSet<u64> = overdue.map(|row| row.hash).collect();
        let tables = self.tables.used(&self.plan);
        let reads = |hash: u64| tables.iter().map(move |table| (*table, hash));
        let reads = hashes.into_iter().flat_map(reads);
        reads.map(|(table, hash)| self.read(table, hash)).collect()
    }
}
