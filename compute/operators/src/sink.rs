//! The end of a stream inside a task: rows go to a writer, and what it froze at the barrier is
//! staged with the epoch.

use arrow::{
    array::{Array as _, AsArray as _, BooleanArray},
    buffer::NullBuffer,
    compute::{filter, filter_record_batch},
    datatypes::UInt8Type,
};
use engine::{
    ChangeBatch, Kinds,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    sink::SinkWriter,
    state::{ScanJob, StateDelta},
};
use proto::{
    plan,
    types::{Epoch, Field, SinkId},
};
use state_client::{ScanReply, StagedOutput};

/// Writes rows to a sink.
pub struct SinkOperator {
    writer: Box<dyn SinkWriter>,
    sink: SinkId,
    slot: u32,
    not_null: NotNull,
    rows: u64,
    frozen: Vec<u8>,
}

/// The columns that must have a value, and what becomes of a row where one has none.
struct NotNull {
    table: String,
    columns: Vec<(usize, String)>,
    drops: bool,
}

impl SinkOperator {
    /// An operator that writes rows of `fields` with `writer` and stages for the slot of its task.
    #[must_use]
    pub fn build(
        spec: &plan::Sink,
        fields: &[Field],
        sink: SinkId,
        writer: Box<dyn SinkWriter>,
        scope: &TaskScope,
    ) -> Box<dyn Operator> {
        let slot = scope.index as u32 % spec.slots.max(1);
        let columns = spec.not_null.iter().map(|column| *column as usize);
        let named = columns.filter_map(|column| Some((column, fields.get(column)?.name.clone())));
        Box::new(SinkOperator {
            writer,
            sink,
            slot,
            not_null: NotNull {
                table: spec.table.clone(),
                columns: named.collect(),
                drops: spec.drop_nulls,
            },
            rows: 0,
            frozen: Vec::new(),
        })
    }
}

impl NotNull {
    /// The rows that may be written.
    fn enforce(&self, batch: ChangeBatch) -> Result<ChangeBatch, OperatorError> {
        let mut nulls = None;
        for (column, name) in &self.columns {
            let found = batch.rows.column(*column).logical_nulls();
            let Some(found) = found.filter(|found| found.null_count() > 0) else {
                continue;
            };
            if !self.drops {
                return Err(OperatorError::Evaluate(format!(
                    "column `{name}` of the sink `{}` is NOT NULL, but a row has NULL there; SET \
                     'table.exec.sink.not-null-enforcer' = 'DROP' leaves such rows out",
                    self.table
                )));
            }
            nulls = NullBuffer::union(nulls.as_ref(), Some(&found));
        }
        let Some(nulls) = nulls else {
            return Ok(batch);
        };
        let mask = BooleanArray::new(nulls.into_inner(), None);
        let kinds = match &batch.kinds {
            Some(kinds) => {
                let kept = filter(kinds.array(), &mask)?;
                let bytes = kept.as_primitive::<UInt8Type>().values().to_vec();
                Some(Kinds::from_bytes(bytes))
            }
            None => None,
        };
        let rows = filter_record_batch(&batch.rows, &mask)?;
        Ok(ChangeBatch::changes(rows, kinds))
    }
}

impl Operator for SinkOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        _context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let batch = match self.not_null.columns.is_empty() {
            true => batch,
            false => self.not_null.enforce(batch)?,
        };
        self.writer.write(&batch)?;
        self.rows += batch.num_rows() as u64;
        Ok(Step::Done)
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}

impl OperatorState for SinkOperator {
    fn hydrate(&mut self, _scope: &TaskScope) -> Vec<ScanJob> {
        Vec::new()
    }

    fn hydrated(&mut self, _job: &ScanJob, _reply: &ScanReply) -> Result<(), OperatorError> {
        Ok(())
    }

    /// What it has is staged with the epoch, whoever writes the next one.
    fn reassign(&mut self, _scope: &TaskScope, _change: &Reassigned) -> Vec<ScanJob> {
        Vec::new()
    }

    fn freeze(&mut self, _epoch: Epoch) {
        self.frozen = self.writer.freeze();
    }

    fn encode(&mut self, _rows_max: usize) -> bool {
        true
    }

    fn take_delta(&mut self) -> StateDelta {
        let bytes = std::mem::take(&mut self.frozen);
        let staged = (!bytes.is_empty()).then(|| StagedOutput {
            sink: self.sink,
            slot: self.slot,
            bytes: bytes.into(),
        });
        StateDelta {
            staged: staged.into_iter().collect(),
            ..StateDelta::default()
        }
    }

    fn size(&self) -> StateSize {
        StateSize {
            bytes: self.writer.buffered_bytes() as u64,
            ..StateSize::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fields, rows};

    fn enforced(columns: &[(usize, &str)], drops: bool) -> Result<usize, String> {
        let not_null = NotNull {
            table: "t".to_owned(),
            columns: columns
                .iter()
                .map(|(column, name)| (*column, (*name).to_owned()))
                .collect(),
            drops,
        };
        let input = fields(&[("k", "STRING"), ("n", "BIGINT")]);
        let batch = rows(&input, "a, 1\nb, NULL\nNULL, 3\nc, 4");
        let kept = not_null.enforce(batch).map_err(|error| error.to_string())?;
        Ok(kept.num_rows())
    }

    #[test]
    fn a_null_in_a_not_null_column_fails_or_is_left_out() {
        assert_eq!(enforced(&[], false), Ok(4));
        assert_eq!(enforced(&[(1, "n")], true), Ok(3));
        assert_eq!(enforced(&[(0, "k"), (1, "n")], true), Ok(2));
        let error = enforced(&[(1, "n")], false).expect_err("NULL");
        assert!(
            error.starts_with("column `n` of the sink `t` is NOT NULL, but a row has NULL there"),
            "{error}"
        );
    }
}
