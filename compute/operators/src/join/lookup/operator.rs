//! The operator: a batch of keys is looked up, pairs of rows are numbers first, and columns are gathered
//! once for all of them.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array},
    buffer::NullBuffer,
    compute::take,
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Element, Timestamp,
    operator::{Operator, OperatorContext, OperatorError, Step, TaskScope},
    schema::arrow_schema,
};
use proto::{
    plan::{self, JoinType},
    types::Field,
};

use super::{LookupIndex, LookupKeys, LookupTable, columns_of, index::NO_KEY, lookup_table};
use crate::{
    EvalContext,
    join::{condition::JoinCondition, shape::null_rows},
};

/// No row of the table: the left row stands alone.
const NO_ROW: u32 = u32::MAX;

/// The operator of a [`plan::LookupJoin`].
pub struct LookupJoinOperator {
    table: LookupTable,
    keys: LookupKeys,
    condition: Option<JoinCondition>,
    /// Left rows without a match come out alone.
    keeps_unmatched: bool,
    schema: SchemaRef,
    batch_rows: usize,
    pending: Option<Pending>,
    eval: EvalContext,
}

/// A batch that is being joined: all of it with the same rows.
struct Pending {
    batch: ChangeBatch,
    rows: Arc<LookupIndex>,
    /// The number of each row's key.
    numbers: Vec<u32>,
    /// The next row, how many pairs of it were tried, and whether one of them is put out.
    row: usize,
    tried: u32,
    matched: bool,
}

/// Rows of both sides that belong together.
#[derive(Default)]
struct Pairs {
    left: Vec<u32>,
    right: Vec<u32>,
}

impl Pairs {
    fn with_capacity(rows: usize) -> Pairs {
        Pairs {
            left: Vec::with_capacity(rows),
            right: Vec::with_capacity(rows),
        }
    }

    #[inline]
    fn push(&mut self, left: u32, right: u32) {
        self.left.push(left);
        self.right.push(right);
    }

    fn len(&self) -> usize {
        self.left.len()
    }
}

impl LookupJoinOperator {
    /// A join of rows of the columns `left` with those of `table`, which a
    /// [`super::LookupReader`] has read for the same `spec`.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::LookupJoin,
        left: &[Field],
        table: LookupTable,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let keeps_unmatched = match spec.r#type() {
            JoinType::Inner => false,
            JoinType::Left => true,
            other => {
                let message = format!("a lookup join of type {}", other.as_str_name());
                return Err(OperatorError::Plan(message));
            }
        };
        let right = columns_of(lookup_table(spec)?.columns.as_ref())?;
        let [keys, _] = LookupKeys::of(spec, left, &right)?;
        let condition = spec.condition.as_ref();
        let condition = condition.map(|expr| JoinCondition::compile(expr, [left, &right]));
        let output: Vec<Field> = left.iter().chain(&right).cloned().collect();
        Ok(Box::new(LookupJoinOperator {
            table,
            keys,
            condition: condition.transpose()?,
            keeps_unmatched,
            schema: arrow_schema(&output),
            batch_rows: scope.batch_rows.max(1),
            pending: None,
            eval: EvalContext::default(),
        }))
    }

    /// Puts out the next pairs of the batch.
    fn go_on(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(Step::Done);
        };
        let limit = self.batch_rows.max(pending.batch.num_rows());
        let pairs = match &self.condition {
            None => pending.next_pairs(limit, self.keeps_unmatched),
            Some(condition) => {
                let first = pending.row;
                let pairs = pending.next_pairs(limit, false);
                let met = pending.test(condition, &pairs, &self.eval)?;
                pending.keep(first, &pairs, &met, self.keeps_unmatched)
            }
        };
        if pairs.len() > 0 {
            context.out.batch(pending.gather(pairs, &self.schema)?);
        }
        if pending.row < pending.numbers.len() {
            self.pending = Some(pending);
            return Ok(Step::More);
        }
        Ok(Step::Done)
    }
}

impl Pending {
    /// About `limit` pairs whose keys are equal; with `alone` rows that have none are among them.
    fn next_pairs(&mut self, limit: usize, alone: bool) -> Pairs {
        let mut pairs = Pairs::with_capacity(limit);
        while self.row < self.numbers.len() && pairs.len() < limit {
            let rows = self.rows.rows_of(self.numbers[self.row]);
            let row = self.row as u32;
            let first = rows.start + self.tried;
            let room = u32::try_from(limit - pairs.len()).unwrap_or(u32::MAX);
            let end = rows.end.min(first.saturating_add(room));
            (first..end).for_each(|right| pairs.push(row, right));
            if alone && rows.is_empty() {
                pairs.push(row, NO_ROW);
            }
            if end == rows.end {
                (self.row, self.tried) = (self.row + 1, 0);
            } else {
                self.tried = end - rows.start;
            }
        }
        pairs
    }

    fn test(
        &self,
        condition: &JoinCondition,
        pairs: &Pairs,
        eval: &EvalContext,
    ) -> Result<BooleanArray, OperatorError> {
        let left = UInt32Array::from(pairs.left.clone());
        let right = UInt32Array::from(pairs.right.clone());
        let columns = [self.batch.rows.columns(), self.rows.columns()];
        condition.evaluate_columns(columns, [&left, &right], eval)
    }

    /// The pairs that have met the condition, of rows from `first` on; with `alone` rows of which no
    /// pair has too.
    fn keep(&mut self, first: usize, pairs: &Pairs, met: &BooleanArray, alone: bool) -> Pairs {
        let mut kept = Pairs::with_capacity(pairs.len());
        let mut next = 0;
        for row in first..self.row {
            // Pairs before these may have been put out.
            let mut matched = std::mem::take(&mut self.matched);
            while next < pairs.len() && pairs.left[next] as usize == row {
                if met.value(next) {
                    kept.push(pairs.left[next], pairs.right[next]);
                    matched = true;
                }
                next += 1;
            }
            if alone && !matched {
                kept.push(row as u32, NO_ROW);
            }
        }
        // The rest is of a row that has more.
        for pair in next..pairs.len() {
            if met.value(pair) {
                kept.push(pairs.left[pair], pairs.right[pair]);
                self.matched = true;
            }
        }
        kept
    }

    /// The rows of the pairs.
    fn gather(&self, pairs: Pairs, schema: &SchemaRef) -> Result<ChangeBatch, OperatorError> {
        let count = self.batch.num_rows();
        let is_whole = pairs.len() == count && (0..).zip(&pairs.left).all(|(i, row)| i == *row);
        let left = match is_whole {
            true => self.batch.clone(),
            false => self.batch.take(&UInt32Array::from(pairs.left))?,
        };
        let mut columns = left.rows.columns().to_vec();
        columns.extend(gather_right(&self.rows, pairs.right)?);
        let rows = RecordBatch::try_new(Arc::clone(schema), columns)?;
        Ok(ChangeBatch::changes(rows, left.kinds))
    }
}

/// Columns of the table at these rows; NULL where there is none.
fn gather_right(table: &LookupIndex, mut rows: Vec<u32>) -> Result<Vec<ArrayRef>, OperatorError> {
    let columns = table.columns().iter();
    if table.num_rows() == 0 {
        let nulls = |column: &ArrayRef| new_null_array(column.data_type(), rows.len());
        return Ok(columns.map(nulls).collect());
    }
    let nulls = rows.contains(&NO_ROW).then(|| {
        let nulls: NullBuffer = rows.iter().map(|row| *row != NO_ROW).collect();
        // Any row will do where none is read.
        rows.iter_mut()
            .filter(|row| **row == NO_ROW)
            .for_each(|row| *row = 0);
        nulls
    });
    let rows = UInt32Array::new(rows.into(), nulls);
    let taken = columns.map(|column| take(column, &rows, None));
    Ok(taken.collect::<Result<_, _>>()?)
}

impl Operator for LookupJoinOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.eval.now_ms = context.clock.wall_ms();
        let rows = self.table.current();
        let encoder = &self.keys.encoder;
        let columns = encoder.columns().iter();
        let columns: Vec<ArrayRef> = columns
            .map(|column| batch.rows.column(*column).clone())
            .collect();
        let keys = encoder.encode_arrays(&columns, batch.num_rows())?;
        let mut numbers = rows.find(&keys);
        if let Some(lost) = null_rows(&columns, &self.keys.strict) {
            lost.set_indices().for_each(|row| numbers[row] = NO_KEY);
        }
        self.pending = Some(Pending {
            batch,
            rows,
            numbers,
            row: 0,
            tried: 0,
            matched: false,
        });
        self.go_on(context)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.eval.watermark = Some(watermark);
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.go_on(context)
    }
}
