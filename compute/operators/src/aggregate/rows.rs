//! Which rows of a batch go to which slots, as vectorised accumulators see them.

use arrow::{
    array::{Array, AsArray as _, BooleanArray, RecordBatch},
    buffer::NullBuffer,
};

/// Rows to accumulate: the row at `indices[i]` (or `i`) belongs to `slots[i]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// Slot of each row.
    pub(crate) slots: &'a [u32],
    /// Row of the columns; `None`: the i-th.
    pub(crate) indices: Option<&'a [u32]>,
    /// Whether the row adds rather than takes back; `None`: all add.
    pub(crate) adds: Option<&'a [bool]>,
}

impl<'a> Rows<'a> {
    /// All rows of a batch, all adding.
    pub(crate) fn all(slots: &'a [u32]) -> Self {
        Rows {
            slots,
            indices: None,
            adds: None,
        }
    }

    /// Calls `act(slot, row, adds)` for each row.
    #[inline(always)]
    pub(crate) fn for_each(&self, mut act: impl FnMut(usize, usize, bool)) {
        match (self.indices, self.adds) {
            (None, None) => {
                for (row, slot) in self.slots.iter().enumerate() {
                    act(*slot as usize, row, true);
                }
            }
            (Some(indices), None) => {
                for (slot, row) in self.slots.iter().zip(indices) {
                    act(*slot as usize, *row as usize, true);
                }
            }
            (None, Some(adds)) => {
                for (row, (slot, add)) in self.slots.iter().zip(adds).enumerate() {
                    act(*slot as usize, row, *add);
                }
            }
            (Some(indices), Some(adds)) => {
                for ((slot, row), add) in self.slots.iter().zip(indices).zip(adds) {
                    act(*slot as usize, *row as usize, *add);
                }
            }
        }
    }

    /// As [`Rows::for_each`], without the rows that are NULL.
    #[inline(always)]
    pub(crate) fn for_each_valid(
        &self,
        nulls: Option<&NullBuffer>,
        mut act: impl FnMut(usize, usize, bool),
    ) {
        match nulls {
            None => self.for_each(act),
            Some(nulls) => self.for_each(|slot, row, add| {
                if nulls.is_valid(row) {
                    act(slot, row, add);
                }
            }),
        }
    }
}

/// Rows that pass a FILTER.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    slots: Vec<u32>,
    indices: Vec<u32>,
    adds: Vec<bool>,
    retracts: bool,
}

impl Selection {
    /// Forgets all rows; `retracts`: rows may take back.
    pub(crate) fn clear(&mut self, retracts: bool) {
        self.slots.clear();
        self.indices.clear();
        self.adds.clear();
        self.retracts = retracts;
    }

    /// Adds a row.
    #[inline]
    pub(crate) fn push(&mut self, slot: u32, row: u32, add: bool) {
        self.slots.push(slot);
        self.indices.push(row);
        if self.retracts {
            self.adds.push(add);
        }
    }

    /// Whether the entry at a place is this one.
    #[inline]
    pub(crate) fn is_at(&self, at: usize, slot: u32, row: u32, add: bool) -> bool {
        self.indices.get(at) == Some(&row)
            && self.slots[at] == slot
            && self.adds.get(at).copied().unwrap_or(true) == add
    }

    /// The rows of `rows` where `filter` is TRUE.
    pub(crate) fn filtered(rows: &Rows<'_>, filter: &BooleanArray) -> Self {
        let mut selection = Selection::default();
        selection.clear(rows.adds.is_some());
        let values = filter.values();
        rows.for_each_valid(filter.nulls(), |slot, row, add| {
            if values.value(row) {
                selection.push(slot as u32, row as u32, add);
            }
        });
        selection
    }

    /// As rows.
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows {
            slots: &self.slots,
            indices: Some(&self.indices),
            adds: self.retracts.then_some(&self.adds),
        }
    }
}

/// The rows that pass a FILTER column, found once per batch.
pub(crate) fn selected<'a>(
    selections: &'a mut Vec<(usize, Selection)>,
    filter: usize,
    rows: &Rows<'_>,
    batch: &RecordBatch,
) -> &'a Selection {
    let found = selections.iter().position(|(column, _)| *column == filter);
    let position = found.unwrap_or_else(|| {
        let selection = Selection::filtered(rows, batch.column(filter).as_boolean());
        selections.push((filter, selection));
        selections.len() - 1
    });
    &selections[position].1
}
