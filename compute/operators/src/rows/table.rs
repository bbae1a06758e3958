//! A state table of many rows per key: the rows' bytes, what tells them apart, which changed.
//!
//! Who owns the table links rows of one key as it likes (chains, orders): a row is named by its
//! slot. Persisted layout, under the key's hash:
//! ```text
//! Append   identity = epoch u64 · task u32 · ordinal u64, big endian;  value = row
//! Content  identity = 128-bit hash of the row, big endian;  value = count u32, little endian · row
//! Unique   identity = 64-bit hash of the unique key, big endian · unique key;  value = row
//! ```
//! Where rows expire, a value begins with the time of its last change, i64 ms, little endian.
//! The epoch of an appended row is that of the barrier before it, which no other incarnation of
//! the task that commits can have used.

use std::collections::HashSet;

use arrow::array::ArrayRef;
use engine::{
    TIMESTAMP_MIN, Timestamp,
    codec::{ByteRows, RowCodec},
    key::{hash_bytes, mix},
    operator::{OperatorError, StateSize, TaskScope},
    spill::Evicted,
    state::{Changes, FrozenRows, NO_SLOT, RowArena, STAMP_BYTES, TableDelta},
};
use hashbrown::HashTable;
use proto::types::{Epoch, TableId};
use state_client::LoadedRow;
use xxhash_rust::xxh3::xxh3_128;

use super::birth::{Birth, read_birth, write_birth};

/// What tells the rows of a key apart.
#[derive(Debug)]
pub(crate) enum Identity {
    /// Every row is one of its own: input that only appends. `removable`: the owner takes rows
    /// away, so each must remember where it came from.
    Append { removable: bool },
    /// Equal rows are one, with a count: input that takes rows back by their content.
    Content,
    /// A unique key: columns of the row, and their codec.
    Unique(Vec<usize>, RowCodec),
}

/// What identifies the rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct RowIds {
    hashes: Vec<u128>,
    unique: ByteRows,
}

/// Rows of one table in one namespace.
#[derive(Debug)]
pub(crate) struct RowTable {
    table: TableId,
    namespace: i64,
    rows: Rows,
    changes: Changes,
    /// Rows by key and identity; unused for rows that only append.
    lookup: HashTable<u32>,
}

#[derive(Debug)]
struct Rows {
    identity: Identity,
    /// Row bytes; of rows with a unique key, followed by its bytes.
    arena: RowArena,
    /// Hash of the row's key.
    hashes: Vec<u64>,
    /// Hash of the identity; unused for rows that only append.
    ids: Vec<u128>,
    /// Copies of the row, or bytes of its unique key.
    extra: Vec<u32>,
    births: Vec<Birth>,
    next_ordinal: u64,
    task: u32,
    open_base: u64,
    frozen_base: u64,
    /// Times of rows' last changes, where they expire.
    stamps: Option<Vec<Timestamp>>,
    now: Timestamp,
}

impl RowTable {
    /// An empty table.
    pub(crate) fn new(
        table: TableId,
        namespace: i64,
        identity: Identity,
        scope: &TaskScope,
    ) -> Self {
        RowTable {
            table,
            namespace,
            rows: Rows {
                identity,
                arena: RowArena::default(),
                hashes: Vec::new(),
                ids: Vec::new(),
                extra: Vec::new(),
                births: Vec::new(),
                next_ordinal: 0,
                task: scope.index as u32,
                open_base: scope.restored.0,
                frozen_base: scope.restored.0,
                stamps: None,
                now: TIMESTAMP_MIN,
            },
            changes: Changes::default(),
            lookup: HashTable::new(),
        }
    }

    /// The table with the times of its rows' last changes.
    pub(crate) fn stamped(mut self, is_stamped: bool) -> Self {
        self.rows.stamps = is_stamped.then(Vec::new);
        self
    }

    /// What time it is from now on.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.rows.now = now;
    }

    /// When a row was changed last.
    pub(crate) fn stamp(&self, slot: u32) -> Timestamp {
        let stamps = self.rows.stamps.as_ref();
        stamps.map_or(TIMESTAMP_MIN, |stamps| stamps[slot as usize])
    }

    /// A row that was changed before time was known counts as changed now.
    pub(crate) fn date(&mut self, slot: u32) {
        if let Some(stamps) = &mut self.rows.stamps {
            stamps[slot as usize] = self.rows.now;
        }
    }

    /// An empty table whose rows are told to begin after barrier `epoch`.
    pub(crate) fn begun_after(mut self, epoch: Epoch) -> Self {
        self.rows.open_base = epoch.0;
        self
    }

    /// The state table.
    pub(crate) fn id(&self) -> TableId {
        self.table
    }

    /// What identifies the rows of a batch; `bytes` are the rows of `arrays`.
    pub(crate) fn ids(
        &self,
        bytes: &ByteRows,
        arrays: &[ArrayRef],
    ) -> Result<RowIds, OperatorError> {
        Ok(match &self.rows.identity {
            Identity::Append { .. } => RowIds::default(),
            Identity::Content => RowIds {
                hashes: (0..bytes.len()).map(|i| xxh3_128(bytes.row(i))).collect(),
                unique: ByteRows::default(),
            },
            Identity::Unique(columns, codec) => {
                let columns: Vec<ArrayRef> = columns.iter().map(|i| arrays[*i].clone()).collect();
                let unique = codec.encode(&columns, bytes.len())?;
                let hash = |row: usize| u128::from(hash_bytes(unique.row(row)));
                RowIds {
                    hashes: (0..bytes.len()).map(hash).collect(),
                    unique,
                }
            }
        })
    }

    /// The slot of the row with this key and identity, or [`NO_SLOT`].
    pub(crate) fn find(&self, hash: u64, ids: &RowIds, row: usize, bytes: &[u8]) -> u32 {
        let id = ids.hashes[row];
        let rows = &self.rows;
        let same = |slot: &u32| {
            rows.ids[*slot as usize] == id
                && rows.hashes[*slot as usize] == hash
                && match rows.identity {
                    Identity::Unique(..) => rows.unique(*slot) == ids.unique.row(row),
                    _ => rows.arena.row(*slot) == bytes,
                }
        };
        let found = self.lookup.find(lookup_hash(hash, id), same);
        found.copied().unwrap_or(NO_SLOT)
    }

    /// Keeps a row that only appends.
    #[inline]
    pub(crate) fn append(&mut self, hash: u64, bytes: &[u8]) -> u32 {
        let slot = self.rows.put(hash, bytes);
        if let Identity::Append { removable: true } = self.rows.identity {
            let rows = &mut self.rows;
            let birth = (rows.open_base, rows.task, rows.next_ordinal);
            rows.next_ordinal += 1;
            set(&mut rows.births, slot, birth);
        }
        self.mark(slot);
        slot
    }

    /// Keeps a row that [`RowTable::find`] does not find.
    pub(crate) fn insert(&mut self, hash: u64, ids: &RowIds, row: usize, bytes: &[u8]) -> u32 {
        let slot = self.rows.put_identified(hash, ids, row, bytes, 1);
        self.enlist(slot);
        self.mark(slot);
        slot
    }

    /// Adds a copy of a row.
    pub(crate) fn add_copy(&mut self, slot: u32) {
        self.mark(slot);
        self.rows.extra[slot as usize] = self.rows.extra[slot as usize].saturating_add(1);
    }

    /// Takes a copy of a row away, unless it is the last one.
    pub(crate) fn remove_copy(&mut self, slot: u32) -> bool {
        if self.copies(slot) <= 1 {
            return false;
        }
        self.mark(slot);
        self.rows.extra[slot as usize] -= 1;
        true
    }

    /// Copies of a row.
    #[inline]
    pub(crate) fn copies(&self, slot: u32) -> u32 {
        match self.rows.identity {
            Identity::Content => self.rows.extra[slot as usize],
            _ => 1,
        }
    }

    /// A row changes, though only in its time.
    pub(crate) fn touch(&mut self, slot: u32) {
        self.mark(slot);
    }

    /// Replaces a row by one of the same identity (a unique key's).
    pub(crate) fn replace(&mut self, slot: u32, bytes: &[u8]) {
        self.mark(slot);
        let mut row = bytes.to_vec();
        row.extend_from_slice(self.rows.unique(slot));
        self.rows.arena.replace(slot, &row);
    }

    /// Takes a row away; its slot may be given to another.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.forget(slot);
        self.free(slot);
    }

    /// Takes a row away but leaves its bytes readable until [`RowTable::free`].
    pub(crate) fn forget(&mut self, slot: u32) {
        let rows = &self.rows;
        self.changes.delete(
            slot,
            rows.hashes[slot as usize],
            |out| rows.write_identity(slot, rows.open_base, out),
            |slot, frozen| rows.encode(slot, frozen),
        );
        self.delist(slot);
    }

    fn delist(&mut self, slot: u32) {
        if !matches!(self.rows.identity, Identity::Append { .. }) {
            let hash = self.rows.lookup_hash(slot);
            if let Ok(entry) = self.lookup.find_entry(hash, |other| *other == slot) {
                entry.remove();
            }
        }
    }

    /// Gives back the slot of a row that is taken away.
    pub(crate) fn free(&mut self, slot: u32) {
        self.rows.arena.remove(slot);
    }

    /// Forgets rows whose keys' hashes are another task's from now on, and says which they were; see
    /// [`Changes::forget`].
    pub(crate) fn forget_left(&mut self, left: &dyn Fn(u64) -> bool) -> Vec<u32> {
        let mut slots = self.rows.arena.live();
        slots.retain(|slot| left(self.rows.hashes[*slot as usize]));
        for slot in &slots {
            let rows = &self.rows;
            self.changes.reserve(*slot as usize + 1);
            self.changes
                .forget(*slot, |slot, frozen| rows.encode(slot, frozen));
            self.delist(*slot);
            self.free(*slot);
        }
        slots
    }

    /// Takes a row out of memory that is in the store as it is here.
    pub(crate) fn evict(&mut self, slot: u32, evicted: &mut Evicted) {
        debug_assert!(self.changes.is_clean(slot), "a change is lost");
        if let Some(rows) = evicted.rows(self.table) {
            self.rows.encode(slot, rows);
        }
        self.delist(slot);
        self.free(slot);
    }

    /// The hash of a row's key.
    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.rows.hashes[slot as usize]
    }

    /// The bytes of a row.
    #[inline]
    pub(crate) fn row(&self, slot: u32) -> &[u8] {
        self.rows.row(slot)
    }

    /// What orders rows of one key among each other the same way after a restart: appended ones
    /// by arrival.
    pub(crate) fn order(&self, slot: u32) -> (Birth, u128) {
        match self.rows.identity {
            Identity::Append { .. } => (self.rows.births[slot as usize], 0),
            _ => ((0, 0, 0), self.rows.ids[slot as usize]),
        }
    }

    /// The row and the number of its copies in a stored value.
    ///
    /// # Errors
    /// When it is cut short.
    pub(crate) fn stored_row<'a>(&self, value: &'a [u8]) -> Result<(&'a [u8], u32), OperatorError> {
        let (value, _) = self.split_stamp(value)?;
        if !matches!(self.rows.identity, Identity::Content) {
            return Ok((value, 1));
        }
        match value.split_first_chunk::<4>() {
            Some((count, row)) => Ok((row, u32::from_le_bytes(*count))),
            None => Err(self.damaged("a row has no count")),
        }
    }

    /// When a stored row was changed last, of a table that has the times.
    pub(crate) fn stored_stamp(&self, value: &[u8]) -> Timestamp {
        self.split_stamp(value)
            .map_or(TIMESTAMP_MIN, |(_, stamp)| stamp)
    }

    fn split_stamp<'a>(&self, value: &'a [u8]) -> Result<(&'a [u8], Timestamp), OperatorError> {
        if self.rows.stamps.is_none() {
            return Ok((value, TIMESTAMP_MIN));
        }
        match value.split_first_chunk::<STAMP_BYTES>() {
            Some((stamp, value)) => Ok((value, Timestamp::from_le_bytes(*stamp))),
            None => Err(self.damaged("a row has no time")),
        }
    }

    /// Puts a committed row that was read into memory.
    ///
    /// # Errors
    /// When its bytes are damaged.
    pub(crate) fn install(&mut self, loaded: &LoadedRow) -> Result<u32, OperatorError> {
        let (bytes, copies) = self.stored_row(&loaded.value)?;
        let identity = &loaded.identity[..];
        let slot = match &self.rows.identity {
            Identity::Append { removable } => {
                let removable = *removable;
                let birth =
                    read_birth(identity).ok_or_else(|| self.damaged("a row has no birth"))?;
                let slot = self.rows.put(loaded.hash, bytes);
                if removable {
                    set(&mut self.rows.births, slot, birth);
                }
                slot
            }
            Identity::Content => {
                let id = identity
                    .first_chunk::<16>()
                    .ok_or_else(|| self.damaged("a row has no content hash"))?;
                let ids = RowIds {
                    hashes: vec![u128::from_be_bytes(*id)],
                    unique: ByteRows::default(),
                };
                let slot = self
                    .rows
                    .put_identified(loaded.hash, &ids, 0, bytes, copies);
                self.enlist(slot);
                slot
            }
            Identity::Unique(..) => {
                let (id, unique) = identity
                    .split_first_chunk::<8>()
                    .ok_or_else(|| self.damaged("a row has no unique key"))?;
                let mut ids = RowIds {
                    hashes: vec![u128::from(u64::from_be_bytes(*id))],
                    unique: ByteRows::default(),
                };
                ids.unique.push(unique);
                let slot = self.rows.put_identified(loaded.hash, &ids, 0, bytes, 1);
                self.enlist(slot);
                slot
            }
        };
        let stamp = self.stored_stamp(&loaded.value);
        if let Some(stamps) = &mut self.rows.stamps {
            set(stamps, slot, stamp);
        }
        self.changes.reserve(slot as usize + 1);
        Ok(slot)
    }

    /// The rows as of now belong to `epoch`, see [`Changes::freeze`].
    pub(crate) fn freeze(&mut self, epoch: Epoch) {
        self.rows.frozen_base = self.rows.open_base;
        self.rows.open_base = epoch.0;
        self.changes.freeze(epoch);
    }

    /// See [`Changes::committed`].
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        self.changes.committed(epoch);
    }

    /// See [`Changes::roll_back`].
    pub(crate) fn roll_back(&mut self, restored: Epoch, dirty: &mut HashSet<u64>) {
        let hashes = &self.rows.hashes;
        self.changes
            .roll_back(restored, |slot| hashes[slot as usize], dirty);
        self.rows.open_base = restored.0;
        self.rows.frozen_base = restored.0;
    }

    /// See [`Changes::encode`].
    pub(crate) fn encode(&mut self, rows_max: usize) -> bool {
        let rows = &self.rows;
        self.changes
            .encode(rows_max, |slot, frozen| rows.encode(slot, frozen))
    }

    /// The frozen rows; `None` if there are none.
    pub(crate) fn take_delta(&mut self) -> Option<TableDelta> {
        let rows = self.changes.take();
        (!rows.is_empty()).then_some(TableDelta {
            table: self.table,
            namespace: self.namespace,
            rows,
        })
    }

    /// Live rows and bytes.
    pub(crate) fn size(&self) -> StateSize {
        let rows = &self.rows;
        let columns = rows.hashes.len() * 8
            + rows.ids.len() * 16
            + rows.extra.len() * 4
            + rows.births.len() * size_of::<Birth>()
            + rows.stamps.as_ref().map_or(0, |stamps| stamps.len() * 8);
        let bytes =
            rows.arena.memory() + columns + self.changes.memory() + self.lookup.allocation_size();
        let slots = rows.arena.slots();
        let per_slot = columns / slots.max(1);
        let free_slots = slots - rows.arena.len();
        let free = rows.arena.free_memory() + free_slots * per_slot;
        let per_row = bytes.saturating_sub(free) / rows.arena.len().max(1);
        StateSize {
            rows: rows.arena.len() as u64,
            bytes: bytes as u64,
            free_bytes: free as u64,
            changed_bytes: (self.changes.open_len() * per_row) as u64,
        }
    }

    /// The error for stored bytes that do not decode.
    pub(crate) fn damaged(&self, cause: &str) -> OperatorError {
        OperatorError::Decode {
            table: self.table.to_string(),
            cause: cause.to_owned(),
        }
    }

    fn enlist(&mut self, slot: u32) {
        let rows = &self.rows;
        self.lookup
            .insert_unique(rows.lookup_hash(slot), slot, |slot| rows.lookup_hash(*slot));
    }

    #[inline]
    fn mark(&mut self, slot: u32) {
        let rows = &self.rows;
        self.changes.reserve(slot as usize + 1);
        self.changes
            .touch(slot, |slot, frozen| rows.encode(slot, frozen));
        let rows = &mut self.rows;
        if let Some(stamps) = &mut rows.stamps {
            set(stamps, slot, rows.now);
        }
    }
}

impl Rows {
    #[inline]
    fn put(&mut self, hash: u64, bytes: &[u8]) -> u32 {
        let slot = self.arena.insert(bytes);
        set(&mut self.hashes, slot, hash);
        slot
    }

    fn put_identified(
        &mut self,
        hash: u64,
        ids: &RowIds,
        row: usize,
        bytes: &[u8],
        copies: u32,
    ) -> u32 {
        let (slot, extra) = match self.identity {
            Identity::Unique(..) => {
                let unique = ids.unique.row(row);
                let mut stored = Vec::with_capacity(bytes.len() + unique.len());
                stored.extend_from_slice(bytes);
                stored.extend_from_slice(unique);
                (self.put(hash, &stored), unique.len() as u32)
            }
            _ => (self.put(hash, bytes), copies),
        };
        set(&mut self.ids, slot, ids.hashes[row]);
        set(&mut self.extra, slot, extra);
        slot
    }

    #[inline]
    fn row(&self, slot: u32) -> &[u8] {
        let stored = self.arena.row(slot);
        match self.identity {
            Identity::Unique(..) => &stored[..stored.len() - self.extra[slot as usize] as usize],
            _ => stored,
        }
    }

    fn unique(&self, slot: u32) -> &[u8] {
        let stored = self.arena.row(slot);
        &stored[stored.len() - self.extra[slot as usize] as usize..]
    }

    fn lookup_hash(&self, slot: u32) -> u64 {
        lookup_hash(self.hashes[slot as usize], self.ids[slot as usize])
    }

    fn encode(&self, slot: u32, frozen: &mut FrozenRows) {
        let value = |out: &mut Vec<u8>| {
            if let Some(stamps) = &self.stamps {
                out.extend_from_slice(&stamps[slot as usize].to_le_bytes());
            }
            if let Identity::Content = self.identity {
                out.extend_from_slice(&self.extra[slot as usize].to_le_bytes());
            }
            out.extend_from_slice(self.row(slot));
        };
        frozen.push(
            self.hashes[slot as usize],
            |out| self.write_identity(slot, self.frozen_base, out),
            Some(value),
        );
    }

    fn write_identity(&self, slot: u32, base: u64, out: &mut Vec<u8>) {
        match &self.identity {
            Identity::Append { removable } => {
                // Slots that are never given back number the rows by themselves.
                let (epoch, task, ordinal) = match removable {
                    true => self.births[slot as usize],
                    false => (base, self.task, u64::from(slot)),
                };
                write_birth((epoch, task, ordinal), out);
            }
            Identity::Content => out.extend_from_slice(&self.ids[slot as usize].to_be_bytes()),
            Identity::Unique(..) => {
                out.extend_from_slice(&(self.ids[slot as usize] as u64).to_be_bytes());
                out.extend_from_slice(self.unique(slot));
            }
        }
    }
}

fn lookup_hash(hash: u64, id: u128) -> u64 {
    mix(hash, id as u64)
}

/// Sets a column's value in a slot that is at most one past its end.
fn set<T: Clone + Default>(column: &mut Vec<T>, slot: u32, value: T) {
    let slot = slot as usize;
    if slot == column.len() {
        column.push(value);
        return;
    }
    if slot > column.len() {
        column.resize(slot + 1, T::default());
    }
    column[slot] = value;
}
