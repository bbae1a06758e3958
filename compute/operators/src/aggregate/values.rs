//! All accumulators of an aggregation as the values of one state table.

use arrow::array::{ArrayRef, RecordBatch};
use engine::{operator::OperatorError, state::Values};

use super::{
    accumulator::Accumulator,
    native::Native as _,
    plan::{AggregatePlan, Rowset},
    rows::{Rows, Selection, selected},
};

/// The group was there before the present batch.
const OLD: u8 = 1;
/// Some of the group's values may be in the store only.
const INCOMPLETE: u8 = 2;

/// The columns of groups, by slot.
pub(crate) struct Accumulators {
    /// One per planned accumulator.
    pub(crate) list: Vec<Box<dyn Accumulator>>,
    /// Rows of each group, kept where they may be taken back: a group without rows vanishes.
    counts: Option<Vec<i64>>,
    /// First and last time of each group's rows, kept for sessions.
    extents: Option<Vec<(i64, i64)>>,
    flags: Vec<u8>,
    /// Slots ever used; the columns are longer.
    used: usize,
    /// A group on its way to another slot.
    moving: Vec<u8>,
}

impl Accumulators {
    pub(crate) fn new(list: Vec<Box<dyn Accumulator>>, counts_rows: bool) -> Self {
        Accumulators {
            list,
            counts: counts_rows.then(Vec::new),
            extents: None,
            flags: Vec::new(),
            used: 0,
            moving: Vec::new(),
        }
    }

    /// Keeps extents from now on; before the first group.
    pub(crate) fn keep_extents(&mut self) {
        self.extents = Some(Vec::new());
    }

    /// First and last time of a group.
    pub(crate) fn extent(&self, slot: u32) -> (i64, i64) {
        self.extents
            .as_ref()
            .map_or((0, 0), |extents| extents[slot as usize])
    }

    /// Sets the times.
    pub(crate) fn set_extent(&mut self, slot: u32, extent: (i64, i64)) {
        if let Some(extents) = &mut self.extents {
            extents[slot as usize] = extent;
        }
    }

    /// Adds the rows of group `from` to those of `into`: all but DISTINCT calls.
    pub(crate) fn merge_within(
        &mut self,
        plan: &AggregatePlan,
        into: u32,
        from: u32,
    ) -> Result<(), OperatorError> {
        if let Some(counts) = &mut self.counts {
            counts[into as usize] += counts[from as usize];
        }
        for (accumulator, call) in self.list.iter_mut().zip(&plan.accumulators) {
            if call.distinct.is_none() {
                accumulator.merge_within(into, from)?;
            }
        }
        Ok(())
    }

    /// Counts rows, if they are counted.
    pub(crate) fn count_rows(&mut self, slots: &[u32], adds: Option<&[bool]>) {
        let Some(counts) = &mut self.counts else {
            return;
        };
        match adds {
            None => slots.iter().for_each(|slot| counts[*slot as usize] += 1),
            Some(adds) => {
                for (slot, add) in slots.iter().zip(adds) {
                    counts[*slot as usize] += if *add { 1 } else { -1 };
                }
            }
        }
    }

    /// Takes rows into the accumulators that are not DISTINCT.
    pub(crate) fn update(
        &mut self,
        plan: &AggregatePlan,
        rows: &Rows<'_>,
        batch: &RecordBatch,
        selections: &mut Vec<(usize, Selection)>,
    ) -> Result<(), OperatorError> {
        let is_partial = matches!(plan.rowset, Rowset::Partial { .. });
        let mut args: Vec<ArrayRef> = Vec::new();
        for (accumulator, call) in self.list.iter_mut().zip(&plan.accumulators) {
            if call.distinct.is_some() {
                continue;
            }
            args.clear();
            args.extend(
                call.columns
                    .iter()
                    .map(|column| batch.column(*column).clone()),
            );
            match call.filter {
                _ if is_partial => accumulator.update_partial(rows, &args)?,
                None => accumulator.update(rows, &args)?,
                Some(filter) => {
                    let selection = selected(selections, filter, rows, batch);
                    accumulator.update(&selection.rows(), &args)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the row counts of another's groups.
    pub(crate) fn merge_counts(&mut self, into: &[u32], other: &Accumulators, from: &[u32]) {
        if let (Some(counts), Some(other)) = (&mut self.counts, &other.counts) {
            for (into, from) in into.iter().zip(from) {
                counts[*into as usize] += other[*from as usize];
            }
        }
    }

    /// Rows of the group, if they are counted.
    pub(crate) fn rows(&self, slot: u32) -> i64 {
        self.counts
            .as_ref()
            .map_or(0, |counts| counts[slot as usize])
    }

    /// Whether the group has rows.
    #[inline]
    pub(crate) fn has_rows(&self, slot: u32) -> bool {
        self.counts
            .as_ref()
            .is_none_or(|counts| counts[slot as usize] > 0)
    }

    /// Whether the group was made after the last call of [`Accumulators::mark_old`].
    #[inline]
    pub(crate) fn is_new(&self, slot: u32) -> bool {
        self.flags[slot as usize] & OLD == 0
    }

    /// The group's making has been told.
    #[inline]
    pub(crate) fn mark_old(&mut self, slot: u32) {
        self.flags[slot as usize] |= OLD;
    }

    /// Whether a value of the group that is not in memory may be in the store.
    #[inline]
    pub(crate) fn is_incomplete(&self, slot: u32) -> bool {
        self.flags[slot as usize] & INCOMPLETE != 0
    }
}

impl Values for Accumulators {
    fn reserve(&mut self, slots: usize) {
        self.used = self.used.max(slots);
        if self.flags.len() >= slots {
            return;
        }
        // By more than one, so that the columns are not resized one slot at a time; large ones not by
        // doubling, since all of it is touched.
        let slots = match slots {
            0..65_536 => slots.next_power_of_two().max(64),
            _ => slots + slots / 8,
        };
        self.flags.resize(slots, 0);
        if let Some(counts) = &mut self.counts {
            counts.resize(slots, 0);
        }
        if let Some(extents) = &mut self.extents {
            extents.resize(slots, (0, 0));
        }
        self.list
            .iter_mut()
            .for_each(|accumulator| accumulator.reserve(slots));
    }

    fn reset(&mut self, slot: u32) {
        self.flags[slot as usize] = 0;
        if let Some(counts) = &mut self.counts {
            counts[slot as usize] = 0;
        }
        self.list
            .iter_mut()
            .for_each(|accumulator| accumulator.reset(slot));
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        if let Some(counts) = &self.counts {
            counts[slot as usize].write(out);
        }
        if let Some(extents) = &self.extents {
            let (first, last) = extents[slot as usize];
            first.write(out);
            last.write(out);
        }
        self.list
            .iter()
            .for_each(|accumulator| accumulator.encode(slot, out));
    }

    fn decode(&mut self, slot: u32, mut bytes: &[u8]) -> Result<(), String> {
        self.flags[slot as usize] = OLD | INCOMPLETE;
        if let Some(counts) = &mut self.counts {
            counts[slot as usize] = i64::read(&mut bytes).ok_or("a group has too few bytes")?;
        }
        if let Some(extents) = &mut self.extents {
            let mut time = || i64::read(&mut bytes).ok_or("a session has too few bytes");
            extents[slot as usize] = (time()?, time()?);
        }
        for accumulator in &mut self.list {
            accumulator.decode(slot, &mut bytes)?;
        }
        match bytes {
            [] => Ok(()),
            rest => Err(format!("a group has {} bytes too many", rest.len())),
        }
    }

    fn relocate(&mut self, from: u32, to: u32) {
        let mut moving = std::mem::take(&mut self.moving);
        moving.clear();
        self.encode(from, &mut moving);
        self.reset(to);
        self.decode(to, &moving).expect("what was just encoded");
        self.flags[to as usize] = self.flags[from as usize];
        self.reset(from);
        self.moving = moving;
    }

    fn truncate(&mut self, slots: usize) {
        self.used = slots;
        self.flags.truncate(slots);
        self.flags.shrink_to_fit();
        if let Some(counts) = &mut self.counts {
            counts.truncate(slots);
            counts.shrink_to_fit();
        }
        if let Some(extents) = &mut self.extents {
            extents.truncate(slots);
            extents.shrink_to_fit();
        }
        self.list
            .iter_mut()
            .for_each(|accumulator| accumulator.truncate(slots));
    }

    fn memory(&self) -> usize {
        let accumulators: usize = self
            .list
            .iter()
            .map(|accumulator| accumulator.memory())
            .sum();
        let counts = self
            .counts
            .as_ref()
            .map_or(0, |counts| counts.capacity() * 8);
        let extents = self
            .extents
            .as_ref()
            .map_or(0, |extents| extents.capacity() * 16);
        accumulators + counts + extents + self.flags.len()
    }

    fn free_memory(&self, free_slots: usize) -> usize {
        // Those that were never used are free, too.
        let unused = self.flags.len().saturating_sub(self.used);
        let heaps = self
            .list
            .iter()
            .map(|accumulator| accumulator.heap_memory());
        let (heap, free) = heaps.fold((0, 0), |sum, heap| (sum.0 + heap.0, sum.1 + heap.1));
        let per_slot = (self.memory() - heap) / self.flags.len().max(1);
        (free_slots + unused) * per_slot + free
    }
}
