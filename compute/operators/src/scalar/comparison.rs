//! Comparisons, IN, NULLIF, GREATEST and LEAST. Operands have one type.
//!
//! Floats compare as IEEE does (NaN equals nothing, -0 equals 0), which is not arrow's order.

use std::{cmp::Ordering, collections::HashSet, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray},
    buffer::BooleanBuffer,
    compute::{SortOptions, kernels::cmp, kernels::zip::zip, nullif, or_kleene},
    datatypes::{DataType as ArrowType, Float32Type, Float64Type, Int32Type, Int64Type},
};
use engine::schema::arrow_type;
use proto::plan::ScalarFunction;

use super::{Kernel, Signature, kernel::predicate, moment::Moment};
use crate::expr::{
    EvalError, ExprError, is_true,
    value::{Args, NullAt as _, Value},
};

/// Makes the kernel of a comparison.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    let first = signature
        .args
        .first()
        .ok_or_else(|| signature.unsupported())?;
    let data_type = arrow_type(&first.logical);
    if let Some(kernel) = timestamps_of_two_units(signature) {
        return Ok(kernel);
    }
    let same = |arg: &proto::types::DataType| arrow_type(&arg.logical) == data_type;
    if !signature.args.iter().all(same) {
        return Err(signature.unsupported());
    }
    let comparer = Comparer::of(&data_type);
    match signature.function {
        F::In => return Ok(in_list(signature, comparer)),
        F::Greatest => return Ok(extreme(comparer, Ordering::Greater)),
        F::Least => return Ok(extreme(comparer, Ordering::Less)),
        _ => {}
    }
    if signature.args.len() != 2 {
        return Err(signature.unsupported());
    }
    if signature.function == F::NullIf {
        return Ok(Box::new(move |args| {
            let equal = comparer.compare(Op::Equal, args.value(0), args.value(1), args.rows)?;
            let value = args.value(0).clone().into_array(args.rows)?;
            Ok(nullif(&value, &equal)?)
        }));
    }
    let op = match signature.function {
        F::Equal => Op::Equal,
        F::NotEqual => Op::NotEqual,
        F::Less => Op::Less,
        F::LessOrEqual => Op::LessOrEqual,
        F::Greater => Op::Greater,
        F::GreaterOrEqual => Op::GreaterOrEqual,
        F::IsDistinctFrom => Op::Distinct,
        F::IsNotDistinctFrom => Op::NotDistinct,
        _ => return Err(signature.unsupported()),
    };
    Ok(Box::new(move |args| {
        let result = comparer.compare(op, args.value(0), args.value(1), args.rows)?;
        Ok(Arc::new(result))
    }))
}

/// `<` and its like of timestamps that count in different units: a count in the finer unit does
/// not reach all that the coarser one does.
fn timestamps_of_two_units(signature: &Signature<'_>) -> Option<Kernel> {
    use ScalarFunction as F;
    let [left, right] = signature.args else {
        return None;
    };
    let op = match signature.function {
        F::Less => Op::Less,
        F::LessOrEqual => Op::LessOrEqual,
        F::Greater => Op::Greater,
        F::GreaterOrEqual => Op::GreaterOrEqual,
        _ => return None,
    };
    if !left.logical.is_timestamp() || !right.logical.is_timestamp() {
        return None;
    }
    if arrow_type(&left.logical) == arrow_type(&right.logical) {
        return None;
    }
    let (left, right) = (Moment::of(&left.logical)?, Moment::of(&right.logical)?);
    Some(Box::new(move |args| {
        let (a, b) = (left.counts(args.value(0)), right.counts(args.value(1)));
        let (step_a, step_b) = (args.value(0).step(), args.value(1).step());
        Ok(predicate(args, |row| {
            let a = i128::from(a[row * step_a]) * i128::from(right.per_ms());
            let b = i128::from(b[row * step_b]) * i128::from(left.per_ms());
            op.holds(Some(a.cmp(&b)))
        }))
    }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Distinct,
    NotDistinct,
}

impl Op {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Op::Equal | Op::NotDistinct => ordering == Some(Ordering::Equal),
            Op::NotEqual | Op::Distinct => ordering != Some(Ordering::Equal),
            Op::Less => ordering == Some(Ordering::Less),
            Op::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Op::Greater => ordering == Some(Ordering::Greater),
            Op::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// How values of one type are compared.
#[derive(Clone, Copy)]
pub(crate) enum Comparer {
    Arrow,
    Float,
    Double,
    /// ROW, ARRAY, MAP: value by value, NULLs inside being equal.
    Nested,
    /// Only NULLs.
    Null,
}

impl Comparer {
    pub(crate) fn of(data_type: &ArrowType) -> Comparer {
        match data_type {
            ArrowType::Float32 => Comparer::Float,
            ArrowType::Float64 => Comparer::Double,
            ArrowType::Null => Comparer::Null,
            other if other.is_nested() => Comparer::Nested,
            _ => Comparer::Arrow,
        }
    }

    /// The result of a comparison for `rows` rows.
    pub(crate) fn compare(
        self,
        op: Op,
        a: &Value,
        b: &Value,
        rows: usize,
    ) -> Result<BooleanArray, EvalError> {
        let values = [a.clone(), b.clone()];
        let context = Default::default();
        let args = Args {
            values: &values,
            rows,
            context: &context,
        };
        match self {
            Comparer::Arrow => arrow_compare(op, a, b, rows),
            Comparer::Float => {
                let (a, b) = (
                    args.numbers::<Float32Type>(0),
                    args.numbers::<Float32Type>(1),
                );
                Ok(ordered(op, &args, |row| a.at(row).partial_cmp(&b.at(row))))
            }
            Comparer::Double => {
                let (a, b) = (
                    args.numbers::<Float64Type>(0),
                    args.numbers::<Float64Type>(1),
                );
                Ok(ordered(op, &args, |row| a.at(row).partial_cmp(&b.at(row))))
            }
            Comparer::Null => Ok(ordered(op, &args, |_| Some(Ordering::Equal))),
            Comparer::Nested => {
                let options = SortOptions {
                    descending: false,
                    nulls_first: true,
                };
                let order = arrow::array::make_comparator(a.array(), b.array(), options)?;
                let (step_a, step_b) = (a.step(), b.step());
                Ok(ordered(op, &args, |row| {
                    Some(order(row * step_a, row * step_b))
                }))
            }
        }
    }
}

fn arrow_compare(op: Op, a: &Value, b: &Value, rows: usize) -> Result<BooleanArray, EvalError> {
    let kernel = match op {
        Op::Equal => cmp::eq,
        Op::NotEqual => cmp::neq,
        Op::Less => cmp::lt,
        Op::LessOrEqual => cmp::lt_eq,
        Op::Greater => cmp::gt,
        Op::GreaterOrEqual => cmp::gt_eq,
        Op::Distinct => cmp::distinct,
        Op::NotDistinct => cmp::not_distinct,
    };
    let result = kernel(a, b)?;
    // Two constants give one row.
    if result.len() == rows {
        return Ok(result);
    }
    let result = Value::Scalar(Arc::new(result)).into_array(rows)?;
    Ok(result.as_boolean().clone())
}

fn ordered(op: Op, args: &Args<'_>, order: impl Fn(usize) -> Option<Ordering>) -> BooleanArray {
    if !matches!(op, Op::Distinct | Op::NotDistinct) {
        let result = predicate(args, |row| op.holds(order(row)));
        return result.as_boolean().clone();
    }
    let (nulls_a, nulls_b) = (
        args.value(0).nulls(args.rows),
        args.value(1).nulls(args.rows),
    );
    let is_null = |nulls: &Option<arrow::buffer::NullBuffer>, row: usize| {
        nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    };
    let values = BooleanBuffer::collect_bool(args.rows, |row| {
        match (is_null(&nulls_a, row), is_null(&nulls_b, row)) {
            (true, true) => op == Op::NotDistinct,
            (true, false) | (false, true) => op == Op::Distinct,
            (false, false) => op.holds(order(row)),
        }
    });
    BooleanArray::new(values, None)
}

fn in_list(signature: &Signature<'_>, comparer: Comparer) -> Kernel {
    let list: Option<Vec<ArrayRef>> = signature.constants[1..].iter().cloned().collect();
    if let Some(list) = list
        && let Some(kernel) = in_constants(&list)
    {
        return kernel;
    }
    Box::new(move |args| {
        let mut result: Option<BooleanArray> = None;
        for candidate in &args.values[1..] {
            let equal = comparer.compare(Op::Equal, args.value(0), candidate, args.rows)?;
            result = Some(match result {
                Some(known) => or_kleene(&known, &equal)?,
                None => equal,
            });
        }
        let none = || BooleanArray::from(vec![false; args.rows]);
        Ok(Arc::new(result.unwrap_or_else(none)))
    })
}

/// IN over constants of the common key types: one look-up per row.
fn in_constants(list: &[ArrayRef]) -> Option<Kernel> {
    let has_null = list.iter().any(|item| item.is_null_at(0));
    let items: Vec<&ArrayRef> = list.iter().filter(|item| !item.is_null_at(0)).collect();
    match list.first()?.data_type() {
        ArrowType::Utf8 => {
            let set: HashSet<String> = items
                .iter()
                .map(|item| item.as_string::<i32>().value(0).to_owned())
                .collect();
            Some(Box::new(move |args| {
                let texts = args.strings(0);
                Ok(in_set(args, has_null, |row| set.contains(texts.at(row))))
            }))
        }
        ArrowType::Int32 => {
            let set: Vec<i32> = items
                .iter()
                .map(|item| item.as_primitive::<Int32Type>().value(0))
                .collect();
            Some(Box::new(move |args| {
                let numbers = args.numbers::<Int32Type>(0);
                Ok(in_set(args, has_null, |row| set.contains(&numbers.at(row))))
            }))
        }
        ArrowType::Int64 => {
            let set: Vec<i64> = items
                .iter()
                .map(|item| item.as_primitive::<Int64Type>().value(0))
                .collect();
            Some(Box::new(move |args| {
                let numbers = args.numbers::<Int64Type>(0);
                Ok(in_set(args, has_null, |row| set.contains(&numbers.at(row))))
            }))
        }
        _ => None,
    }
}

/// A miss in a list with NULL is NULL.
fn in_set(args: &Args<'_>, has_null: bool, found: impl FnMut(usize) -> bool) -> ArrayRef {
    let found = BooleanBuffer::collect_bool(args.rows, found);
    let nulls = args.value(0).nulls(args.rows);
    let nulls = if has_null {
        arrow::buffer::NullBuffer::union(nulls.as_ref(), Some(&found.clone().into()))
    } else {
        nulls
    };
    Arc::new(BooleanArray::new(found, nulls))
}

fn extreme(comparer: Comparer, wanted: Ordering) -> Kernel {
    let op = match wanted {
        Ordering::Greater => Op::Greater,
        _ => Op::Less,
    };
    Box::new(move |args| {
        let mut best = args.value(0).clone();
        for candidate in &args.values[1..] {
            let better = comparer.compare(op, candidate, &best, args.rows)?;
            let better = BooleanArray::new(is_true(&better), None);
            let candidate = candidate.clone().into_array(args.rows)?;
            let current = best.into_array(args.rows)?;
            best = Value::Array(zip(&better, &candidate, &current)?);
        }
        let best = best.into_array(args.rows)?;
        let Some(nulls) = args.nulls() else {
            return Ok(best);
        };
        let is_null = BooleanArray::new(!nulls.inner(), None);
        Ok(nullif(&best, &is_null)?)
    })
}
