//! Rows that come and go one after the other, with results wanted in between: what OVER asks of
//! accumulators. One call has all rows of a batch, so that nothing is called once per row.

use arrow::buffer::NullBuffer;

use super::rows::{Rows, Selection};

/// Rows that come or go, in order, and where among them results are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps<'a> {
    /// What comes and goes.
    pub(crate) rows: Rows<'a>,
    /// Slot of each result.
    pub(crate) results: &'a [u32],
    /// By result, how many of the rows are before it.
    pub(crate) ends: &'a [u32],
}

impl Steps<'_> {
    /// Calls `change(state, slot, row, comes)` for each row that is not NULL and, at its place,
    /// `tell(state, slot)` for each result.
    #[inline(always)]
    pub(crate) fn run<S>(
        &self,
        nulls: Option<&NullBuffer>,
        state: &mut S,
        mut change: impl FnMut(&mut S, usize, usize, bool),
        mut tell: impl FnMut(&mut S, usize),
    ) {
        let rows = &self.rows;
        let mut next = 0;
        let mut advance = |state: &mut S, end: usize| {
            while next < end {
                let row = rows.indices.map_or(next, |indices| indices[next] as usize);
                if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                    let comes = rows.adds.is_none_or(|adds| adds[next]);
                    change(state, rows.slots[next] as usize, row, comes);
                }
                next += 1;
            }
        };
        for (slot, end) in self.results.iter().zip(self.ends) {
            advance(state, *end as usize);
            tell(state, *slot as usize);
        }
        advance(state, rows.slots.len());
    }
}

/// Steps that are put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepList {
    slots: Vec<u32>,
    rows: Vec<u32>,
    comes: Vec<bool>,
    results: Vec<u32>,
    ends: Vec<u32>,
}

impl StepList {
    /// A row comes to a slot, or goes.
    #[inline]
    pub(crate) fn change(&mut self, slot: u32, row: u32, comes: bool) {
        self.slots.push(slot);
        self.rows.push(row);
        self.comes.push(comes);
    }

    /// A slot's result is wanted.
    #[inline]
    pub(crate) fn result(&mut self, slot: u32) {
        self.results.push(slot);
        self.ends.push(self.slots.len() as u32);
    }

    /// As accumulators take them.
    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps {
            rows: self.rows(),
            results: &self.results,
            ends: &self.ends,
        }
    }

    /// What comes and goes.
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows {
            slots: &self.slots,
            indices: Some(&self.rows),
            adds: Some(&self.comes),
        }
    }

    /// With only the rows for which `counts(row)` holds.
    pub(crate) fn counted(&self, counts: impl Fn(usize) -> bool) -> StepList {
        self.filtered(|at| counts(self.rows[at] as usize))
    }

    /// With only those changes that a selection of them has, in the same order.
    pub(crate) fn selected(&self, selection: &Selection) -> StepList {
        let mut next = 0;
        self.filtered(|at| {
            let is_next = selection.is_at(next, self.slots[at], self.rows[at], self.comes[at]);
            next += usize::from(is_next);
            is_next
        })
    }

    fn filtered(&self, mut stays: impl FnMut(usize) -> bool) -> StepList {
        let mut list = StepList::default();
        let mut next = 0;
        let mut advance = |list: &mut StepList, end: usize| {
            for at in next..end {
                if stays(at) {
                    list.change(self.slots[at], self.rows[at], self.comes[at]);
                }
            }
            next = end;
        };
        for (slot, end) in self.results.iter().zip(&self.ends) {
            advance(&mut list, *end as usize);
            list.result(*slot);
        }
        advance(&mut list, self.slots.len());
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a slot that are there at each result.
    fn told(list: &StepList, nulls: Option<&NullBuffer>) -> Vec<Vec<usize>> {
        let mut state: (Vec<usize>, Vec<Vec<usize>>) = Default::default();
        list.steps().run(
            nulls,
            &mut state,
            |(there, _), _, row, comes| match comes {
                true => there.push(row),
                false => there.retain(|other| *other != row),
            },
            |(there, told), _| told.push(there.clone()),
        );
        assert!(
            state.0.is_empty(),
            "what comes after the last result counts"
        );
        state.1
    }

    #[test]
    fn results_are_told_at_their_place() {
        let mut list = StepList::default();
        list.result(0);
        list.change(0, 3, true);
        list.change(0, 1, true);
        list.result(0);
        list.result(0);
        list.change(0, 3, false);
        list.change(0, 2, true);
        list.result(0);
        list.change(0, 1, false);
        list.change(0, 2, false);
        let (one, other) = (vec![3, 1], vec![1, 2]);
        let all = vec![vec![], one.clone(), one, other];
        assert_eq!(told(&list, None), all);
        let nulls = NullBuffer::from(vec![true, false, true, true]);
        let valid = vec![vec![], vec![3], vec![3], vec![2]];
        assert_eq!(told(&list, Some(&nulls)), valid);
        assert_eq!(told(&list.counted(|row| row != 1), None), valid);
        let mut selection = Selection::default();
        selection.clear(true);
        for (row, comes) in [(3, true), (3, false), (2, true), (2, false)] {
            selection.push(0, row, comes);
        }
        assert_eq!(told(&list.selected(&selection), None), valid);
    }
}
