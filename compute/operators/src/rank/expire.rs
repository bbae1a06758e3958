//! Partitions of a ranking that expire by age: a partition goes as a whole once nothing in it has
//! changed for long enough. When that was is the latest time among its rows.

use std::collections::BTreeSet;

use engine::{
    Timestamp,
    key::KeyBatch,
    operator::OperatorError,
    state::{Expiring, NO_SLOT, Ttl},
};
use proto::types::TableId;
use state_client::{KeyRequest, LoadedRow};

use super::ranking::Ranking;

impl Ranking {
    /// A partition has changed now.
    pub(super) fn touch(&mut self, key_slot: u32) {
        if let Some(ages) = &mut self.ages {
            ages.touch(key_slot);
        }
    }

    fn has_expired(&mut self, key_slot: u32) -> bool {
        let ages = self.ages.as_mut();
        ages.is_some_and(|ages| ages.has_expired(key_slot))
    }

    /// Deletes a partition with all its rows.
    fn remove(&mut self, key_slot: u32) {
        let partition = std::mem::take(&mut self.partitions[key_slot as usize]);
        for slot in partition.sorted.iter() {
            self.rows.forget(slot);
            self.free(slot);
        }
        self.index.remove(key_slot);
        if let Some(ages) = &mut self.ages {
            ages.clear(key_slot);
        }
    }

    /// Takes away the partitions of a batch that have expired: its rows begin new ones.
    pub(crate) fn remove_expired(&mut self, keys: &KeyBatch) {
        if self.ages.is_none() {
            return;
        }
        for (row, hash) in keys.hashes.iter().enumerate() {
            let key_slot = self.index.find_row(&keys.keys, row, *hash);
            if key_slot != NO_SLOT && self.has_expired(key_slot) {
                self.remove(key_slot);
            }
        }
    }
}

impl Expiring for Ranking {
    fn ttl(&self) -> Ttl {
        let ages = self.ages.as_ref();
        ages.expect("only what has a lifetime is asked for it")
            .ttl()
    }

    fn set_now(&mut self, now: Timestamp) {
        if let Some(ages) = &mut self.ages {
            ages.set_now(now);
            self.rows.set_now(now);
        }
    }

    fn expire(
        &mut self,
        keys_max: usize,
        _wanted: &mut Vec<KeyRequest>,
    ) -> Result<bool, OperatorError> {
        let mut due = Vec::new();
        let more = match &mut self.ages {
            Some(ages) => ages.take_due(keys_max, &mut due),
            None => false,
        };
        for key_slot in due {
            if self.index.holds(key_slot) && self.has_expired(key_slot) {
                self.remove(key_slot);
            }
        }
        Ok(more)
    }

    fn partial_tables(&self) -> Vec<TableId> {
        Vec::from_iter((!self.index.is_resident()).then_some(self.rows.id()))
    }

    fn overdue(&self, table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let Some(ages) = &self.ages else {
            return Vec::new();
        };
        // A young row of a partition is not seen here if it comes in another piece: then the partition
        // is read in vain, and stays.
        let is_overdue = |row: &&LoadedRow| {
            ages.is_overdue(self.rows.stored_stamp(&row.value)) && self.index.is_unknown(row.hash)
        };
        let hashes: BTreeSet<u64> = rows.iter().filter(is_overdue).map(|row| row.hash).collect();
        let read = |hash: u64| KeyRequest {
            table,
            namespace: 0,
            hash,
            sub: None,
        };
        hashes.into_iter().map(read).collect()
    }
}
