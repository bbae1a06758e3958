//! OVER in an order that rows do not come in, or over rows that are taken back: all rows of a partition
//! are kept in order, and where some come or go, the results of those that see them change.
//!
//! What changes is found per batch and partition: the rows up to the first change and those that no
//! frame connects with the last one are left alone. Only finding it costs time in proportion to the
//! partition. State: one table of rows, as of a ranking.

use std::{cmp::Ordering, ops::Range};

use arrow::{
    array::{ArrayRef, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
};
use engine::{
    ChangeBatch, Kinds,
    key::KeyBatch,
    operator::{OperatorContext, OperatorError, Step, TaskScope},
    state::{NO_SLOT, StateTtl},
};
use proto::{
    plan::OverOrder,
    types::{Epoch, Field, RowKind, TableId},
};

use super::{
    region::{Listed, Region},
    results::Results,
    shape::{OverShape, fail},
};
use crate::{
    aggregate::unchanged,
    rank::{Prepared, RankShape, Ranking},
    rows::{Identity, RowTable},
};

/// Results of rows that are all kept.
pub(super) struct KeptOver {
    over: OverShape,
    pub(super) shape: RankShape,
    pub(super) ranking: Ranking,
    results: Results,
    append_only: bool,
    emit_update_before: bool,
    /// Per key slot: its place among the touched partitions, or [`UNTOUCHED`].
    places: Vec<u32>,
    /// What is on its way out.
    pub(super) leaving: Option<Leaving>,
}

const UNTOUCHED: u32 = u32::MAX;

/// A partition that a batch changes, and its rows before, as a range of those of all.
struct Touched {
    key_slot: u32,
    before: Range<usize>,
}

/// A row that goes out, and which of the results with it.
#[derive(Clone, Copy)]
struct Change {
    kind: RowKind,
    slot: u32,
    result: u32,
}

/// Changes on their way out.
pub(super) struct Leaving {
    changes: std::vec::IntoIter<Change>,
    /// By call.
    results: Vec<ArrayRef>,
    /// Rows that are gone once all is out, and partitions that may be empty.
    fallen: Vec<u32>,
    partitions: Vec<u32>,
}

/// Rows of a partition before and after a batch, and what of its results may differ.
struct Compared<'a> {
    before: Listed<'a>,
    after: Listed<'a>,
    region: Region,
    /// Numbers of the first results before and after.
    first: [usize; 2],
}

impl KeptOver {
    pub(super) fn new(
        over: OverShape,
        input: &[Field],
        tables: &[TableId],
        (append_only, emit_update_before): (bool, bool),
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<KeptOver, OperatorError> {
        debug_assert_eq!(over.order, OverOrder::Kept);
        let [table] = tables else {
            return fail("rows that are kept have one table");
        };
        let shape = RankShape::whole(&over.partition_by, &over.order_by, input)?;
        let identity = match append_only {
            true => Identity::Append { removable: true },
            false => Identity::Content,
        };
        let rows = RowTable::new(*table, 0, identity, scope);
        let partial = scope.restored != Epoch::ZERO;
        Ok(KeptOver {
            ranking: Ranking::new(&shape, rows, ttl.of_input(0), scope, partial),
            results: Results::new(&over, input)?,
            append_only,
            emit_update_before,
            places: Vec::new(),
            leaving: None,
            shape,
            over,
        })
    }

    /// Takes rows in and back, and finds what changes by them.
    pub(super) fn apply(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
    ) -> Result<Leaving, OperatorError> {
        let (mut touched, mut before) = (Vec::new(), Vec::new());
        let fallen = self.take_in(batch, keys, &mut touched, &mut before)?;
        let mut after = Vec::new();
        let mut ends = Vec::with_capacity(touched.len());
        for touched in &touched {
            self.places[touched.key_slot as usize] = UNTOUCHED;
            let start = after.len();
            self.ranking.top(touched.key_slot, &self.shape, &mut after);
            ends.push(start..after.len());
        }
        let (shape, ranking) = (&self.shape, &self.ranking);
        let before_times = self.results.times(shape, ranking, &before)?;
        let after_times = self.results.times(shape, ranking, &after)?;
        let mut wanted = self.results.want(ranking);
        let mut compared = Vec::new();
        for (touched, range) in touched.iter().zip(ends) {
            let before = listed(ranking, &before, before_times.as_ref(), &touched.before);
            let after = listed(ranking, &after, after_times.as_ref(), &range);
            let reach = self.results.reach();
            if let Some(region) = reach.region(&before, &after) {
                let ends = [region.before_end, region.after_end];
                let first = [&before, &after]
                    .into_iter()
                    .zip(ends)
                    .map(|(list, end)| wanted.add(&self.over, reach, list, (region.start, end)));
                let first: Vec<usize> = first.collect();
                compared.push(Compared {
                    first: [first[0], first[1]],
                    before,
                    after,
                    region,
                });
            }
        }
        let results = self.results.compute(&self.over, shape, wanted)?;
        let changes = self.changes(&compared, &results)?;
        Ok(Leaving {
            changes: changes.into_iter(),
            results,
            fallen,
            partitions: touched.iter().map(|touched| touched.key_slot).collect(),
        })
    }

    /// Changes the partitions. Returns rows that are gone.
    fn take_in(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
        touched: &mut Vec<Touched>,
        before: &mut Vec<u32>,
    ) -> Result<Vec<u32>, OperatorError> {
        let columns = batch.rows.columns();
        let prepared = Prepared::new(&self.shape, columns, batch.num_rows())?;
        let ids = self.ranking.rows.ids(&prepared.bytes, columns)?;
        let mut fallen = Vec::new();
        for row in 0..batch.num_rows() {
            let (hash, bytes) = (keys.hashes[row], prepared.bytes.row(row));
            let order = prepared.orders.row(row);
            if self.append_only {
                let key_slot = self.ranking.key_slot(keys, row);
                self.touch(key_slot, touched, before);
                let beyond = self.ranking.append(key_slot, hash, bytes, order, u64::MAX);
                debug_assert!(beyond.is_none(), "there is no end");
            } else if batch.kind(row).is_add() {
                let key_slot = self.ranking.key_slot(keys, row);
                self.touch(key_slot, touched, before);
                self.ranking.add(key_slot, hash, &ids, row, bytes, order);
            } else {
                let slot = self.ranking.rows.find(hash, &ids, row, bytes);
                if slot != NO_SLOT {
                    let key_slot = self.ranking.index.find_row(&keys.keys, row, hash);
                    self.touch(key_slot, touched, before);
                    fallen.extend(self.ranking.take_back(key_slot, slot));
                }
            }
        }
        Ok(fallen)
    }

    /// Remembers the rows of a partition before its first change.
    fn touch(&mut self, key_slot: u32, touched: &mut Vec<Touched>, before: &mut Vec<u32>) {
        if self.places.len() <= key_slot as usize {
            self.places.resize(key_slot as usize + 1, UNTOUCHED);
        }
        if self.places[key_slot as usize] == UNTOUCHED {
            self.places[key_slot as usize] = touched.len() as u32;
            let start = before.len();
            self.ranking.top(key_slot, &self.shape, before);
            touched.push(Touched {
                key_slot,
                before: start..before.len(),
            });
        }
    }

    /// What goes out: rows that are gone, those whose results differ, and those that have come.
    fn changes(
        &self,
        compared: &[Compared<'_>],
        results: &[ArrayRef],
    ) -> Result<Vec<Change>, OperatorError> {
        let (mut gone, mut stayed, mut came) = (Vec::new(), Vec::new(), Vec::new());
        for compared in compared {
            compared.merge(&self.ranking, &mut gone, &mut stayed, &mut came);
        }
        let old = UInt32Array::from_iter_values(stayed.iter().map(|(_, old, _)| *old));
        let new = UInt32Array::from_iter_values(stayed.iter().map(|(_, _, new)| *new));
        let at = |rows: &UInt32Array| -> Result<Vec<ArrayRef>, OperatorError> {
            let results = results.iter().map(|result| take(result, rows, None));
            Ok(results.collect::<Result<_, _>>()?)
        };
        let same = unchanged(&at(&old)?, &at(&new)?, stayed.len());
        let mut changes = Vec::with_capacity(gone.len() + came.len());
        let change = |kind: RowKind, slot: u32, result: u32| Change { kind, slot, result };
        let ends = |kind: RowKind| move |(slot, result): (u32, u32)| change(kind, slot, result);
        changes.extend(gone.into_iter().map(ends(RowKind::Delete)));
        let differ = stayed.into_iter().zip(same).filter(|(_, same)| !same);
        for ((slot, old, new), _) in differ {
            if self.emit_update_before {
                changes.push(change(RowKind::UpdateBefore, slot, old));
            }
            changes.push(change(RowKind::UpdateAfter, slot, new));
        }
        changes.extend(came.into_iter().map(ends(RowKind::Insert)));
        Ok(changes)
    }

    /// Puts changes out, as many as a batch should have at a time.
    pub(super) fn put_out(
        &mut self,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        while let Some(leaving) = &mut self.leaving {
            if context.out.num_rows() >= context.scope.batch_rows.max(1) {
                return Ok(Step::More);
            }
            let rows = context.scope.batch_rows.max(1);
            let changes: Vec<Change> = leaving.changes.by_ref().take(rows).collect();
            if changes.is_empty() {
                self.settle();
                break;
            }
            let rows = self.ranking.bytes(changes.iter().map(|change| change.slot));
            let columns = self.shape.codec.decode(&rows)?;
            let at = UInt32Array::from_iter_values(changes.iter().map(|change| change.result));
            let results = leaving.results.iter().map(|result| take(result, &at, None));
            let results: Vec<ArrayRef> = results.collect::<Result<_, _>>()?;
            let rows = self.over.output(&columns, results)?;
            let inserts = changes.iter().all(|change| change.kind == RowKind::Insert);
            let kinds = changes.iter().map(|change| change.kind);
            let kinds = (!inserts).then(|| Kinds::from_iter_kinds(kinds));
            context.out.batch(ChangeBatch::changes(rows, kinds));
        }
        Ok(Step::Done)
    }

    /// All is out: what is gone need not be read any more.
    fn settle(&mut self) {
        let Some(leaving) = self.leaving.take() else {
            return;
        };
        for key_slot in leaving.partitions {
            self.ranking.drop_if_empty(key_slot);
        }
        leaving
            .fallen
            .into_iter()
            .for_each(|slot| self.ranking.free(slot));
    }
}

impl Compared<'_> {
    /// Tells rows that went and came from those that stayed, each with the number of its result (that
    /// before, then that after). Both lists are in order.
    fn merge(
        &self,
        ranking: &Ranking,
        gone: &mut Vec<(u32, u32)>,
        stayed: &mut Vec<(u32, u32, u32)>,
        came: &mut Vec<(u32, u32)>,
    ) {
        let start = self.region.start;
        let result = |list: usize, at: usize| (self.first[list] + at - start) as u32;
        let old = &self.before.slots[..self.region.before_end];
        let new = &self.after.slots[..self.region.after_end];
        let (mut i, mut j) = (start, start);
        while i < old.len() || j < new.len() {
            let order = match (old.get(i), new.get(j)) {
                (Some(a), Some(b)) if a == b => Ordering::Equal,
                (Some(a), Some(b)) => ranking.compare(*a, *b),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            match order {
                Ordering::Less => {
                    gone.push((old[i], result(0, i)));
                    i += 1;
                }
                Ordering::Equal => {
                    stayed.push((old[i], result(0, i), result(1, j)));
                    (i, j) = (i + 1, j + 1);
                }
                Ordering::Greater => {
                    came.push((new[j], result(1, j)));
                    j += 1;
                }
            }
        }
    }
}

fn listed<'a>(
    ranking: &'a Ranking,
    slots: &'a [u32],
    times: Option<&'a (ScalarBuffer<i64>, i64)>,
    range: &Range<usize>,
) -> Listed<'a> {
    Listed {
        ranking,
        slots: &slots[range.clone()],
        times: times.map(|(times, per_ms)| (&times[range.clone()], *per_ms)),
    }
}
