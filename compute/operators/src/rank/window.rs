//! The Top-N of windows: rows are ranked as they come, and the top is put out, for good, when the
//! watermark passes the window's end. Input only appends.

use std::sync::Arc;

use arrow::{
    array::{Int64Array, RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Element, Timestamp,
    late::LateRows,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    schema::arrow_schema,
    state::{ScanJob, StateDelta},
};
use proto::{
    plan,
    types::{Epoch, Field, TableId},
};
use state_client::ScanReply;

use super::{
    ranking::{Prepared, RankShape, Ranking},
    top::output,
};
use crate::rows::{
    Identity, RowTable, WindowState, Windows, column, milliseconds, window_index_scope,
};

/// The operator of a [`plan::Rank`] with a window.
pub(crate) struct WindowRankOperator {
    shape: RankShape,
    table: TableId,
    window_end: usize,
    output_rank: bool,
    schema: SchemaRef,
    scope: TaskScope,
    windows: Windows<Window>,
    firing: Option<Firing>,
    /// What to send when all due windows have fired.
    pending_watermark: Option<Timestamp>,
}

struct Window {
    ranking: Ranking,
}

/// A window that is being put out: its partitions, and the rows of the one under way.
struct Firing {
    ranking: Ranking,
    partitions: std::vec::IntoIter<u32>,
    rows: Vec<(u32, i64)>,
    next: usize,
}

impl WindowRankOperator {
    /// A ranking of `input`, whose rows are kept in the one table. `latest_first`: of rows that
    /// the order does not tell apart, the latest is the first.
    pub(crate) fn build(
        spec: &plan::Rank,
        latest_first: bool,
        input: &[Field],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let ([table], Some(window)) = (tables, &spec.window) else {
            let message = "a window ranking has one table and a window";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        Ok(Box::new(WindowRankOperator {
            shape: RankShape::new(spec, latest_first, input)?,
            table: *table,
            window_end: column(window.window_end, input)?,
            output_rank: spec.output_rank,
            schema: arrow_schema(&output(spec, input)),
            scope: scope.clone(),
            windows: Windows::new(vec![*table], scope),
            firing: None,
            pending_watermark: None,
        }))
    }

    fn go_on(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        loop {
            while let Some(firing) = &mut self.firing {
                if context.out.num_rows() >= self.scope.batch_rows {
                    return Ok(Step::More);
                }
                let rows = firing.next_rows(&self.shape, self.scope.batch_rows);
                if rows.is_empty() {
                    self.firing = None;
                    break;
                }
                let batch = firing.gather(&self.shape, &rows, self.output_rank, &self.schema)?;
                context.out.batch(ChangeBatch::inserts(batch));
            }
            let Some(Window { ranking }) = self.windows.take_due() else {
                break;
            };
            let partitions: Vec<u32> = ranking.index.iter().collect();
            self.firing = Some(Firing {
                ranking,
                partitions: partitions.into_iter(),
                rows: Vec::new(),
                next: 0,
            });
        }
        if let Some(watermark) = self.pending_watermark.take() {
            context.out.element(Element::Watermark(watermark));
        }
        Ok(Step::Done)
    }
}

impl Window {
    fn new(
        shape: &RankShape,
        table: TableId,
        end: i64,
        scope: &TaskScope,
        last_barrier: Epoch,
    ) -> Self {
        let identity = Identity::Append { removable: true };
        let rows = RowTable::new(table, end, identity, scope).begun_after(last_barrier);
        Window {
            ranking: Ranking::new(shape, rows, None, &window_index_scope(scope), false),
        }
    }
}

impl WindowState for Window {
    fn tables(&mut self) -> impl Iterator<Item = &mut RowTable> {
        std::iter::once(&mut self.ranking.rows)
    }

    fn size(&self) -> StateSize {
        self.ranking.size()
    }
}

impl Firing {
    /// The next rows and their ranks, about `rows_max`; none at the end.
    fn next_rows(&mut self, shape: &RankShape, rows_max: usize) -> Vec<(u32, i64)> {
        while self.rows.len() - self.next < rows_max {
            let Some(partition) = self.partitions.next() else {
                break;
            };
            let mut top = Vec::new();
            self.ranking.top(partition, shape, &mut top);
            let first = shape.offset as i64 + 1;
            self.rows.extend(top.into_iter().zip(first..));
        }
        let end = self.rows.len().min(self.next + rows_max.max(1));
        let rows = self.rows[self.next..end].to_vec();
        self.next = end;
        if self.next == self.rows.len() {
            self.rows.clear();
            self.next = 0;
        }
        rows
    }

    fn gather(
        &self,
        shape: &RankShape,
        rows: &[(u32, i64)],
        output_rank: bool,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, OperatorError> {
        let bytes = self.ranking.bytes(rows.iter().map(|(slot, _)| *slot));
        let mut columns = shape.codec.decode(&bytes)?;
        if output_rank {
            let ranks = rows.iter().map(|(_, rank)| *rank);
            columns.push(Arc::new(Int64Array::from_iter_values(ranks)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::clone(schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

impl Operator for WindowRankOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if batch
            .kinds
            .as_ref()
            .is_some_and(|kinds| kinds.bytes().iter().any(|k| *k != 0))
        {
            let message = "the input of a window ranking takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let columns = batch.rows.columns();
        let ends = milliseconds(&columns[self.window_end])?;
        let keys = self.shape.keys.encode(&batch.rows)?;
        let prepared = Prepared::new(&self.shape, columns, batch.num_rows())?;
        let rows_max = self.shape.rows_max();
        let mut late = LateRows::default();
        for (row, end) in ends.iter().enumerate() {
            if self.windows.is_late(*end, keys.hashes[row]) {
                late.push(row, self.windows.passed(keys.hashes[row]));
                continue;
            }
            let (shape, table, scope) = (&self.shape, self.table, &self.scope);
            let window = self.windows.window(*end, |barrier| {
                Window::new(shape, table, *end, scope, barrier)
            });
            let ranking = &mut window.ranking;
            let key_slot = ranking.key_slot(&keys, row);
            let order = prepared.orders.row(row);
            if ranking.is_beyond(key_slot, order, rows_max) {
                continue;
            }
            let (hash, bytes) = (keys.hashes[row], prepared.bytes.row(row));
            if let Some(fallen) = ranking.append(key_slot, hash, bytes, order, rows_max) {
                ranking.free(fallen);
            }
        }
        context.drop_late(0, &batch, &late)?;
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.windows.advance(watermark);
        self.pending_watermark = Some(watermark);
        self.go_on(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.go_on(context)
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}

impl OperatorState for WindowRankOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        self.windows.hydrate(scope)
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.scope = scope.clone();
        self.windows.reassign(scope, change, |window, left| {
            window.ranking.forget_left(left)
        })
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        let (shape, table, scope) = (&self.shape, self.table, &self.scope);
        let make = |end, barrier| Window::new(shape, table, end, scope, barrier);
        let install = |window: &mut Window, rows: &[_]| window.ranking.install(shape, rows);
        self.windows.hydrated(job, reply, make, install)
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.windows.freeze(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.windows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        self.windows.take_delta()
    }

    fn size(&self) -> StateSize {
        self.windows.size()
    }
}
