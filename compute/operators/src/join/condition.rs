//! The condition of a join beyond its keys, evaluated over pairs of rows. Only the columns that it
//! reads are gathered.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
    datatypes::SchemaRef,
};
use engine::{codec::RowCodec, operator::OperatorError, schema::arrow_schema};
use proto::{
    plan::{self, expr::Kind},
    types::Field,
};

use super::shape::{LEFT, RIGHT};
use crate::{CompiledExpr, EvalContext};

/// A condition over the columns of both sides.
#[derive(Debug)]
pub(super) struct JoinCondition {
    predicate: CompiledExpr,
    /// Per side: the columns that the condition reads.
    columns: [Vec<usize>; 2],
    schema: SchemaRef,
}

impl JoinCondition {
    /// Compiles a condition over left columns, then right columns.
    pub(super) fn compile(expr: &plan::Expr, inputs: [&[Field]; 2]) -> Result<Self, OperatorError> {
        let left = inputs[LEFT].len();
        let mut read = Vec::new();
        collect_columns(expr, &mut read);
        read.sort_unstable();
        read.dedup();
        if read
            .last()
            .is_some_and(|last| *last >= left + inputs[RIGHT].len())
        {
            let message = "a join condition reads a column that is not there";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let mut compact = expr.clone();
        renumber(&mut compact, &read);
        let field = |column: &usize| match column.checked_sub(left) {
            None => inputs[LEFT][*column].clone(),
            Some(right) => inputs[RIGHT][right].clone(),
        };
        let fields: Vec<Field> = read.iter().map(field).collect();
        let predicate = CompiledExpr::compile(&compact, &fields)
            .map_err(|error| OperatorError::Plan(error.to_string()))?;
        let (left_read, right_read): (Vec<usize>, Vec<usize>) =
            read.iter().partition(|column| **column < left);
        let right_read = right_read.iter().map(|column| column - left).collect();
        Ok(JoinCondition {
            predicate,
            columns: [left_read, right_read],
            schema: arrow_schema(&fields),
        })
    }

    /// For each pair whether the condition is TRUE. The pair is row `own[i]` of `columns`, which
    /// are those of `side`, and row `other[i]`, bytes of `codec`.
    pub(super) fn evaluate(
        &self,
        side: usize,
        columns: &[ArrayRef],
        own: &[u32],
        codec: &RowCodec,
        other: &[&[u8]],
        eval: &EvalContext,
    ) -> Result<BooleanArray, OperatorError> {
        let indices = UInt32Array::from(own.to_vec());
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for of in [LEFT, RIGHT] {
            for column in &self.columns[of] {
                arrays.push(if of == side {
                    take(&columns[*column], &indices, None)?
                } else {
                    codec.decode_column(*column, other)?
                });
            }
        }
        self.of_pairs(arrays, own.len(), eval)
    }

    /// For each pair whether the condition is TRUE. Pair i is row `rows[side][i]` of the columns of each
    /// side.
    pub(super) fn evaluate_columns(
        &self,
        columns: [&[ArrayRef]; 2],
        rows: [&UInt32Array; 2],
        eval: &EvalContext,
    ) -> Result<BooleanArray, OperatorError> {
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for of in [LEFT, RIGHT] {
            for column in &self.columns[of] {
                arrays.push(take(&columns[of][*column], rows[of], None)?);
            }
        }
        self.of_pairs(arrays, rows[LEFT].len(), eval)
    }

    fn of_pairs(
        &self,
        arrays: Vec<ArrayRef>,
        count: usize,
        eval: &EvalContext,
    ) -> Result<BooleanArray, OperatorError> {
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let pairs = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        self.predicate
            .evaluate_predicate(&pairs, eval)
            .map_err(|error| OperatorError::Evaluate(error.to_string()))
    }
}

fn collect_columns(expr: &plan::Expr, read: &mut Vec<usize>) {
    if let Some(Kind::Column(index)) = &expr.kind {
        read.push(*index as usize);
    }
    children(expr).for_each(|child| collect_columns(child, read));
}

/// Makes column references positions in `read`.
fn renumber(expr: &mut plan::Expr, read: &[usize]) {
    match &mut expr.kind {
        Some(Kind::Column(index)) => {
            *index = read.partition_point(|column| *column < *index as usize) as u32;
        }
        Some(Kind::Call(call)) => call.args.iter_mut().for_each(|arg| renumber(arg, read)),
        Some(Kind::Cast(cast)) => cast.input.iter_mut().for_each(|arg| renumber(arg, read)),
        Some(Kind::Field(field)) => field.input.iter_mut().for_each(|arg| renumber(arg, read)),
        Some(Kind::Case(case)) => {
            for branch in &mut case.branches {
                branch
                    .condition
                    .iter_mut()
                    .for_each(|arg| renumber(arg, read));
                branch.result.iter_mut().for_each(|arg| renumber(arg, read));
            }
            case.otherwise
                .iter_mut()
                .for_each(|arg| renumber(arg, read));
        }
        Some(Kind::Literal(_)) | None => {}
    }
}

fn children(expr: &plan::Expr) -> Box<dyn Iterator<Item = &plan::Expr> + '_> {
    match &expr.kind {
        Some(Kind::Call(call)) => Box::new(call.args.iter()),
        Some(Kind::Cast(cast)) => Box::new(cast.input.iter().map(AsRef::as_ref)),
        Some(Kind::Field(field)) => Box::new(field.input.iter().map(AsRef::as_ref)),
        Some(Kind::Case(case)) => {
            let branches = case.branches.iter();
            let branches = branches.flat_map(|when| when.condition.iter().chain(&when.result));
            Box::new(branches.chain(case.otherwise.iter().map(AsRef::as_ref)))
        }
        Some(Kind::Column(_) | Kind::Literal(_)) | None => Box::new(std::iter::empty()),
    }
}
