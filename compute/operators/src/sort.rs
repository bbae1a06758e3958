//! ORDER BY event time: rows are held until the watermark passes them. Input only appends.
//!
//! Without a partition one task has all rows, in key group 0; with one, each task has those of its
//! key groups, and all of them are put out in one order. Rows of one time come out in one batch.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    codec::RowCodec,
    key::KeyEncoder,
    late::LateRows,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    schema::arrow_schema,
    state::{ScanJob, StateDelta},
};
use proto::{
    plan::{self, SortKey},
    types::{Epoch, Field, KeyGroup, KeyGroupSet, TableId},
};
use state_client::ScanReply;

use crate::rows::{
    Identity, RowOrder, RowTable, arrow_types, column, columns,
    fired::{self, Fired},
    milliseconds, row_codec,
};

/// Hash of rows without a partition: that of no key, in key group 0.
const HASH: u64 = 0;

/// The operator of a [`plan::Sort`].
pub struct SortOperator {
    time_column: usize,
    /// By time first.
    order: RowOrder,
    /// Keys of partitions, if there are any.
    keys: Option<KeyEncoder>,
    codec: RowCodec,
    schema: SchemaRef,
    scope: TaskScope,
    rows: RowTable,
    /// Rows that wait, by their time.
    waiting: BTreeMap<Timestamp, Vec<u32>>,
    /// Rows that are due and their times, the first one last.
    due: Vec<(Timestamp, u32)>,
    /// Up to where rows have come out.
    fired: Fired,
    frozen: Frozen,
    pending_watermark: Option<Timestamp>,
}

/// Up to where rows had come out at the last freeze.
#[derive(Default)]
struct Frozen {
    fired: Fired,
    owned: KeyGroupSet,
    /// What was saved last.
    saved: Option<Timestamp>,
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
        let by_time = SortKey {
            column: spec.time_column,
            ..SortKey::default()
        };
        let order_by: Vec<SortKey> = [by_time].into_iter().chain(spec.then_by.clone()).collect();
        let partition = columns(&spec.partition_by, input)?;
        let keys = match partition.is_empty() {
            true => None,
            false => {
                let types = partition.iter().map(|column| types[*column].clone());
                let types = types.collect();
                Some(KeyEncoder::new(partition, types)?)
            }
        };
        let identity = Identity::Append { removable: true };
        Ok(Box::new(SortOperator {
            time_column,
            order: RowOrder::new(&order_by, input)?,
            keys,
            codec: row_codec(input)?,
            schema: arrow_schema(input),
            rows: RowTable::new(*table, 0, identity, scope),
            waiting: BTreeMap::new(),
            due: Vec::new(),
            fired: Fired::default(),
            frozen: Frozen::default(),
            pending_watermark: None,
            scope: TaskScope {
                batch_rows: scope.batch_rows.max(1),
                ..scope.clone()
            },
        }))
    }

    /// The key groups whose rows it has.
    fn key_groups(&self) -> KeyGroupSet {
        match self.keys {
            Some(_) => self.scope.owned.clone(),
            None => KeyGroupSet::from_iter([KeyGroup(0)]),
        }
    }

    /// What was read of how far rows had come out counts from now on.
    fn settle(&mut self) {
        if !self.fired.is_settled() {
            self.fired.settle(&self.key_groups());
        }
    }

    /// Moves rows that time has passed to the due ones, in order.
    fn collect_due(&mut self, watermark: Timestamp) -> Result<(), OperatorError> {
        let passed = match watermark.checked_add(1) {
            Some(first_open) => {
                let open = self.waiting.split_off(&first_open);
                std::mem::replace(&mut self.waiting, open)
            }
            None => std::mem::take(&mut self.waiting),
        };
        let of_time =
            |(time, slots): (Timestamp, Vec<u32>)| slots.into_iter().map(move |slot| (time, slot));
        let slots: Vec<(Timestamp, u32)> = passed.into_iter().flat_map(of_time).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let bytes: Vec<&[u8]> = slots.iter().map(|(_, slot)| self.rows.row(*slot)).collect();
        let keys = self.order.keys_of(&self.codec, &bytes)?;
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_unstable_by(|a, b| {
            let by_arrival = || {
                let arrival = |row: usize| self.rows.order(slots[row].1);
                arrival(*a).cmp(&arrival(*b))
            };
            keys.row(*a).cmp(keys.row(*b)).then_with(by_arrival)
        });
        self.due = order.into_iter().rev().map(|row| slots[row]).collect();
        Ok(())
    }

    fn go_on(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        while !self.due.is_empty() {
            if context.out.num_rows() >= self.scope.batch_rows {
                return Ok(Step::More);
            }
            let mut first = self.due.len().saturating_sub(self.scope.batch_rows);
            let time = self.due[first].0;
            // With all of its time, which ends further down the list.
            first = self.due[..first].partition_point(|(other, _)| *other > time);
            let slots: Vec<u32> = self
                .due
                .drain(first..)
                .rev()
                .map(|(_, slot)| slot)
                .collect();
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
        self.settle();
        let times = milliseconds(batch.rows.column(self.time_column))?;
        let bytes = self.codec.encode(batch.rows.columns(), batch.num_rows())?;
        let hashes = match &self.keys {
            Some(keys) => Some(keys.encode(&batch.rows)?.hashes),
            None => None,
        };
        let is_even = self.fired.is_even();
        let mut late = LateRows::default();
        for (row, time) in times.iter().enumerate() {
            let hash = hashes.as_ref().map_or(HASH, |hashes| hashes[row]);
            let fired = match is_even {
                true => self.fired.upto(),
                false => self.fired.of(self.scope.key_groups.of_hash(hash)),
            };
            if *time <= fired {
                late.push(row, fired);
                continue;
            }
            let slot = self.rows.append(hash, bytes.row(row));
            self.waiting.entry(*time).or_default().push(slot);
        }
        context.drop_late(0, &batch, &late)?;
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.settle();
        self.fired.advance(watermark);
        self.pending_watermark = Some(watermark);
        self.collect_due(watermark)?;
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
        self.scope.owned = scope.owned.clone();
        let mut jobs = fired::scans_of(&[self.rows.id()], &self.key_groups());
        jobs.retain(|job| scope.owned.contains(job.key_group));
        jobs
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        self.fired.note(job.key_group, None);
        let mut loaded = Vec::with_capacity(reply.rows.len());
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(reply.rows.len());
        for row in &reply.rows {
            if let Some(mark) = fired::read(job.table, row)? {
                self.fired.note(job.key_group, Some(mark));
                continue;
            }
            if row.value.len() < self.codec.fixed_bytes() {
                return Err(self.rows.damaged("a row is cut short"));
            }
            loaded.push(row);
            bytes.push(&row.value);
        }
        let times = milliseconds(&self.codec.decode_column(self.time_column, &bytes)?)?;
        for (row, time) in loaded.into_iter().zip(times.iter()) {
            let slot = self.rows.install(row)?;
            self.waiting.entry(*time).or_default().push(slot);
        }
        Ok(())
    }

    /// Without a partition it runs once and has all there is.
    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        if self.keys.is_none() {
            return Vec::new();
        }
        self.settle();
        self.scope.owned = scope.owned.clone();
        if !change.left.is_empty() {
            let groups = self.scope.key_groups;
            let left = |hash: u64| change.left.contains(groups.of_hash(hash));
            self.waiting.retain(|_, slots| {
                slots.retain(|slot| !left(self.rows.hash(*slot)));
                !slots.is_empty()
            });
            self.rows.forget_left(&left);
        }
        fired::scans_of(&[self.rows.id()], &change.came)
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.settle();
        self.rows.freeze(epoch);
        self.frozen.fired = self.fired.clone();
        self.frozen.owned = self.key_groups();
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.rows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut delta = StateDelta::default();
        delta.tables.extend(self.rows.take_delta());
        let fired = std::mem::take(&mut self.frozen.fired);
        if self.frozen.saved != Some(fired.upto()) && fired.upto() > TIMESTAMP_MIN {
            self.frozen.saved = Some(fired.upto());
            let (table, groups) = (self.rows.id(), self.scope.key_groups);
            let rows = fired::delta(table, groups, &self.frozen.owned, &fired);
            delta.tables.push(rows);
        }
        delta
    }

    fn size(&self) -> StateSize {
        self.rows.size()
    }
}

#[cfg(test)]
#[path = "sort_test.rs"]
mod tests;
