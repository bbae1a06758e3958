//! Rows that later ones still look back at, by partition in the order in which they came.
//!
//! State: one table of rows that only append, each with the partition's columns and those that are
//! looked at. Where frames are a range of time, the time of a row's last change is its own.

use std::collections::{BTreeSet, HashSet, VecDeque};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use engine::{
    Timestamp,
    codec::{ByteRows, RowCodec},
    key::{KeyBatch, KeyEncoder},
    operator::{OperatorError, Reassigned, StateSize, TaskScope},
    spill::Evicted,
    state::{KeyIndex, NO_SLOT, Ttl},
};
use proto::types::{Epoch, Field, TableId};
use state_client::{KeyRequest, LoadedRow};

use crate::rows::{Ages, Identity, RowTable, row_codec};

/// The rows of all partitions.
pub(super) struct History {
    pub(super) index: KeyIndex,
    pub(super) rows: RowTable,
    /// By key slot, the oldest row first.
    partitions: Vec<VecDeque<u32>>,
    /// Columns of the input that a kept row has: those of its partition come first.
    columns: Vec<usize>,
    keys: KeyEncoder,
    codec: RowCodec,
    /// When partitions are of no use any more, if they ever are.
    ages: Option<Ages>,
    /// Rows in all partitions.
    count: usize,
}

impl History {
    /// No rows. Of the input, `columns` are kept, of which `keys` makes keys.
    pub(super) fn new(
        table: TableId,
        (keys, columns): (KeyEncoder, Vec<usize>),
        input: &[Field],
        lifetime: Option<Ttl>,
        scope: &TaskScope,
    ) -> Result<History, OperatorError> {
        let fields: Vec<Field> = columns.iter().map(|at| input[*at].clone()).collect();
        let partial = scope.restored > Epoch::ZERO;
        let identity = Identity::Append { removable: true };
        let rows = RowTable::new(table, 0, identity, scope).stamped(lifetime.is_some());
        Ok(History {
            index: KeyIndex::new(keys.width(), scope.key_groups, &scope.owned, partial),
            rows,
            partitions: Vec::new(),
            columns,
            keys,
            codec: row_codec(&fields)?,
            ages: lifetime.map(Ages::new),
            count: 0,
        })
    }

    /// The slot of a row's partition, made if there is none.
    pub(super) fn key_slot(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let (partitions, ages) = (&mut self.partitions, &mut self.ages);
        let mut created = |slot: u32| {
            if let Some(ages) = ages {
                ages.begin(slot);
            }
            if slot as usize == partitions.len() {
                partitions.push(VecDeque::new());
            }
        };
        let index = &mut self.index;
        index.find_or_insert_row(&keys.keys, row, keys.hashes[row], &mut created)
    }

    /// The rows of a partition, the oldest one first.
    pub(super) fn partition(&self, key_slot: u32) -> &VecDeque<u32> {
        &self.partitions[key_slot as usize]
    }

    /// The columns of kept rows behind those of the partition.
    pub(super) fn decode(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        let rows: Vec<&[u8]> = slots.iter().map(|slot| self.rows.row(*slot)).collect();
        let columns = self.keys.columns().len()..self.columns.len();
        Ok(columns
            .map(|column| self.codec.decode_column(column, &rows))
            .collect::<Result<_, _>>()?)
    }

    /// The bytes of rows that are to be kept.
    pub(super) fn encode_rows(
        &self,
        batch: &RecordBatch,
        rows: &UInt32Array,
    ) -> Result<ByteRows, OperatorError> {
        let columns = self.columns.iter().map(|column| batch.column(*column));
        let columns = columns.map(|column| arrow::compute::take(column, rows, None));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        Ok(self.codec.encode(&columns, rows.len())?)
    }

    /// Keeps a row; `time` is that of its last change, where it has one of its own.
    pub(super) fn append(&mut self, key_slot: u32, bytes: &[u8], time: Option<Timestamp>) {
        if let Some(time) = time {
            self.rows.set_now(time);
        }
        let slot = self.rows.append(self.index.hash(key_slot), bytes);
        self.partitions[key_slot as usize].push_back(slot);
        self.count += 1;
        match (&mut self.ages, time) {
            (Some(ages), Some(time)) => ages.raise(key_slot, time),
            (Some(ages), None) => ages.touch(key_slot),
            (None, _) => {}
        }
    }

    /// Lets the oldest rows of a partition go.
    pub(super) fn drop_oldest(&mut self, key_slot: u32, rows: usize) {
        for slot in self.partitions[key_slot as usize].drain(..rows) {
            self.rows.remove(slot);
        }
        self.count -= rows;
    }

    /// Drops a partition without rows.
    pub(super) fn drop_if_empty(&mut self, key_slot: u32) {
        if self.partitions[key_slot as usize].is_empty() && self.index.holds(key_slot) {
            self.index.remove(key_slot);
        }
    }

    /// The partitions of a batch that have expired.
    pub(super) fn expired(&mut self, keys: &KeyBatch) -> Vec<u32> {
        let Some(ages) = &mut self.ages else {
            return Vec::new();
        };
        let rows = keys.hashes.iter().enumerate();
        let slots = rows.map(|(row, hash)| self.index.find_row(&keys.keys, row, *hash));
        let expired = slots.filter(|slot| *slot != NO_SLOT && ages.has_expired(*slot));
        let expired: BTreeSet<u32> = expired.collect();
        expired.into_iter().collect()
    }

    /// Up to `keys_max` partitions that are due, each of which must be removed; `true`: there may be
    /// more.
    pub(super) fn take_due(&mut self, keys_max: usize, due: &mut Vec<u32>) -> bool {
        let Some(ages) = &mut self.ages else {
            return false;
        };
        let more = ages.take_due(keys_max, due);
        let index = &self.index;
        due.retain(|slot| index.holds(*slot) && ages.has_expired(*slot));
        more
    }

    /// Deletes a partition with all its rows.
    pub(super) fn remove(&mut self, key_slot: u32) {
        let rows = self.partitions[key_slot as usize].len();
        self.drop_oldest(key_slot, rows);
        self.index.remove(key_slot);
        if let Some(ages) = &mut self.ages {
            ages.clear(key_slot);
        }
    }

    /// The partitions of keys whose hashes are among those that leave.
    pub(super) fn leaving(&self, left: &dyn Fn(u64) -> bool) -> Vec<u32> {
        let slots = self.index.iter();
        slots.filter(|slot| left(self.index.hash(*slot))).collect()
    }

    /// Forgets the rows of keys that are another task's from now on.
    pub(super) fn forget_left(&mut self, left: &dyn Fn(u64) -> bool) {
        self.count -= self.rows.forget_left(left).len();
        for partition in self.leaving(left) {
            self.partitions[partition as usize].clear();
            self.index.forget(partition);
        }
    }

    /// See [`engine::state::Changes::roll_back`]. Rows that were changed after `restored` are to be
    /// forgotten, and then [`History::mark_unknown`].
    pub(super) fn roll_back(&mut self, restored: Epoch) -> HashSet<u64> {
        let mut dirty = HashSet::new();
        self.rows.roll_back(restored, &mut dirty);
        dirty
    }

    /// The rows of these keys are forgotten.
    pub(super) fn mark_unknown(&mut self, restored: Epoch, dirty: &HashSet<u64>) {
        self.index.roll_back(restored);
        self.index.mark_unknown(dirty);
    }

    /// Key groups have changed; what left is forgotten.
    pub(super) fn reassign(&mut self, change: &Reassigned) {
        self.index.reassign(&change.left, &change.came);
    }

    /// Puts committed rows of one hash, all there are, into memory. Returns their partitions.
    pub(super) fn install(&mut self, loaded: &[LoadedRow]) -> Result<Vec<u32>, OperatorError> {
        let stored = loaded.iter().map(|row| self.rows.stored_row(&row.value));
        let stored = stored.map(|row| Ok(row?.0));
        let stored: Vec<&[u8]> = stored.collect::<Result<_, OperatorError>>()?;
        if stored
            .iter()
            .any(|row| row.len() < self.codec.fixed_bytes())
        {
            return Err(self.rows.damaged("a row is cut short"));
        }
        let keys = 0..self.keys.columns().len();
        let keys = keys.map(|column| self.codec.decode_column(column, &stored));
        let keys: Vec<ArrayRef> = keys.collect::<Result<_, _>>()?;
        let keys = self.keys.encode_arrays(&keys, loaded.len())?;
        let mut partitions = BTreeSet::new();
        for (row, loaded) in loaded.iter().enumerate() {
            let key_slot = self.key_slot(&keys, row);
            let slot = self.rows.install(loaded)?;
            self.partitions[key_slot as usize].push_back(slot);
            self.count += 1;
            partitions.insert(key_slot);
            let stamp = self.rows.stamp(slot);
            if let Some(ages) = &mut self.ages {
                ages.raise(key_slot, stamp);
            }
        }
        for partition in &partitions {
            let rows = &self.rows;
            let slots = self.partitions[*partition as usize].make_contiguous();
            slots.sort_unstable_by_key(|slot| rows.order(*slot));
        }
        Ok(partitions.into_iter().collect())
    }

    /// Whether partitions are of no use after a while.
    pub(super) fn expires(&self) -> bool {
        self.ages.is_some()
    }

    /// After how long.
    pub(super) fn ttl(&self) -> Ttl {
        let ages = self.ages.as_ref();
        ages.expect("only what has a lifetime is asked for it")
            .ttl()
    }

    /// What time it is from now on.
    pub(super) fn set_now(&mut self, now: Timestamp) {
        if let Some(ages) = &mut self.ages {
            ages.set_now(now);
            self.rows.set_now(now);
        }
    }

    /// The reads that bring those of stored rows into memory that have expired and are not there.
    pub(super) fn overdue(&self, table: TableId, rows: &[LoadedRow]) -> Vec<KeyRequest> {
        let Some(ages) = &self.ages else {
            return Vec::new();
        };
        // A young row of a partition is not seen here if it comes in another piece: then the partition
        // is read in vain, and stays.
        let is_overdue = |rows: &&[LoadedRow]| {
            let stamps = rows.iter().map(|row| self.rows.stored_stamp(&row.value));
            let last = stamps.max().is_some_and(|last| ages.is_overdue(last));
            last && self.index.is_unknown(rows[0].hash)
        };
        let read = |rows: &[LoadedRow]| KeyRequest {
            table,
            namespace: 0,
            hash: rows[0].hash,
            sub: None,
        };
        let by_hash = rows.chunk_by(|a, b| a.hash == b.hash);
        by_hash.filter(is_overdue).map(read).collect()
    }

    /// Live rows and bytes.
    pub(super) fn size(&self) -> StateSize {
        let mut size = self.rows.size();
        // Asked for often, so the lists of the partitions are not added up: each has room for some more.
        let partitions = |count: usize| count * size_of::<VecDeque<u32>>();
        size.bytes += (self.index.memory() + partitions(self.partitions.len())) as u64;
        size.bytes += (self.count * 6) as u64;
        size.bytes += self.ages.as_ref().map_or(0, |ages| ages.memory() as u64);
        let free = partitions(self.index.slots() - self.index.len());
        size.free_bytes += (self.index.free_memory() + free) as u64;
        size
    }

    /// Takes partitions out of memory.
    pub(super) fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        for key_slot in slots {
            for slot in std::mem::take(&mut self.partitions[*key_slot as usize]) {
                self.rows.evict(slot, evicted);
                self.count -= 1;
            }
            self.index.evict(*key_slot);
        }
    }
}
