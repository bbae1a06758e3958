//! Pairs rows of one side of an interval join with those of the other side that are near enough, a
//! chunk at a time. Rows of the other side stay where they are meanwhile: what becomes of those that
//! have been met is told in the end.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
};
use engine::{
    ChangeBatch, Timestamp,
    codec::ByteRows,
    key::KeyBatch,
    operator::{OperatorError, Outbox},
    state::NO_SLOT,
};

use crate::{
    EvalContext,
    join::{
        shape::{JoinShape, LEFT, RIGHT},
        state::JoinState,
    },
};

/// Where a row of the other side is.
pub(super) const KEPT: usize = 0;
/// As [`KEPT`]: among those that have met nothing.
pub(super) const WAITING: usize = 1;

/// A row that comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Row of the probe's columns.
    pub(super) row: u32,
    /// Slots of its key in both pools; [`NO_SLOT`]: it meets nothing there.
    pub(super) keys: [u32; 2],
    pub(super) time: Timestamp,
    /// Times of the other side that it can meet.
    pub(super) range: (Timestamp, Timestamp),
    /// Others may come that it can meet, and it is not kept yet.
    pub(super) is_open: bool,
    /// It has met another.
    pub(super) has_met: bool,
    /// The watermark has passed it, and nothing that comes can meet it.
    pub(super) is_late: bool,
}

impl Row {
    /// A row that meets nothing.
    pub(super) fn new(row: u32, time: Timestamp) -> Row {
        Row {
            row,
            keys: [NO_SLOT; 2],
            time,
            range: (Timestamp::MAX, Timestamp::MIN),
            is_open: false,
            has_met: false,
            is_late: false,
        }
    }
}

/// A row of the other side that was met, and must go from where it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Met {
    pub(super) pool: usize,
    pub(super) slot: u32,
    /// Index of the row that met it.
    pub(super) by: u32,
}

/// Rows on their way to the output.
#[derive(Debug)]
pub(super) struct IntervalProbe {
    pub(super) side: usize,
    pub(super) columns: Vec<ArrayRef>,
    pub(super) keys: KeyBatch,
    /// The rows as they are stored.
    pub(super) bytes: ByteRows,
    pub(super) rows: Vec<Row>,
    /// Per pool: rows of the other side go from there when they have been met.
    pub(super) settles: [bool; 2],
    pub(super) met: Vec<Met>,
    /// Row that is next or under way, the pool that it is at, and the row there.
    next: usize,
    pool: usize,
    slot: u32,
    pairs: Pairs,
}

#[derive(Debug, Default)]
struct Pairs {
    /// Indexes of rows.
    own: Vec<u32>,
    /// The same as rows of the columns.
    rows: Vec<u32>,
    others: Vec<(usize, u32)>,
}

impl IntervalProbe {
    pub(super) fn new(
        side: usize,
        columns: Vec<ArrayRef>,
        keys: KeyBatch,
        bytes: ByteRows,
        rows: Vec<Row>,
        settles: [bool; 2],
    ) -> Self {
        IntervalProbe {
            side,
            columns,
            keys,
            bytes,
            rows,
            settles,
            met: Vec::new(),
            next: 0,
            pool: KEPT,
            slot: NO_SLOT,
            pairs: Pairs::default(),
        }
    }

    /// Puts out chunks until about a batch waits in the outbox; `true` when all pairs are out.
    pub(super) fn run(
        &mut self,
        shape: &JoinShape,
        pools: [&JoinState; 2],
        eval: &EvalContext,
        out: &mut Outbox,
    ) -> Result<bool, OperatorError> {
        if self.next == 0 && self.pool == KEPT && self.slot == NO_SLOT {
            self.slot = self.first(pools);
        }
        while self.next < self.rows.len() {
            if out.num_rows() >= shape.batch_rows {
                return Ok(false);
            }
            // Rows of the other side do not change before all pairs are out.
            self.collect(pools, shape.batch_rows);
            if self.pairs.own.is_empty() {
                continue;
            }
            let row = |(pool, slot): &(usize, u32)| pools[*pool].row(1 - self.side, *slot);
            let others: Vec<&[u8]> = self.pairs.others.iter().map(row).collect();
            let rows = &self.pairs.rows;
            let mask = shape.matches(self.side, &self.columns, rows, &others, eval)?;
            self.note(mask.as_ref());
            if shape.emits_pairs {
                out.batch(self.gather(shape, &others, mask.as_ref())?);
            }
        }
        // Several may have met the same row.
        self.met.sort_unstable();
        self.met.dedup_by_key(|met| (met.pool, met.slot));
        Ok(true)
    }

    /// The first row of the other side in the pool of the row that is next.
    fn first(&self, pools: [&JoinState; 2]) -> u32 {
        let key_slot = self
            .rows
            .get(self.next)
            .map_or(NO_SLOT, |row| row.keys[self.pool]);
        match key_slot {
            NO_SLOT => NO_SLOT,
            key_slot => pools[self.pool].head(key_slot, 1 - self.side),
        }
    }

    /// Collects the next pairs that are near enough.
    fn collect(&mut self, pools: [&JoinState; 2], pairs_max: usize) {
        let other = 1 - self.side;
        self.pairs.own.clear();
        self.pairs.rows.clear();
        self.pairs.others.clear();
        while self.next < self.rows.len() {
            let row = self.rows[self.next];
            let side = &pools[self.pool].sides[other];
            while self.slot != NO_SLOT {
                if self.pairs.own.len() >= pairs_max {
                    return;
                }
                let time = side.rows.stamp(self.slot);
                if time >= row.range.0 && time <= row.range.1 {
                    self.pairs.own.push(self.next as u32);
                    self.pairs.rows.push(row.row);
                    self.pairs.others.push((self.pool, self.slot));
                }
                self.slot = side.next(self.slot);
            }
            if self.pool == KEPT {
                self.pool = WAITING;
            } else {
                self.pool = KEPT;
                self.next += 1;
            }
            self.slot = self.first(pools);
        }
    }

    /// Notes which rows have met others.
    fn note(&mut self, mask: Option<&BooleanArray>) {
        for (pair, own) in self.pairs.own.iter().enumerate() {
            if mask.is_some_and(|mask| !mask.value(pair)) {
                continue;
            }
            self.rows[*own as usize].has_met = true;
            let (pool, slot) = self.pairs.others[pair];
            if self.settles[pool] {
                self.met.push(Met {
                    pool,
                    slot,
                    by: *own,
                });
            }
        }
    }

    /// The pairs that match.
    fn gather(
        &self,
        shape: &JoinShape,
        others: &[&[u8]],
        mask: Option<&BooleanArray>,
    ) -> Result<ChangeBatch, OperatorError> {
        let (mut rows, mut others) = (self.pairs.rows.clone(), others.to_vec());
        if let Some(mask) = mask.filter(|mask| mask.true_count() < mask.len()) {
            let kept: Vec<usize> = mask.values().set_indices().collect();
            rows = kept.iter().map(|pair| rows[*pair]).collect();
            others = kept.iter().map(|pair| others[*pair]).collect();
        }
        let indices = UInt32Array::from(rows);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(shape.schema.fields().len());
        for side in [LEFT, RIGHT] {
            if side == self.side {
                for column in &self.columns {
                    arrays.push(take(column, &indices, None)?);
                }
            } else {
                arrays.extend(shape.codecs[side].decode(&others)?);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&shape.schema), arrays, &options)?;
        Ok(ChangeBatch::inserts(batch))
    }
}
