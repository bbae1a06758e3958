//! Rows of an interval join's outer sides that have met no other row: by key, because one may still
//! come, and by the time when none can come any more. All are in memory.

use std::collections::BTreeMap;

use engine::{
    Timestamp,
    key::KeyBatch,
    operator::{OperatorError, Reassigned, TaskScope},
    state::{NO_SLOT, ScanJob},
};
use proto::types::TableId;
use state_client::LoadedRow;

use super::operator::pool;
use crate::join::{
    shape::{JoinShape, LEFT, RIGHT},
    state::JoinState,
};

/// Due time of a slot without a row.
const NEVER: Timestamp = Timestamp::MAX;

/// Rows that have met none.
pub(super) struct WaitingRows {
    state: JoinState,
    /// Whether rows of a side wait.
    has: [bool; 2],
    /// How long.
    life: [i64; 2],
    sides: [Side; 2],
}

#[derive(Default)]
struct Side {
    /// Rows by when they are due, and rows that were here.
    queue: BTreeMap<Timestamp, Vec<u32>>,
    /// Per row: when it is due, and its key.
    due: Vec<Timestamp>,
    keys: Vec<u32>,
}

impl WaitingRows {
    /// None yet. `tables` are those of the sides that have such rows.
    pub(super) fn new(
        shape: &JoinShape,
        tables: &[TableId],
        life: [i64; 2],
        scope: &TaskScope,
    ) -> Result<WaitingRows, OperatorError> {
        let has = shape.bare_unmatched;
        let mut own = tables.iter();
        let ids = has.map(|has| match has {
            true => own.next().copied(),
            // Nothing is ever put there.
            false => Some(TableId(0)),
        });
        let ([Some(left), Some(right)], None) = (ids, own.next()) else {
            let message = "an interval join has a table for each outer side";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        Ok(WaitingRows {
            state: pool(shape, [left, right], scope, false),
            has,
            life,
            sides: [Side::default(), Side::default()],
        })
    }

    /// Whether rows of a side wait.
    pub(super) fn has(&self, side: usize) -> bool {
        self.has[side]
    }

    /// Whether rows of any side do.
    pub(super) fn has_any(&self) -> bool {
        self.has[LEFT] || self.has[RIGHT]
    }

    /// The rows.
    pub(super) fn state(&self) -> &JoinState {
        &self.state
    }

    /// The rows.
    pub(super) fn state_mut(&mut self) -> &mut JoinState {
        &mut self.state
    }

    /// The slot of a key, or [`NO_SLOT`].
    pub(super) fn find(&self, keys: &KeyBatch, row: usize) -> u32 {
        match self.has_any() {
            true => self.state.index.find_row(&keys.keys, row, keys.hashes[row]),
            false => NO_SLOT,
        }
    }

    /// Has a row wait.
    pub(super) fn append(
        &mut self,
        side: usize,
        keys: &KeyBatch,
        row: usize,
        time: Timestamp,
        bytes: &[u8],
    ) {
        let key_slot = self.state.key_slot(keys, row);
        self.state.sides[side].rows.set_now(time);
        let slot = self.state.append(side, key_slot, keys.hashes[row], bytes);
        self.enlist(side, key_slot, slot);
    }

    /// Takes a row out.
    pub(super) fn remove(&mut self, side: usize, slot: u32) {
        let of_side = &mut self.sides[side];
        of_side.due[slot as usize] = NEVER;
        self.state.remove(side, of_side.keys[slot as usize], slot);
    }

    /// Rows of a side that nothing can meet any more at `watermark`, up to `rows_max` of them, taken off
    /// the queue; whoever asks removes them.
    pub(super) fn take_due(
        &mut self,
        watermark: Timestamp,
        rows_max: usize,
    ) -> Option<(usize, Vec<u32>)> {
        for side in [LEFT, RIGHT] {
            let Side { queue, due, .. } = &mut self.sides[side];
            let mut slots = Vec::new();
            while slots.len() < rows_max
                && let Some(mut first) = queue.first_entry()
                && *first.key() <= watermark
            {
                let at = *first.key();
                match first.get_mut().pop() {
                    // Others may have had the slot since, and a row may be there twice.
                    Some(slot) if due[slot as usize] == at => {
                        due[slot as usize] = NEVER;
                        slots.push(slot);
                    }
                    Some(_) => {}
                    None => drop(first.remove()),
                }
            }
            if !slots.is_empty() {
                return Some((side, slots));
            }
        }
        None
    }

    /// The scans that bring all rows of some key groups.
    pub(super) fn scans(&self, scope: &TaskScope) -> Vec<ScanJob> {
        let tables = [LEFT, RIGHT]
            .into_iter()
            .filter(|side| self.has[*side])
            .map(|side| self.state.sides[side].rows.id());
        tables
            .flat_map(|table| {
                scope
                    .owned
                    .iter()
                    .map(move |group| ScanJob::new(table, group))
            })
            .collect()
    }

    /// Rows of such a scan.
    pub(super) fn install(
        &mut self,
        shape: &JoinShape,
        table: TableId,
        rows: &[LoadedRow],
    ) -> Result<(), OperatorError> {
        let is_it = |side: &usize| self.has[*side] && self.state.sides[*side].rows.id() == table;
        let Some(side) = [LEFT, RIGHT].into_iter().find(is_it) else {
            return Ok(());
        };
        for (key_slot, slot) in self.state.install(shape, side, rows)? {
            self.enlist(side, key_slot, slot);
        }
        Ok(())
    }

    /// Forgets rows of key groups that are another task's from now on.
    pub(super) fn reassign(&mut self, change: &Reassigned) {
        let forgotten = self.state.reassign(change);
        for (side, slots) in self.sides.iter_mut().zip(forgotten) {
            slots
                .iter()
                .for_each(|slot| side.due[*slot as usize] = NEVER);
        }
    }

    fn enlist(&mut self, side: usize, key_slot: u32, slot: u32) {
        let stamp = self.state.sides[side].rows.stamp(slot);
        let at = stamp.saturating_add(self.life[side]);
        let Side { queue, due, keys } = &mut self.sides[side];
        let index = slot as usize;
        if index >= due.len() {
            due.resize(index + 1, NEVER);
            keys.resize(index + 1, NO_SLOT);
        }
        due[index] = at;
        keys[index] = key_slot;
        queue.entry(at).or_default().push(slot);
    }
}
