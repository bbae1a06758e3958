//! The beginning of a stream: splits are read in turn, their computed columns added, and time is
//! marked split by split.
//!
//! What splits there are is settled at the job's first start: its state keeps them from the first
//! checkpoint on, and a restart reads those, whatever has come or gone since.

mod offsets;
mod split;
mod watermark;

#[cfg(test)]
mod source_test;

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    operator::{
        OperatorContext, OperatorError, OperatorState, Reassigned, SourceOperator, SourceStatus,
        StateSize, TaskScope,
    },
    source::{ReadOrder, Source, Split, SplitEvent},
    state::{FrozenRows, ScanJob, StateDelta, TableDelta},
};
use proto::{
    plan::{self, PlanError},
    types::{Epoch, Field, KeyGroup, TableId},
};
use state_client::ScanReply;

use crate::{EvalContext, calc::Projector};
use offsets::SavedSplit;
use split::SplitState;
use watermark::WatermarkExpr;

/// Reads the splits of one task.
pub struct SplitSource {
    /// The table's name, for errors.
    name: Arc<str>,
    source: Arc<dyn Source>,
    table: TableId,
    calc: Option<Projector>,
    watermark: Option<WatermarkExpr>,
    order: ReadOrder,
    /// Of this task, the first to be read first.
    splits: Vec<SplitState>,
    /// Places of those that are being read; the first has the next turn.
    reading: VecDeque<u32>,
    /// Splits that are not begun.
    unbegun: usize,
    /// How many of them there were when their rows were counted last, and those rows: there may be many,
    /// of which nothing changes from one batch to the next.
    unbegun_lag: Option<(usize, u64)>,
    /// Others have had splits that are this task's now, and which they are is being read.
    awaits_splits: bool,
    scope: TaskScope,
    emitted_watermark: Timestamp,
    is_idle: bool,
    /// A split has fallen idle since time was last marked.
    found_idle: bool,
    frozen: FrozenRows,
    /// Rows that readers gave, and those of them that the source put out.
    read: u64,
    kept: u64,
}

impl SplitSource {
    /// A source of a plan's node. `splits` are all of the table's, in one order for all tasks;
    /// the task takes its share. Of a job that is restored, its state knows them.
    ///
    /// # Errors
    /// When an expression cannot be compiled.
    pub fn build(
        spec: &plan::Source,
        output: &[Field],
        source: Arc<dyn Source>,
        splits: &[Split],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn SourceOperator>, OperatorError> {
        let source = SplitSource::new(spec, output, source, splits, tables, scope)?;
        Ok(Box::new(source))
    }

    fn new(
        spec: &plan::Source,
        output: &[Field],
        source: Arc<dyn Source>,
        splits: &[Split],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<SplitSource, OperatorError> {
        let plan_error = |error: PlanError| OperatorError::Plan(error.to_string());
        let compile_error = |error: crate::ExprError| OperatorError::Plan(error.to_string());
        let produced = spec
            .produced
            .as_ref()
            .ok_or(PlanError::Missing("source.produced"));
        let produced = produced.and_then(plan::fields).map_err(plan_error)?;
        let calc = match &spec.calc {
            Some(calc) => Some(Projector::compile(calc, &produced, output).map_err(compile_error)?),
            None => None,
        };
        let watermark = match &spec.watermark {
            Some(watermark) => Some(WatermarkExpr::compile(watermark, output)?),
            None => None,
        };
        let table = tables.first().copied();
        let table = table.ok_or_else(|| OperatorError::Plan("a source has a table".to_owned()))?;
        let order = source.read_order();
        let mut mine = Vec::new();
        for (place, split) in (0..).zip(splits) {
            if is_mine(order, place, scope) {
                mine.push(SplitState::new(split.clone(), place));
            }
        }
        Ok(SplitSource {
            name: spec.table.as_str().into(),
            source,
            table,
            calc,
            watermark,
            order,
            unbegun: mine.len(),
            unbegun_lag: None,
            splits: mine,
            reading: VecDeque::new(),
            awaits_splits: false,
            scope: scope.clone(),
            emitted_watermark: TIMESTAMP_MIN,
            is_idle: false,
            found_idle: false,
            frozen: FrozenRows::default(),
            read: 0,
            kept: 0,
        })
    }

    /// Begins splits as far as the order allows.
    fn begin_splits(&mut self) {
        let most = match self.order {
            ReadOrder::Together => usize::MAX,
            ReadOrder::InTurns(most) => most.max(1),
            ReadOrder::OneByOne => 1,
        };
        while self.unbegun > 0 && self.reading.len() < most {
            let Some(split) = self.splits.iter_mut().find(|split| !split.begun) else {
                break;
            };
            split.begun = true;
            self.unbegun -= 1;
            if !split.is_finished() {
                self.reading.push_back(split.place);
            }
        }
    }

    /// The split at a place, which is this task's.
    fn index_of(&self, place: u32) -> usize {
        let before = |split: &SplitState| split.place < place;
        self.splits.partition_point(before)
    }

    /// Reads the split whose turn it is; `Pending` if none of them has anything.
    fn poll_splits(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<(usize, SplitEvent), OperatorError>> {
        for _ in 0..self.reading.len() {
            let Some(place) = self.reading.pop_front() else {
                break;
            };
            self.reading.push_back(place);
            let index = self.index_of(place);
            let reader = match self.splits[index].open(&*self.source) {
                Ok(reader) => reader,
                Err(source) => {
                    let table = self.name.to_string();
                    return Poll::Ready(Err(OperatorError::Source { table, source }));
                }
            };
            let polled = reader.poll_next(cx, context.scope.batch_rows);
            context.dead_letters.append(&mut reader.take_dead_letters());
            let Poll::Ready(event) = polled else {
                self.note_silence(index, context);
                continue;
            };
            let table = &self.name;
            let failed = |source| OperatorError::Source {
                table: table.to_string(),
                source,
            };
            return Poll::Ready(event.map(|event| (index, event)).map_err(failed));
        }
        Poll::Pending
    }

    /// Reads until there is something to put out.
    fn poll_rows(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<SourceStatus, OperatorError>> {
        self.begin_splits();
        loop {
            if self.reading.is_empty() {
                // Once they are known the task asks again.
                return match self.awaits_splits {
                    true => Poll::Pending,
                    false => Poll::Ready(Ok(SourceStatus::Finished)),
                };
            }
            match self.poll_splits(cx, context) {
                Poll::Ready(Ok((index, SplitEvent::Batch(batch)))) => {
                    self.take(index, batch, context)?;
                }
                Poll::Ready(Ok((index, SplitEvent::Finished))) => {
                    self.finish(index);
                    if self.reading.is_empty() {
                        continue;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if std::mem::take(&mut self.found_idle) => {}
                Poll::Pending => return Poll::Pending,
            }
            self.mark_time(context);
            if !context.out.is_empty() {
                return Poll::Ready(Ok(SourceStatus::Emitted));
            }
        }
    }

    fn finish(&mut self, index: usize) {
        self.splits[index].finish();
        let place = self.splits[index].place;
        self.reading.retain(|reading| *reading != place);
        self.begin_splits();
    }

    fn take(
        &mut self,
        index: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let now_ms = context.clock.wall_ms();
        self.read += batch.num_rows() as u64;
        let split = &mut self.splits[index];
        split.changed = true;
        split.silent_since_ns = None;
        split.idle = false;
        let eval = EvalContext {
            now_ms,
            watermark: Some(self.emitted_watermark),
        };
        let batch = match &self.calc {
            None => Some(batch),
            Some(calc) => calc
                .evaluate(&batch, &eval)
                .map_err(|error| OperatorError::Evaluate(error.to_string()))?,
        };
        let Some(batch) = batch else { return Ok(()) };
        self.kept += batch.num_rows() as u64;
        if let Some(watermark) = &self.watermark
            && let Some(newest) = watermark.newest(&batch, &eval)?
        {
            split.watermark = split.watermark.max(newest);
        }
        self.is_idle = false;
        context.out.batch(batch);
        Ok(())
    }

    /// Emits the least watermark of the splits that are neither idle nor finished. One that is not
    /// begun holds it back: its rows may be of any time.
    fn mark_time(&mut self, context: &mut OperatorContext<'_>) {
        if self.watermark.is_none() || self.unbegun > 0 || self.awaits_splits {
            return;
        }
        let reading = self.reading.iter();
        let reading = reading.map(|place| &self.splits[self.index_of(*place)]);
        let active = reading.filter(|split| !split.idle);
        match active.map(|split| split.watermark).min() {
            Some(least) if least > self.emitted_watermark => {
                self.emitted_watermark = least;
                context.out.element(Element::Watermark(least));
            }
            Some(_) => {}
            None if !self.is_idle => {
                self.is_idle = true;
                context.out.element(Element::Idle);
            }
            None => {}
        }
    }

    /// Rows of splits as far as they are begun, or are not.
    fn lag_rows(&self, begun: bool) -> Option<u64> {
        let splits = self.splits.iter().filter(|split| split.begun == begun);
        splits.map(|split| split.lag_rows(&*self.source)).sum()
    }

    fn unbegun_lag_rows(&mut self) -> Option<u64> {
        if self.unbegun == 0 {
            return Some(0);
        }
        match self.unbegun_lag {
            Some((of, rows)) if of == self.unbegun => Some(rows),
            _ => {
                let rows = self.lag_rows(false);
                self.unbegun_lag = rows.map(|rows| (self.unbegun, rows));
                rows
            }
        }
    }

    /// Rows that could be put out by now, counted as what was read is put out on average.
    fn backlog_rows(&mut self) -> Option<u64> {
        if self.awaits_splits {
            return None;
        }
        let waiting = self
            .lag_rows(true)?
            .saturating_add(self.unbegun_lag_rows()?);
        let kept = u128::from(waiting) * u128::from(self.kept);
        let kept = kept.checked_div(u128::from(self.read));
        // Before the first row all of them may be put out.
        Some(kept.map_or(waiting, |rows| u64::try_from(rows).unwrap_or(u64::MAX)))
    }

    /// A split had nothing when it was asked. For too long: it is idle. Silence is counted between
    /// two times at which it was asked in vain, so that a source that was held back (by a slow
    /// sink, say) does not take what it has not read for idle.
    fn note_silence(&mut self, index: usize, context: &OperatorContext<'_>) {
        let Some(timeout_ns) = self.idle_timeout_ns() else {
            return;
        };
        let now = context.clock.monotonic_ns();
        let split = &mut self.splits[index];
        let since = *split.silent_since_ns.get_or_insert(now);
        if !split.idle && now.saturating_sub(since) >= timeout_ns {
            split.idle = true;
            self.found_idle = true;
        }
    }

    fn idle_timeout_ns(&self) -> Option<u64> {
        self.watermark.as_ref()?.idle_timeout_ns()
    }
}

/// Whether the task reads this split.
fn is_mine(order: ReadOrder, place: u32, scope: &TaskScope) -> bool {
    let task = match order {
        ReadOrder::Together | ReadOrder::InTurns(_) => place as usize % scope.parallelism,
        ReadOrder::OneByOne => 0,
    };
    task == scope.index
}

impl SourceOperator for SplitSource {
    fn poll_emit(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<SourceStatus, OperatorError>> {
        let polled = self.poll_rows(cx, context);
        context.counters.backlog_rows = self.backlog_rows();
        polled
    }

    fn deadline_ns(&self) -> Option<u64> {
        let timeout_ns = self.idle_timeout_ns()?;
        let reading = self.reading.iter();
        let reading = reading.map(|place| &self.splits[self.index_of(*place)]);
        let awake = reading.filter(|split| !split.idle);
        let since = awake.filter_map(|split| split.silent_since_ns).min()?;
        Some(since.saturating_add(timeout_ns))
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }
}

impl OperatorState for SplitSource {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        vec![ScanJob::new(self.table, KeyGroup(0))]
    }

    fn hydrated(&mut self, _job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        for row in &reply.rows {
            let saved = SavedSplit::decode(&row.value);
            let id = String::from_utf8(row.identity.to_vec()).ok();
            let (Some(saved), Some(id)) = (saved, id) else {
                return Err(OperatorError::Decode {
                    table: self.table.to_string(),
                    cause: "a split is cut short".to_owned(),
                });
            };
            let at = self.index_of(saved.place);
            let is_here = |split: &SplitState| split.place == saved.place;
            if is_mine(self.order, saved.place, &self.scope)
                && !self.splits.get(at).is_some_and(is_here)
            {
                self.splits.insert(at, SplitState::restore(id, saved));
                self.unbegun += 1;
            }
        }
        if reply.cursor.is_none() {
            self.awaits_splits = false;
        }
        Ok(())
    }

    /// Splits are shared out anew. Those that stay are read on; those that left are with the epoch's
    /// offsets, and those that came are found there.
    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        // Whoever is told next must be told all.
        self.emitted_watermark = TIMESTAMP_MIN;
        self.is_idle = false;
        self.found_idle = true;
        if scope.parallelism == self.scope.parallelism {
            self.scope = scope.clone();
            return Vec::new();
        }
        self.scope = scope.clone();
        let order = self.order;
        self.splits
            .retain(|split| is_mine(order, split.place, scope));
        self.reading.retain(|place| is_mine(order, *place, scope));
        self.unbegun = self.splits.iter().filter(|split| !split.begun).count();
        self.unbegun_lag = None;
        self.awaits_splits = true;
        vec![ScanJob {
            as_of: change.epoch,
            ..ScanJob::new(self.table, KeyGroup(0))
        }]
    }

    fn freeze(&mut self, _epoch: Epoch) {
        let mut rows = FrozenRows::default();
        for split in self.splits.iter_mut().filter(|split| split.changed) {
            split.changed = false;
            let saved = split.save();
            let identity = split.split.id.as_bytes();
            // Offsets live in key group 0.
            rows.push(
                0,
                |out| out.extend_from_slice(identity),
                Some(|out: &mut Vec<u8>| saved.encode(out)),
            );
        }
        self.frozen = rows;
    }

    fn encode(&mut self, _rows_max: usize) -> bool {
        true
    }

    fn take_delta(&mut self) -> StateDelta {
        let rows = std::mem::take(&mut self.frozen);
        let delta = TableDelta {
            table: self.table,
            namespace: 0,
            rows,
        };
        let tables = if delta.rows.is_empty() {
            Vec::new()
        } else {
            vec![delta]
        };
        StateDelta {
            tables,
            ..StateDelta::default()
        }
    }

    fn size(&self) -> StateSize {
        StateSize {
            rows: self.splits.len() as u64,
            ..StateSize::default()
        }
    }
}
