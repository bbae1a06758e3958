//! ORDER BY event time: rows are held until the watermark passes them. Input only appends, and one
//! task has all of it: its state lives in key group 0.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    compute::SortOptions,
    datatypes::SchemaRef,
    row::{RowConverter, SortField},
};
use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    codec::RowCodec,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    schema::arrow_schema,
    state::{ScanJob, StateDelta},
};
use proto::{
    plan,
    types::{Epoch, Field, KeyGroup, TableId},
};
use state_client::ScanReply;

use crate::rows::{Identity, RowTable, arrow_types, column, milliseconds, row_codec};

/// Hash of all rows: that of no key, in key group 0.
const HASH: u64 = 0;

/// The operator of a [`plan::Sort`].
pub struct SortOperator {
    time_column: usize,
    /// Columns of the order, the time first.
    order_columns: Vec<usize>,
    converter: RowConverter,
    codec: RowCodec,
    schema: SchemaRef,
    rows: RowTable,
    /// Rows that wait, by their time.
    waiting: BTreeMap<Timestamp, Vec<u32>>,
    /// Rows that are due, the first one last.
    due: Vec<u32>,
    watermark: Timestamp,
    pending_watermark: Option<Timestamp>,
    batch_rows: usize,
}

impl SortOperator {
    /// A sort of `input`, whose rows are held in the one table.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::Sort,
        input: &[Field],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let [table] = tables else {
            return Err(OperatorError::Plan("a sort has one table".to_owned()));
        };
        let types = arrow_types(input);
        let time_column = column(spec.time_column, input)?;
        let mut order_columns = vec![time_column];
        let mut fields = vec![SortField::new(types[time_column].clone())];
        for key in &spec.then_by {
            let at = column(key.column, input)?;
            let options = SortOptions {
                descending: key.descending,
                nulls_first: !key.nulls_last,
            };
            order_columns.push(at);
            fields.push(SortField::new_with_options(types[at].clone(), options));
        }
        let identity = Identity::Append { removable: true };
        Ok(Box::new(SortOperator {
            time_column,
            order_columns,
            converter: RowConverter::new(fields)?,
            codec: row_codec(input)?,
            schema: arrow_schema(input),
            rows: RowTable::new(*table, 0, identity, scope),
            waiting: BTreeMap::new(),
            due: Vec::new(),
            watermark: TIMESTAMP_MIN,
            pending_watermark: None,
            batch_rows: scope.batch_rows.max(1),
        }))
    }

    /// Moves rows that the watermark has passed to the due ones, in order.
    fn collect_due(&mut self) -> Result<(), OperatorError> {
        let passed = match self.watermark.checked_add(1) {
            Some(first_open) => {
                let open = self.waiting.split_off(&first_open);
                std::mem::replace(&mut self.waiting, open)
            }
            None => std::mem::take(&mut self.waiting),
        };
        let slots: Vec<u32> = passed.into_values().flatten().collect();
        if slots.is_empty() {
            return Ok(());
        }
        let bytes: Vec<&[u8]> = slots.iter().map(|slot| self.rows.row(*slot)).collect();
        let mut columns = Vec::with_capacity(self.order_columns.len());
        for column in &self.order_columns {
            columns.push(self.codec.decode_column(*column, &bytes)?);
        }
        let keys = self.converter.convert_columns(&columns)?;
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_unstable_by(|a, b| {
            let by_arrival = || {
                let arrival = |row: usize| self.rows.order(slots[row]);
                arrival(*a).cmp(&arrival(*b))
            };
            keys.row(*a).cmp(&keys.row(*b)).then_with(by_arrival)
        });
        self.due = order.into_iter().rev().map(|row| slots[row]).collect();
        Ok(())
    }

    fn go_on(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        while !self.due.is_empty() {
            if context.out.num_rows() >= self.batch_rows {
                return Ok(Step::More);
            }
            let rest = self.due.len().saturating_sub(self.batch_rows);
            let slots: Vec<u32> = self.due.drain(rest..).rev().collect();
            let bytes: Vec<&[u8]> = slots.iter().map(|slot| self.rows.row(*slot)).collect();
            let columns: Vec<ArrayRef> = self.codec.decode(&bytes)?;
            let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
            let schema = Arc::clone(&self.schema);
            let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
            slots.into_iter().for_each(|slot| self.rows.remove(slot));
            context.out.batch(ChangeBatch::inserts(batch));
        }
        if let Some(watermark) = self.pending_watermark.take() {
            context.out.element(Element::Watermark(watermark));
        }
        Ok(Step::Done)
    }
}

impl Operator for SortOperator {
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
            let message = "the input of a sort takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let times = milliseconds(batch.rows.column(self.time_column))?;
        let bytes = self.codec.encode(batch.rows.columns(), batch.num_rows())?;
        for (row, time) in times.iter().enumerate() {
            if *time <= self.watermark {
                context.counters.late_rows += 1;
                continue;
            }
            let slot = self.rows.append(HASH, bytes.row(row));
            self.waiting.entry(*time).or_default().push(slot);
        }
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.watermark = watermark;
        self.pending_watermark = Some(watermark);
        self.collect_due()?;
        self.go_on(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.go_on(context)
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}

impl OperatorState for SortOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        let job = ScanJob::new(self.rows.id(), KeyGroup(0));
        Vec::from_iter(scope.owned.contains(job.key_group).then_some(job))
    }

    fn hydrated(&mut self, _job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(reply.rows.len());
        for loaded in &reply.rows {
            if loaded.value.len() < self.codec.fixed_bytes() {
                return Err(self.rows.damaged("a row is cut short"));
            }
            bytes.push(&loaded.value);
        }
        let times = milliseconds(&self.codec.decode_column(self.time_column, &bytes)?)?;
        for (loaded, time) in reply.rows.iter().zip(times.iter()) {
            let slot = self.rows.install(loaded)?;
            self.waiting.entry(*time).or_default().push(slot);
        }
        Ok(())
    }

    /// It runs once and has all there is.
    fn reassign(&mut self, _scope: &TaskScope, _change: &Reassigned) -> Vec<ScanJob> {
        Vec::new()
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.rows.freeze(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.rows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        StateDelta {
            tables: self.rows.take_delta().into_iter().collect(),
            ..StateDelta::default()
        }
    }

    fn size(&self) -> StateSize {
        self.rows.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Event, Fold, changelog, crash_at_each_barrier, drive, drive_with_seed, fields, insert,
    };

    #[test]
    fn rows_come_in_order_once_the_watermark_has_passed_them() {
        let columns = fields(&[("t", "TIMESTAMP(3)"), ("v", "INT")]);
        let spec = plan::Sort {
            time_column: 0,
            then_by: vec![plan::SortKey {
                column: 1,
                descending: true,
                nulls_last: true,
            }],
        };
        let make = |scope: &TaskScope| SortOperator::build(&spec, &columns, &[TableId(1)], scope);
        let many: Vec<String> = (0..20).map(|i| format!("{}, {i}", 40 - i)).collect();
        let events = [
            insert(0, &columns, "3, 1\n1, 2\n3, NULL\n3, 9\n7, 0"),
            Event::Barrier,
            Event::Watermark(3),
            insert(0, &columns, "2, 5\n5, 5"),
            Event::Barrier,
            Event::Watermark(6),
            insert(0, &columns, &many.join("\n")),
            Event::Barrier,
            Event::Watermark(i64::MAX),
            Event::End,
        ];
        let text = changelog(&drive(&make, &events)).replace("1970-01-01T00:00:00.", "");
        let expected = "\
barrier 1
+I 001, 2
+I 003, 9
+I 003, 1
+I 003, NULL
watermark 3
barrier 2
+I 005, 5
watermark 6
barrier 3
+I 007, 0
";
        assert_eq!(&text[..expected.len()], expected);
        let tail: Vec<&str> = text[expected.len()..].lines().collect();
        let rows: Vec<String> = (0..20)
            .rev()
            .map(|i| format!("+I 0{}, {i}", 40 - i))
            .collect();
        assert_eq!(tail[..20], rows);
        assert_eq!(drive_with_seed(&make, &events, 0, |_| false).1.late_rows, 1);
        let folded = crash_at_each_barrier(&make, &events[..2], &Fold::Retract);
        assert!(folded.is_empty());
        let _ = crash_at_each_barrier(
            &make,
            &[&events[..3], &events[4..]].concat(),
            &Fold::Retract,
        );
    }
}
