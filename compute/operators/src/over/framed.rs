//! OVER frames that have a start, and LAG, over rows that come in their order: what is kept is the
//! rows that later ones look back at, and every result is final.
//!
//! The values of a frame run along with it in memory ([`FrameCalls`]); they follow from the rows, and
//! are made anew with those when a partition is read.

use std::collections::VecDeque;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    buffer::ScalarBuffer,
    compute::take,
};
use engine::{
    ChangeBatch, Timestamp,
    key::{KeyBatch, KeyEncoder},
    operator::{OperatorContext, OperatorError, TaskScope},
    schema::arrow_type,
    state::{StateTtl, TimeDomain, Ttl},
};
use proto::{
    plan::OverOrder,
    types::{Field, TableId},
};

use super::{
    calls::FrameCalls,
    frame::Frame,
    grouped::Grouped,
    history::History,
    look_back::{LookBack, Looked},
    shape::{Output, OverShape, fail},
    values::ValueColumns,
};
use crate::{aggregate::StepList, rows::milliseconds};

/// Results of frames that move along with their rows.
pub(super) struct FramedOver {
    pub(super) shape: OverShape,
    pub(super) calls: FrameCalls,
    pub(super) history: History,
    /// What calls read of a row.
    values: ValueColumns,
    /// Event time, where frames are a range of it.
    time_column: Option<usize>,
    grouped: Grouped,
    /// What went wrong where nobody could be told.
    pub(super) damage: Option<OperatorError>,
}

impl FramedOver {
    pub(super) fn new(
        shape: OverShape,
        input: &[Field],
        tables: &[TableId],
        ttl: &StateTtl,
        scope: &TaskScope,
    ) -> Result<FramedOver, OperatorError> {
        let [table] = tables else {
            return fail("frames of rows have one table");
        };
        let is_number = |output: &Output| matches!(output, Output::Number(_));
        if shape.outputs.iter().any(is_number) {
            return fail("rows are numbered from the first one on");
        }
        let by_range = matches!(shape.frame, Frame::Range(_));
        if by_range && !shape.lags.is_empty() {
            return fail("LAG needs rows, whatever time has passed");
        }
        let values = ValueColumns::new(&shape, input)?;
        let columns = kept_columns(&shape, &values);
        let types = shape.keys.columns().iter();
        let types = types.map(|at| arrow_type(&input[*at].data_type.logical));
        let keys = KeyEncoder::new((0..types.len()).collect(), types.collect())?;
        let lifetime = lifetime(&shape, ttl);
        let time_column = match (by_range, shape.order) {
            (true, OverOrder::InOrder) => shape.order_by.first().map(|key| key.column as usize),
            _ => None,
        };
        Ok(FramedOver {
            calls: FrameCalls::new(&values.aggregates, &values.fields, shape.frame)?,
            history: History::new(*table, (keys, columns), input, lifetime, scope)?,
            values,
            time_column,
            grouped: Grouped::default(),
            damage: None,
            shape,
        })
    }

    /// The results of a batch, whose rows come into their partitions.
    pub(super) fn apply(
        &mut self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
        context: &OperatorContext<'_>,
    ) -> Result<RecordBatch, OperatorError> {
        let rows = batch.num_rows();
        let slots = (0..rows).map(|row| self.history.key_slot(keys, row));
        let slots: Vec<u32> = slots.collect();
        self.grouped.group(&slots, self.history.index.slots());
        self.calls.reserve(self.history.index.slots());
        let times = self.times(&batch.rows, context)?;
        let peers = match self.shape.frame.has_peers() {
            true => self.shape.peer_keys(&batch.rows)?,
            false => None,
        };
        let mut looked = Looked::new(rows, self.shape.lags.len(), self.calls.wants_frames());
        let mut kept = Vec::new();
        for (key_slot, rows) in self.grouped.iter() {
            let look = LookBack {
                frame: self.shape.frame,
                lags: &self.shape.lags,
                kept: self.history.partition(key_slot),
                table: &self.history.rows,
                rows,
                times: times.as_deref(),
                peers: peers.as_ref(),
            };
            let start = look.go(key_slot, &mut looked);
            kept.push((key_slot, start));
        }
        let results = self.results(&batch.rows, &looked)?;
        self.keep(&batch.rows, &kept, times.as_deref())?;
        self.shape.output(batch.rows.columns(), results)
    }

    fn times(
        &self,
        rows: &RecordBatch,
        context: &OperatorContext<'_>,
    ) -> Result<Option<ScalarBuffer<i64>>, OperatorError> {
        if !matches!(self.shape.frame, Frame::Range(_)) {
            return Ok(None);
        }
        Ok(Some(match self.time_column {
            Some(column) => milliseconds(rows.column(column))?,
            None => vec![context.clock.wall_ms(); rows.num_rows()].into(),
        }))
    }

    fn results(
        &mut self,
        batch: &RecordBatch,
        looked: &Looked,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let old = self.history.decode(&looked.old)?;
        let columns = self.values.with_old(batch, &old, looked.old.len())?;
        let told = match self.values.aggregates.is_empty() {
            true => Vec::new(),
            false => {
                let index = &self.history.index;
                self.calls
                    .run(&looked.steps, &looked.frames, &columns, index)?
            }
        };
        let places = self.grouped.places();
        let result = |output: &Output| match output {
            Output::Aggregate(call) => match &places {
                Some(places) => Ok(take(&told[*call], places, None)?),
                None => Ok(told[*call].clone()),
            },
            Output::Lag(lag) => {
                let default = self.shape.lags[*lag].default.map(|at| batch.column(at));
                self.values.lag(*lag, &looked.lags[*lag], &columns, default)
            }
            Output::Number(_) => fail("rows are numbered from the first one on"),
        };
        self.shape.outputs.iter().map(result).collect()
    }

    /// Keeps the rows of a batch that later ones look back at, and lets go of those that none does any
    /// more: by partition, all before the given place.
    fn keep(
        &mut self,
        batch: &RecordBatch,
        starts: &[(u32, usize)],
        times: Option<&[Timestamp]>,
    ) -> Result<(), OperatorError> {
        let mut rows = Vec::new();
        for ((key_slot, start), (_, came)) in starts.iter().zip(self.grouped.iter()) {
            let known = self.history.partition(*key_slot).len();
            let skipped = start.saturating_sub(known).min(came.len());
            rows.extend(came[skipped..].iter().map(|row| (*key_slot, *row)));
            self.history.drop_oldest(*key_slot, known.min(*start));
        }
        let taken = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        let bytes = self.history.encode_rows(batch, &taken)?;
        for (at, (key_slot, row)) in rows.into_iter().enumerate() {
            let time = times.map(|times| times[row as usize]);
            self.history.append(key_slot, bytes.row(at), time);
        }
        for (key_slot, _) in starts {
            self.history.drop_if_empty(*key_slot);
        }
        Ok(())
    }

    /// Where the frame begins that the values of a partition have.
    fn frame_of<'a>(&self, partition: &'a VecDeque<u32>) -> impl Iterator<Item = &'a u32> {
        let rows = match self.shape.frame {
            Frame::Rows(rows) => usize::try_from(rows).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        partition.range(partition.len().saturating_sub(rows)..)
    }

    /// The rows of partitions come into their frames, or go.
    pub(super) fn refill(&mut self, partitions: &[u32], comes: bool) -> Result<(), OperatorError> {
        if self.values.aggregates.is_empty() {
            return Ok(());
        }
        self.calls.reserve(self.history.index.slots());
        let mut steps = StepList::default();
        let mut rows = Vec::new();
        for key_slot in partitions {
            for slot in self.frame_of(self.history.partition(*key_slot)) {
                steps.change(*key_slot, rows.len() as u32, comes);
                rows.push(*slot);
            }
        }
        let columns = self.history.decode(&rows)?;
        let columns = self.values.batch(columns, rows.len())?;
        let (frames, index) = (Default::default(), &self.history.index);
        self.calls.run(&steps, &frames, &columns, index)?;
        Ok(())
    }

    /// Forgets the values of partitions that are about to go.
    pub(super) fn release(&mut self, partitions: &[u32]) -> Result<(), OperatorError> {
        if self.calls.has_distinct() && !partitions.is_empty() {
            self.refill(partitions, false)?;
        }
        self.calls.reserve(self.history.index.slots());
        partitions.iter().for_each(|slot| self.calls.reset(*slot));
        Ok(())
    }
}

/// Columns of the input that a kept row has: those of its partition, and those that calls read.
pub(super) fn kept_columns(shape: &OverShape, values: &ValueColumns) -> Vec<usize> {
    [shape.keys.columns(), &values.columns].concat()
}

/// How long a partition is looked back at, if not for ever.
pub(super) fn lifetime(shape: &OverShape, ttl: &StateTtl) -> Option<Ttl> {
    match (shape.frame, shape.order) {
        // A row sees those of the least time that is no further away; those of a clock may stand.
        (Frame::Range(reach), OverOrder::ByArrival) => {
            let reach = reach.unsigned_abs().saturating_add(1);
            Ttl::new(reach, TimeDomain::Processing)
        }
        (Frame::Range(reach), _) => Ttl::new(reach.unsigned_abs(), TimeDomain::Event),
        _ => ttl.of_input(0),
    }
}
