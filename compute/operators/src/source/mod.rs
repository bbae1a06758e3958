//! The beginning of a stream: splits are read in turn, their computed columns added, and time is
//! marked split by split.

mod offsets;
mod split;
mod watermark;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    operator::{
        OperatorContext, OperatorError, OperatorState, SourceOperator, SourceStatus, StateSize,
        TaskScope,
    },
    source::{Source, Split, SplitEvent},
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
    source: Arc<dyn Source>,
    table: TableId,
    calc: Option<Projector>,
    watermark: Option<WatermarkExpr>,
    splits: Vec<SplitState>,
    next: usize,
    emitted_watermark: Timestamp,
    is_idle: bool,
    frozen: FrozenRows,
}

impl SplitSource {
    /// A source of a plan's node. `splits` are all of the table's, in one order for all tasks;
    /// the task takes its share.
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
        let mine = splits
            .iter()
            .enumerate()
            .filter(|(index, _)| index % scope.parallelism == scope.index);
        Ok(Box::new(SplitSource {
            source,
            table,
            calc,
            watermark,
            splits: mine
                .map(|(_, split)| SplitState::new(split.clone()))
                .collect(),
            next: 0,
            emitted_watermark: TIMESTAMP_MIN,
            is_idle: false,
            frozen: FrozenRows::default(),
        }))
    }

    /// Reads the split whose turn it is; `Pending` if none of them has anything.
    fn poll_splits(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<(usize, SplitEvent), OperatorError>> {
        let count = self.splits.len();
        for turn in 0..count {
            let index = (self.next + turn) % count;
            let split = &mut self.splits[index];
            if split.finished {
                continue;
            }
            let reader = match split.open(&*self.source) {
                Ok(reader) => reader,
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            let polled = reader.poll_next(cx, context.scope.batch_rows);
            context.dead_letters.append(&mut reader.take_dead_letters());
            if let Poll::Ready(event) = polled {
                self.next = (index + 1) % count;
                return Poll::Ready(event.map(|event| (index, event)).map_err(Into::into));
            }
        }
        Poll::Pending
    }

    fn take(
        &mut self,
        index: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let now_ms = context.clock.wall_ms();
        let split = &mut self.splits[index];
        split.changed = true;
        split.read_at_ns = Some(context.clock.monotonic_ns());
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
        if let Some(watermark) = &self.watermark
            && let Some(newest) = watermark.newest(&batch, &eval)?
        {
            split.watermark = split.watermark.max(newest);
        }
        self.is_idle = false;
        context.out.batch(batch);
        Ok(())
    }

    /// Emits the least watermark of the splits that are neither idle nor finished.
    fn mark_time(&mut self, context: &mut OperatorContext<'_>) {
        if self.watermark.is_none() {
            return;
        }
        let active = self
            .splits
            .iter()
            .filter(|split| !split.finished && !split.idle);
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

    /// Marks splits idle that have been silent for too long; whether any became so.
    fn find_idle(&mut self, context: &OperatorContext<'_>) -> bool {
        let Some(timeout_ns) = self
            .watermark
            .as_ref()
            .and_then(WatermarkExpr::idle_timeout_ns)
        else {
            return false;
        };
        let now = context.clock.monotonic_ns();
        let mut found = false;
        for split in self
            .splits
            .iter_mut()
            .filter(|split| !split.finished && !split.idle)
        {
            let since = *split.read_at_ns.get_or_insert(now);
            split.idle = now.saturating_sub(since) >= timeout_ns;
            found |= split.idle;
        }
        found
    }
}

impl SourceOperator for SplitSource {
    fn poll_emit(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<SourceStatus, OperatorError>> {
        loop {
            if self.splits.iter().all(|split| split.finished) {
                return Poll::Ready(Ok(SourceStatus::Finished));
            }
            match self.poll_splits(cx, context) {
                Poll::Ready(Ok((index, SplitEvent::Batch(batch)))) => {
                    self.take(index, batch, context)?;
                }
                Poll::Ready(Ok((index, SplitEvent::Finished))) => {
                    self.splits[index].finish();
                    if self.splits.iter().all(|split| split.finished) {
                        continue;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.find_idle(context) => {}
                Poll::Pending => return Poll::Pending,
            }
            self.mark_time(context);
            if !context.out.is_empty() {
                return Poll::Ready(Ok(SourceStatus::Emitted));
            }
        }
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }
}

impl OperatorState for SplitSource {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        vec![ScanJob {
            table: self.table,
            key_group: KeyGroup(0),
        }]
    }

    fn hydrated(&mut self, _job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        for row in &reply.rows {
            let split = self
                .splits
                .iter_mut()
                .find(|s| s.split.id.as_bytes() == &row.identity[..]);
            let Some(split) = split else { continue };
            let saved = SavedSplit::decode(&row.value).ok_or_else(|| OperatorError::Decode {
                table: self.table.to_string(),
                cause: format!("the offset of split `{}` is cut short", split.split.id),
            })?;
            split.restore(saved);
        }
        Ok(())
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
            bytes: 0,
        }
    }
}
