//! What is fixed about a join: its keys, its condition, which rows it puts out.

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, new_null_array},
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType, SchemaRef},
};
use engine::{codec::RowCodec, key::KeyEncoder, operator::OperatorError, schema::arrow_schema};
use proto::{
    plan::{self, JoinType},
    types::Field,
};

use super::{best::BestShape, condition::JoinCondition};
use crate::{
    EvalContext,
    rows::{arrow_types, columns, row_codec},
};

/// The left input.
pub(super) const LEFT: usize = 0;
/// The right input.
pub(super) const RIGHT: usize = 1;

/// Keys of a join as plans have them.
pub(super) struct KeyColumns<'a> {
    pub(super) left: &'a [u32],
    pub(super) right: &'a [u32],
    pub(super) null_safe: &'a [bool],
}

/// What does not change while a join runs.
#[derive(Debug)]
pub(crate) struct JoinShape {
    /// Whether pairs are put out (not by SEMI and ANTI).
    pub(super) emits_pairs: bool,
    /// Per side: whether a row without a match is put out, alone.
    pub(super) bare_unmatched: [bool; 2],
    /// Per side: whether a row with a match is put out, alone.
    pub(super) bare_matched: [bool; 2],
    pub(super) keys: [KeyEncoder; 2],
    /// Per key: its NULL matches nothing.
    strict: Vec<bool>,
    pub(super) codecs: [RowCodec; 2],
    /// Per side: the bytes of a row of NULLs.
    pub(super) null_rows: [Vec<u8>; 2],
    pub(super) condition: Option<JoinCondition>,
    /// Where only the best pairs are wanted.
    pub(super) best: Option<BestShape>,
    /// Of the output.
    pub(super) schema: SchemaRef,
    pub(super) batch_rows: usize,
}

impl JoinShape {
    pub(super) fn new(
        join_type: JoinType,
        keys: &KeyColumns<'_>,
        condition: Option<&plan::Expr>,
        inputs: [&[Field]; 2],
        batch_rows: usize,
    ) -> Result<Self, OperatorError> {
        use JoinType::{Anti, Full, Inner, Left, Right, Semi, Unspecified};
        let bare_unmatched = match join_type {
            Left | Anti => [true, false],
            Right => [false, true],
            Full => [true, true],
            Inner | Semi => [false, false],
            Unspecified => return Err(OperatorError::Plan("a join without type".to_owned())),
        };
        let emits_pairs = !matches!(join_type, Semi | Anti);
        let (left_keys, left_types) = key_types(keys.left, inputs[LEFT])?;
        let (right_keys, right_types) = key_types(keys.right, inputs[RIGHT])?;
        check_keys(&left_types, &right_types)?;
        let null_safe = keys.null_safe.iter().copied();
        let null_safe = null_safe.chain(std::iter::repeat(false));
        let strict = left_keys.iter().zip(null_safe).map(|(_, safe)| !safe);
        let strict = strict.collect();
        let keys = [
            KeyEncoder::new(left_keys, left_types)?,
            KeyEncoder::new(right_keys, right_types)?,
        ];
        let codecs = [row_codec(inputs[LEFT])?, row_codec(inputs[RIGHT])?];
        let null_rows = [
            null_row(&codecs[LEFT], inputs[LEFT])?,
            null_row(&codecs[RIGHT], inputs[RIGHT])?,
        ];
        let condition = match condition {
            Some(expr) => Some(JoinCondition::compile(expr, inputs)?),
            None => None,
        };
        let mut output = inputs[LEFT].to_vec();
        if emits_pairs {
            output.extend_from_slice(inputs[RIGHT]);
        }
        Ok(JoinShape {
            emits_pairs,
            bare_unmatched,
            bare_matched: [join_type == Semi, false],
            keys,
            strict,
            codecs,
            null_rows,
            condition,
            best: None,
            schema: arrow_schema(&output),
            batch_rows: batch_rows.max(1),
        })
    }

    /// Of whose pairs only the best are wanted.
    pub(super) fn of_best(mut self, best: Option<BestShape>) -> JoinShape {
        self.best = best;
        self
    }

    /// Whether what is put out for rows of a side depends on whether they have matches.
    pub(super) fn tracks(&self, side: usize) -> bool {
        self.bare_unmatched[side] || self.bare_matched[side]
    }

    /// Rows whose key matches nothing because of a NULL; `None`: there are none.
    pub(super) fn null_keys(&self, side: usize, columns: &[ArrayRef]) -> Option<BooleanBuffer> {
        let keys = self.keys[side].columns().iter();
        let keys: Vec<ArrayRef> = keys.map(|column| columns[*column].clone()).collect();
        self.null_key_columns(&keys)
    }

    /// Rows of a side that match nothing because their key or their time is NULL; `None`: there are
    /// none.
    pub(super) fn unmatchable(
        &self,
        side: usize,
        columns: &[ArrayRef],
        time: usize,
    ) -> Option<BooleanBuffer> {
        let by_key = self.null_keys(side, columns);
        let timeless = columns[time].logical_nulls();
        let timeless = timeless.filter(|times| times.null_count() > 0);
        match (by_key, timeless.map(|times| !times.inner())) {
            (Some(one), Some(other)) => Some(&one | &other),
            (one, other) => one.or(other),
        }
    }

    /// As [`JoinShape::null_keys`], of the key columns alone.
    pub(super) fn null_key_columns(&self, keys: &[ArrayRef]) -> Option<BooleanBuffer> {
        null_rows(keys, &self.strict)
    }

    /// Which of the pairs (row `own[i]` of `columns`, which are those of `side`; row `other[i]`)
    /// match. `None`: all.
    pub(super) fn matches(
        &self,
        side: usize,
        columns: &[ArrayRef],
        own: &[u32],
        other: &[&[u8]],
        eval: &EvalContext,
    ) -> Result<Option<BooleanArray>, OperatorError> {
        match &self.condition {
            None => Ok(None),
            Some(condition) => condition
                .evaluate(side, columns, own, &self.codecs[1 - side], other, eval)
                .map(Some),
        }
    }
}

/// Rows with a NULL in a key that is `strict`; `None`: there are none.
pub(super) fn null_rows(keys: &[ArrayRef], strict: &[bool]) -> Option<BooleanBuffer> {
    let mut valid: Option<NullBuffer> = None;
    for (key, _) in keys.iter().zip(strict).filter(|(_, strict)| **strict) {
        valid = NullBuffer::union(valid.as_ref(), key.logical_nulls().as_ref());
    }
    valid
        .filter(|valid| valid.null_count() > 0)
        .map(|valid| !valid.inner())
}

/// Key columns and their types.
pub(super) fn key_types(
    keys: &[u32],
    fields: &[Field],
) -> Result<(Vec<usize>, Vec<DataType>), OperatorError> {
    let keys = columns(keys, fields)?;
    let types = arrow_types(fields);
    let types = keys.iter().map(|key| types[*key].clone()).collect();
    Ok((keys, types))
}

/// Keys are compared as they lie in memory, so both sides must lie there alike.
pub(super) fn check_keys(left: &[DataType], right: &[DataType]) -> Result<(), OperatorError> {
    let alike = |(left, right): (&DataType, &DataType)| match (left, right) {
        (DataType::Decimal128(_, left), DataType::Decimal128(_, right)) => left == right,
        (DataType::Timestamp(left, _), DataType::Timestamp(right, _)) => left == right,
        _ => left.equals_datatype(right),
    };
    if left.len() == right.len() && left.iter().zip(right).all(alike) {
        return Ok(());
    }
    let message = format!("join keys of types {left:?} and {right:?}");
    Err(OperatorError::Plan(message))
}

fn null_row(codec: &RowCodec, fields: &[Field]) -> Result<Vec<u8>, OperatorError> {
    let nulls: Vec<ArrayRef> = arrow_types(fields)
        .iter()
        .map(|data_type| new_null_array(data_type, 1))
        .collect();
    Ok(codec.encode(&nulls, 1)?.row(0).to_vec())
}
