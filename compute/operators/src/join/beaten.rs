//! Rows that can be of no best pair of their key any more: where one has been put out that comes before
//! all pairs of a row, the row is not kept, for whatever meets it later is not the best either.
//!
//! A batch is paired before its rows are kept, so that a row which is beaten by another one of its batch
//! is not kept either. What is kept of a key tells what was put out when the key is read again.

use arrow::{
    array::{ArrayRef, UInt32Array},
    compute::take,
};
use engine::{
    ChangeBatch, TIMESTAMP_MIN, Timestamp, key::KeyBatch, operator::OperatorError, state::NO_SLOT,
};

use super::{
    best::Per,
    degree::{chains, each_match},
    probe::{Event, Probe},
    shape::{JoinShape, LEFT, RIGHT},
    state::JoinState,
    updating::JoinOperator,
};
use crate::{EvalContext, rows::OrderKeys};

/// What was put out for a key is told from what is kept, if a condition has to be looked at for no more
/// pairs than this.
const RECALLED_PAIRS_MAX: usize = 1 << 16;

/// Rows of a batch that are kept when they have been paired, if no pair comes before theirs by then.
#[derive(Debug)]
pub(super) struct Candidates {
    side: usize,
    columns: Vec<ArrayRef>,
    keys: KeyBatch,
    /// When rows of the batch go; `None`: they stay.
    until: Option<Vec<Timestamp>>,
    /// Rows of the batch, and the slots of their keys, [`NO_SLOT`] where there was none.
    rows: Vec<(u32, u32)>,
}

impl JoinOperator {
    /// Whether rows of a side are not kept once they are beaten.
    pub(super) fn drops_beaten(&self, side: usize) -> bool {
        let best = self.shape.best.as_ref();
        best.is_some_and(|best| best.per == Per::Key && best.ordered == side)
    }

    /// Begins to pair the rows of a batch that are not beaten yet.
    pub(super) fn offer(
        &mut self,
        side: usize,
        batch: &ChangeBatch,
        keys: KeyBatch,
    ) -> Result<(), OperatorError> {
        let columns = batch.rows.columns().to_vec();
        let null_keys = self.shape.null_keys(side, &columns);
        let until = self.until_of(side, batch)?;
        let Some(wanted) = &self.shape.best else {
            return Ok(());
        };
        let orders = wanted.order.keys(&columns)?;
        let (mut events, mut rows, mut found) = (Vec::new(), Vec::new(), Vec::new());
        self.state.index.find(&keys, &mut found);
        for row in 0..batch.num_rows() {
            let until = until.as_ref().map(|until| until[row]);
            let is_null = null_keys.as_ref().is_some_and(|nulls| nulls.value(row));
            if is_null || until == Some(TIMESTAMP_MIN) {
                continue;
            }
            let key_slot = found[row];
            if key_slot != NO_SLOT {
                self.state.index.touch(key_slot);
                let best = self.state.best.as_ref();
                let order = best.and_then(|best| best.order(key_slot));
                if order.is_some_and(|order| order <= orders.row(row)) {
                    continue;
                }
                events.push(Event {
                    row: row as u32,
                    key_slot,
                    own_slot: NO_SLOT,
                    is_add: true,
                    is_distinct: true,
                });
            }
            if until.is_none_or(|until| !self.is_over(side, until, (&keys, row))) {
                rows.push((row as u32, key_slot));
            }
        }
        self.probe = Some(Probe::new(side, columns.clone(), events, true).ordered(orders));
        self.candidates = Some(Candidates {
            side,
            columns,
            keys,
            until,
            rows,
        });
        Ok(())
    }

    /// Keeps the rows of a batch that are not beaten when all have been paired.
    pub(super) fn keep_unbeaten(&mut self, orders: Option<OrderKeys>) -> Result<(), OperatorError> {
        let (Some(mut candidates), Some(orders)) = (self.candidates.take(), orders) else {
            return Ok(());
        };
        let best = self.state.best.as_ref();
        candidates.rows.retain(|(row, key_slot)| {
            let known = best.filter(|_| *key_slot != NO_SLOT);
            let order = known.and_then(|best| best.order(*key_slot));
            order.is_none_or(|order| orders.row(*row as usize) <= order)
        });
        let Candidates {
            side,
            columns,
            keys,
            until,
            rows,
        } = candidates;
        let places: UInt32Array = rows.iter().map(|(row, _)| *row).collect::<Vec<_>>().into();
        let columns = columns.iter().map(|column| take(column, &places, None));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
        let bytes = self.shape.codecs[side].encode(&columns, rows.len())?;
        for (at, (row, _)) in rows.into_iter().enumerate() {
            let row = row as usize;
            if let Some(until) = &until {
                self.state.sides[side].rows.set_now(until[row]);
            }
            let key_slot = self.state.key_slot(&keys, row);
            let hash = keys.hashes[row];
            self.state.append(side, key_slot, hash, bytes.row(at));
        }
        Ok(())
    }
}

/// What was put out for a key that has been read: the best of the pairs of its rows, each of which was put
/// out when the second of the two came, or had been beaten.
pub(super) fn recall(
    shape: &JoinShape,
    state: &mut JoinState,
    key_slot: u32,
    eval: &EvalContext,
) -> Result<(), OperatorError> {
    let wanted = shape.best.as_ref();
    let Some(wanted) = wanted.filter(|best| best.per == Per::Key && key_slot != NO_SLOT) else {
        return Ok(());
    };
    let chains = chains(state, key_slot);
    // What is forgotten costs a pair more, and a key of very many rows would hold up all others.
    let pairs = chains[LEFT].len().saturating_mul(chains[RIGHT].len());
    if pairs == 0 || (shape.condition.is_some() && pairs > RECALLED_PAIRS_MAX) {
        return Ok(());
    }
    let ordered = &chains[wanted.ordered];
    let rows = ordered.iter().map(|slot| state.row(wanted.ordered, *slot));
    let rows: Vec<&[u8]> = rows.collect();
    let orders = wanted.order.keys_of(&shape.codecs[wanted.ordered], &rows)?;
    let mut first: Option<&[u8]> = None;
    let mut offer = |row: usize| {
        let order = orders.row(row);
        first = Some(first.map_or(order, |first| first.min(order)));
    };
    if shape.condition.is_none() {
        (0..ordered.len()).for_each(offer);
    } else {
        each_match(shape, state, &chains, eval, |pair| {
            offer(pair[wanted.ordered]);
        })?;
    }
    if let (Some(best), Some(order)) = (&mut state.best, first) {
        best.improve(key_slot, order);
    }
    Ok(())
}
