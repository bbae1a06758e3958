//! Rows by partition, each partition in order.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use engine::{
    codec::{ByteRows, RowCodec},
    key::{KeyBatch, KeyEncoder},
    operator::{OperatorError, StateSize, TaskScope},
    spill::Evicted,
    state::{Evict, KeyIndex, NO_SLOT, RowArena, Ttl},
};
use proto::{plan, types::Field};
use state_client::LoadedRow;

use crate::rows::{
    Ages, OrderKeys, RowIds, RowOrder, RowTable, SortedSlots, arrow_types, columns, row_codec,
};

/// What is fixed about a ranking: the partition, the order, the places that count.
pub(crate) struct RankShape {
    pub(crate) keys: KeyEncoder,
    pub(crate) codec: RowCodec,
    pub(crate) order: RowOrder,
    /// Of rows that the order does not tell apart, the latest is the first.
    latest_first: bool,
    pub(crate) offset: u64,
    pub(crate) limit: u64,
}

impl RankShape {
    pub(crate) fn new(
        spec: &plan::Rank,
        latest_first: bool,
        input: &[Field],
    ) -> Result<Self, OperatorError> {
        let whole = RankShape::whole(&spec.partition_by, &spec.order_by, input)?;
        Ok(RankShape {
            latest_first,
            offset: spec.offset,
            limit: spec.limit,
            ..whole
        })
    }

    /// All places of partitions by these columns, in this order, count.
    pub(crate) fn whole(
        partition_by: &[u32],
        order_by: &[plan::SortKey],
        input: &[Field],
    ) -> Result<Self, OperatorError> {
        let types = arrow_types(input);
        let keys = columns(partition_by, input)?;
        let key_types = keys.iter().map(|key| types[*key].clone()).collect();
        Ok(RankShape {
            keys: KeyEncoder::new(keys, key_types)?,
            codec: row_codec(input)?,
            order: RowOrder::new(order_by, input)?,
            latest_first: false,
            offset: 0,
            limit: u64::MAX,
        })
    }

    /// Rows of a partition that are at the top or before it.
    pub(crate) fn rows_max(&self) -> u64 {
        self.offset.saturating_add(self.limit)
    }
}

/// The rows of all partitions.
pub(crate) struct Ranking {
    pub(crate) index: KeyIndex,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) rows: RowTable,
    /// Per row: how its order key begins, and where it is.
    orders: Vec<(u64, u32)>,
    order_keys: RowArena,
    latest_first: bool,
    /// When partitions expire, if they do.
    pub(crate) ages: Option<Ages>,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) sorted: SortedSlots,
    /// Rows, copies counted.
    rows: u64,
    /// How the order key of the last row begins.
    last: u64,
}

impl Ranking {
    /// No rows; `scope` is that of the key index.
    pub(crate) fn new(
        shape: &RankShape,
        rows: RowTable,
        ttl: Option<Ttl>,
        scope: &TaskScope,
        partial: bool,
    ) -> Self {
        Ranking {
            index: KeyIndex::new(shape.keys.width(), scope.key_groups, &scope.owned, partial),
            partitions: Vec::new(),
            rows: rows.stamped(ttl.is_some()),
            orders: Vec::new(),
            order_keys: RowArena::default(),
            latest_first: shape.latest_first,
            ages: ttl.map(Ages::new),
        }
    }

    /// The slot of a row's partition, made if there is none.
    pub(crate) fn key_slot(&mut self, keys: &KeyBatch, row: usize) -> u32 {
        let (partitions, ages) = (&mut self.partitions, &mut self.ages);
        let mut created = |slot: u32| {
            if let Some(ages) = ages {
                ages.begin(slot);
            }
            let slot = slot as usize;
            if slot == partitions.len() {
                partitions.push(Partition::default());
            } else {
                partitions[slot] = Partition::default();
            }
        };
        self.index
            .find_or_insert_row(&keys.keys, row, keys.hashes[row], &mut created)
    }

    /// The slot of a row's partition, where [`KeyIndex::likely`] has found it or not.
    #[inline]
    pub(crate) fn likely_slot(&mut self, found: u32, keys: &KeyBatch, row: usize) -> u32 {
        let found = self.index.use_found(found);
        found.unwrap_or_else(|| self.key_slot(keys, row))
    }

    /// Whether a row that comes last among its equals would be beyond `rows_max` rows.
    #[inline]
    pub(crate) fn is_beyond(&self, key_slot: u32, order: &[u8], rows_max: u64) -> bool {
        let partition = &self.partitions[key_slot as usize];
        if partition.rows < rows_max {
            return false;
        }
        let Some(last) = partition.sorted.last() else {
            return true;
        };
        let by_beginning = partition.last.cmp(&beginning(order));
        match by_beginning.then_with(|| self.order_key(last).cmp(order)) {
            Ordering::Less => true,
            Ordering::Equal => !self.latest_first,
            Ordering::Greater => false,
        }
    }

    /// Adds a row of an input that only appends. Returns what falls out beyond `rows_max`: it is
    /// forgotten, and freed by the caller.
    pub(crate) fn append(
        &mut self,
        key_slot: u32,
        hash: u64,
        bytes: &[u8],
        order: &[u8],
        rows_max: u64,
    ) -> Option<u32> {
        let slot = self.rows.append(hash, bytes);
        self.enlist(key_slot, slot, order, 1);
        self.touch(key_slot);
        let partition = &mut self.partitions[key_slot as usize];
        if partition.rows <= rows_max {
            return None;
        }
        let fallen = partition.sorted.pop()?;
        partition.rows -= 1;
        partition.note_last(&self.orders);
        self.rows.forget(fallen);
        Some(fallen)
    }

    /// Adds a row, or a copy of one.
    pub(crate) fn add(
        &mut self,
        key_slot: u32,
        hash: u64,
        ids: &RowIds,
        row: usize,
        bytes: &[u8],
        order: &[u8],
    ) {
        match self.rows.find(hash, ids, row, bytes) {
            NO_SLOT => {
                let slot = self.rows.insert(hash, ids, row, bytes);
                self.enlist(key_slot, slot, order, 1);
            }
            slot => {
                self.rows.add_copy(slot);
                self.partitions[key_slot as usize].rows += 1;
            }
        }
        self.touch(key_slot);
    }

    /// Takes a row back. Returns its slot if it was the last copy: it is forgotten, and freed by
    /// the caller.
    pub(crate) fn take_back(&mut self, key_slot: u32, slot: u32) -> Option<u32> {
        self.index.touch(key_slot);
        self.partitions[key_slot as usize].rows -= 1;
        self.touch(key_slot);
        if self.rows.remove_copy(slot) {
            return None;
        }
        let mut sorted = std::mem::take(&mut self.partitions[key_slot as usize].sorted);
        sorted.remove(slot, |other| self.compare(other, slot));
        let next = sorted.iter().next();
        let partition = &mut self.partitions[key_slot as usize];
        partition.sorted = sorted;
        partition.note_last(&self.orders);
        self.rows.forget(slot);
        if self.ages.is_some()
            && let Some(next) = next
        {
            // Some row must have the time of the partition's last change.
            self.rows.touch(next);
        }
        Some(slot)
    }

    /// Gives back the slot of a forgotten row.
    pub(crate) fn free(&mut self, slot: u32) {
        self.order_keys.remove(self.orders[slot as usize].1);
        self.rows.free(slot);
    }

    /// Drops a partition without rows.
    pub(crate) fn drop_if_empty(&mut self, key_slot: u32) {
        if self.partitions[key_slot as usize].sorted.is_empty() {
            self.index.remove(key_slot);
        }
    }

    /// Appends the rows at the top of a partition, each as often as there are copies of it.
    pub(crate) fn top(&self, key_slot: u32, shape: &RankShape, out: &mut Vec<u32>) {
        let (mut skip, mut left) = (shape.offset, shape.limit);
        for slot in self.partitions[key_slot as usize].sorted.iter() {
            let mut copies = u64::from(self.rows.copies(slot));
            let skipped = skip.min(copies);
            skip -= skipped;
            copies = (copies - skipped).min(left);
            left -= copies;
            (0..copies).for_each(|_| out.push(slot));
            if left == 0 {
                break;
            }
        }
    }

    /// The order of two rows of one partition; rows that are forgotten still have a place.
    pub(crate) fn compare(&self, a: u32, b: u32) -> Ordering {
        let beginning = |slot: u32| self.orders[slot as usize].0;
        let by_beginning = beginning(a).cmp(&beginning(b));
        let by_key = by_beginning.then_with(|| self.order_key(a).cmp(self.order_key(b)));
        by_key.then_with(|| {
            let by_arrival = self.rows.order(a).cmp(&self.rows.order(b));
            match self.latest_first {
                true => by_arrival.reverse(),
                false => by_arrival,
            }
        })
    }

    /// Forgets the rows of keys that are another task's from now on.
    pub(crate) fn forget_left(&mut self, left: &dyn Fn(u64) -> bool) {
        for slot in self.rows.forget_left(left) {
            self.order_keys.remove(self.orders[slot as usize].1);
        }
        let partitions: Vec<u32> = self.index.iter().collect();
        for partition in partitions {
            if left(self.index.hash(partition)) {
                self.index.forget(partition);
            }
        }
    }

    /// Puts committed rows that were read into memory.
    pub(crate) fn install(
        &mut self,
        shape: &RankShape,
        loaded: &[LoadedRow],
    ) -> Result<(), OperatorError> {
        let mut stored = Vec::with_capacity(loaded.len());
        let mut copies = Vec::with_capacity(loaded.len());
        for row in loaded {
            let (bytes, count) = self.rows.stored_row(&row.value)?;
            stored.push(bytes);
            copies.push(count);
        }
        let columns = shape.codec.decode(&stored)?;
        let keys = shape.keys.columns().iter().map(|c| columns[*c].clone());
        let keys: Vec<ArrayRef> = keys.collect();
        let keys = shape.keys.encode_arrays(&keys, loaded.len())?;
        let orders = shape.order.keys(&columns)?;
        for (row, loaded) in loaded.iter().enumerate() {
            let key_slot = self.key_slot(&keys, row);
            let slot = self.rows.install(loaded)?;
            self.enlist(key_slot, slot, orders.row(row), u64::from(copies[row]));
            let stamp = self.rows.stamp(slot);
            if let Some(ages) = &mut self.ages {
                ages.raise(key_slot, stamp);
            }
        }
        Ok(())
    }

    /// Live rows and bytes.
    pub(crate) fn size(&self) -> StateSize {
        let mut size = self.rows.size();
        // Asked for often, so the lists of the partitions are not added up: a row is in one of them,
        // which has room for some more.
        let lists = |rows: usize| rows * 6;
        let partitions = |count: usize| count * size_of::<Partition>();
        let bytes = self.index.memory()
            + self.order_keys.memory()
            + self.orders.len() * size_of::<(u64, u32)>()
            + partitions(self.partitions.len())
            + lists(size.rows as usize);
        let free = self.index.free_memory()
            + self.order_keys.free_memory()
            + partitions(self.index.slots() - self.index.len());
        size.bytes += bytes as u64;
        size.free_bytes += free as u64;
        size.bytes += self.ages.as_ref().map_or(0, |ages| ages.memory() as u64);
        size
    }

    /// Rows of bytes at slots.
    pub(crate) fn bytes(&self, slots: impl Iterator<Item = u32>) -> Vec<&[u8]> {
        slots.map(|slot| self.rows.row(slot)).collect()
    }

    fn enlist(&mut self, key_slot: u32, slot: u32, order: &[u8], copies: u64) {
        let place = self.order_keys.insert(order);
        if self.orders.len() <= slot as usize {
            self.orders.resize(slot as usize + 1, (0, NO_SLOT));
        }
        self.orders[slot as usize] = (beginning(order), place);
        let mut sorted = std::mem::take(&mut self.partitions[key_slot as usize].sorted);
        sorted.insert(slot, |other| self.compare(other, slot));
        let partition = &mut self.partitions[key_slot as usize];
        partition.sorted = sorted;
        partition.rows += copies;
        partition.note_last(&self.orders);
    }

    /// The bytes of a row's order.
    pub(crate) fn order_key(&self, slot: u32) -> &[u8] {
        self.order_keys.row(self.orders[slot as usize].1)
    }
}

impl Partition {
    fn note_last(&mut self, orders: &[(u64, u32)]) {
        let last = self.sorted.last();
        self.last = last.map_or(0, |slot| orders[slot as usize].0);
    }
}

/// The first bytes of an order key as a number: keys that differ in them are in the order of these, and
/// others are looked at whole, which are elsewhere in memory.
#[inline]
fn beginning(order: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = order.len().min(8);
    bytes[..length].copy_from_slice(&order[..length]);
    u64::from_be_bytes(bytes)
}

impl Evict for Ranking {
    fn size(&self) -> StateSize {
        Ranking::size(self)
    }

    fn find_old(&mut self, most: usize) -> Vec<u32> {
        self.index.find_old(most)
    }

    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn evict(&mut self, slots: &[u32], evicted: &mut Evicted) {
        for key_slot in slots {
            let partition = std::mem::take(&mut self.partitions[*key_slot as usize]);
            for slot in partition.sorted.iter() {
                self.rows.evict(slot, evicted);
                self.order_keys.remove(self.orders[slot as usize].1);
            }
            self.index.evict(*key_slot);
        }
    }
}

/// The rows of a batch as bytes, with what orders and identifies them.
pub(crate) struct Prepared {
    pub(crate) bytes: ByteRows,
    pub(crate) orders: OrderKeys,
}

impl Prepared {
    pub(crate) fn new(
        shape: &RankShape,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Self, OperatorError> {
        Ok(Prepared {
            bytes: shape.codec.encode(columns, rows)?,
            orders: shape.order.keys(columns)?,
        })
    }
}
