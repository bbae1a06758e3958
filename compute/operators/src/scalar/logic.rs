//! Truth tests and field access. AND and OR are the evaluator's, because they are lazy.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, make_array},
    buffer::{BooleanBuffer, NullBuffer},
    compute::not,
};
use proto::plan::ScalarFunction;

use super::{Kernel, Signature};
use crate::expr::{ExprError, is_true, value::Args};

/// Makes the kernel of a truth test.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    if signature.args.len() != 1 {
        return Err(signature.unsupported());
    }
    let kernel: Kernel = match signature.function {
        F::Not => Box::new(|args| Ok(Arc::new(not(operand(args).as_boolean())?))),
        F::IsNull => Box::new(|args| Ok(never_null(!&valid(args)))),
        F::IsNotNull => Box::new(|args| Ok(never_null(valid(args)))),
        F::IsTrue => Box::new(|args| Ok(never_null(is_true(operand(args).as_boolean())))),
        F::IsNotTrue => Box::new(|args| Ok(never_null(!&is_true(operand(args).as_boolean())))),
        F::IsFalse => Box::new(|args| Ok(never_null(is_false(args)))),
        F::IsNotFalse => Box::new(|args| Ok(never_null(!&is_false(args)))),
        _ => return Err(signature.unsupported()),
    };
    Ok(kernel)
}

fn operand<'a>(args: &Args<'a>) -> &'a ArrayRef {
    args.value(0).array()
}

fn valid(args: &Args<'_>) -> BooleanBuffer {
    match args.value(0).nulls(args.rows) {
        Some(nulls) => nulls.into_inner(),
        None => BooleanBuffer::new_set(args.rows),
    }
}

fn is_false(args: &Args<'_>) -> BooleanBuffer {
    let operand = operand(args).as_boolean();
    match operand.nulls() {
        Some(nulls) => &!operand.values() & nulls.inner(),
        None => !operand.values(),
    }
}

fn never_null(values: BooleanBuffer) -> ArrayRef {
    Arc::new(BooleanArray::new(values, None))
}

/// Field `index` of a ROW: the child column, NULL where the ROW is.
pub(crate) fn field_access(index: usize) -> Kernel {
    Box::new(move |args| {
        let row = operand(args).as_struct();
        let field = row.column(index);
        if row.null_count() == 0 || field.data_type().is_null() {
            return Ok(Arc::clone(field));
        }
        let nulls = NullBuffer::union(row.nulls(), field.nulls());
        let data = field.to_data().into_builder().nulls(nulls).build()?;
        Ok(make_array(data))
    })
}
