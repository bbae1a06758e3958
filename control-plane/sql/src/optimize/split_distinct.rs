//! DISTINCT aggregates in two steps, after Flink's `table.optimizer.distinct-agg.split`: first per group
//! and bucket of the values, then per group over its buckets. A group whose values all go to one task,
//! or a query without GROUP BY, is spread over as many tasks as it has buckets.
//!
//! Where values of several expressions are counted, every row goes through once for each of them, and
//! each copy carries only what is counted by its buckets.

use proto::plan::{AggregateFunction, ScalarFunction, WindowKind};
use proto::types::{DataType, LogicalType};

use crate::error::SqlError;
use crate::logical::{AggregateCall, Expr, LogicalPlan, Schema};

use super::expr::{bigint, is_deterministic, null, truth};
use super::plan;
use super::set_operation::union_all;

/// Splits the DISTINCT aggregates of a whole query into `buckets` buckets, where that gives the same.
///
/// # Errors
/// Never; the signature is that of all rules.
pub(crate) fn split_distinct(tree: LogicalPlan, buckets: u32) -> Result<LogicalPlan, SqlError> {
    let tree = plan::map_inputs(tree, &mut |input| split_distinct(input, buckets))?;
    Ok(match values_to_split(&tree) {
        Some(values) => split(tree, &values, buckets),
        None => tree,
    })
}

/// The expressions whose distinct values matter, of an aggregate that gives the same in two steps.
fn values_to_split(tree: &LogicalPlan) -> Option<Vec<Expr>> {
    let LogicalPlan::Aggregate {
        input,
        keys,
        grouping_sets: None,
        calls,
        ..
    } = tree
    else {
        return None;
    };
    let mut values: Vec<Expr> = Vec::new();
    for value in calls.iter().filter_map(distinct_value) {
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    let windows = window(input);
    // The bucket is computed beside the value, and each copy of a row has its own group and filters.
    let mut read: Vec<&Expr> = values.iter().collect();
    if values.len() > 1 {
        read.extend(keys.iter().chain(calls.iter().flat_map(|c| &c.filter)));
    }
    let possible = calls.iter().all(is_mergeable)
        && read.into_iter().all(is_deterministic)
        && match values.len() {
            0 => false,
            1 => windows != Windows::OfGroups,
            // Copies of rows would have to be put into their windows before.
            _ => windows == Windows::None,
        };
    possible.then_some(values)
}

fn split(tree: LogicalPlan, values: &[Expr], buckets: u32) -> LogicalPlan {
    let LogicalPlan::Aggregate {
        input,
        keys,
        calls,
        schema,
        ttl_ms,
        ..
    } = tree
    else {
        return tree;
    };
    let (input, inner_keys, inner_calls) = by_bucket(*input, &keys, &calls, values, buckets);
    let bucket_keys = &inner_keys[keys.len()..];
    let names = ["$bucket", "$values"];
    let inner_schema: Schema = schema[..keys.len()]
        .iter()
        .cloned()
        .chain((bucket_keys.iter().zip(names)).map(|(key, name)| plan::field(name, key)))
        .chain(schema[keys.len()..].iter().cloned())
        .collect();
    let first_call = inner_keys.len();
    let inner = LogicalPlan::Aggregate {
        input: Box::new(input),
        keys: inner_keys,
        grouping_sets: None,
        calls: inner_calls,
        schema: inner_schema.clone(),
        ttl_ms,
    };
    let merge = |(index, call): (usize, &AggregateCall)| {
        merge_call(call, plan::column(&inner_schema, first_call + index))
    };
    let merged = LogicalPlan::Aggregate {
        input: Box::new(inner),
        keys: (0..keys.len())
            .map(|key| plan::column(&inner_schema, key))
            .collect(),
        grouping_sets: None,
        calls: calls.iter().enumerate().map(merge).collect(),
        schema: schema.clone(),
        ttl_ms,
    };
    match keys.is_empty() {
        true => zero_for_none(merged, &calls),
        false => merged,
    }
}

/// What windows the input's rows are in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Windows {
    None,
    /// That a row alone tells.
    OfRows,
    /// That depend on the group or on the clock: rows of one bucket would have others.
    OfGroups,
}

fn window(input: &LogicalPlan) -> Windows {
    match input {
        LogicalPlan::Project { input, .. } | LogicalPlan::Filter { input, .. } => window(input),
        LogicalPlan::Window { function, .. } => {
            match function.kind == WindowKind::Session || function.processing_time {
                true => Windows::OfGroups,
                false => Windows::OfRows,
            }
        }
        _ => Windows::None,
    }
}

/// MIN and MAX do not care how often a value is there.
fn distinct_value(call: &AggregateCall) -> Option<&Expr> {
    use AggregateFunction as A;
    let counts = call.distinct && !matches!(call.function, A::Min | A::Max);
    call.args.first().filter(|_| counts)
}

/// Digits that a DECIMAL sum has beyond its values: sums of so many of them are no NULL for their size.
const SUM_DIGITS: u8 = 10;

/// Whether results over parts of a group give the result over all of it. Sums of approximate numbers
/// do not, once parts change, and a part whose sum has too many digits is NULL, where the sum of all may
/// have less.
fn is_mergeable(call: &AggregateCall) -> bool {
    use AggregateFunction as A;
    match call.function {
        A::Count => call.args.len() <= 1,
        A::Min | A::Max => true,
        A::Sum => match call.args.first().map(|arg| &arg.data_type.logical) {
            Some(LogicalType::Decimal { precision, .. }) => precision + SUM_DIGITS <= 38,
            _ => !call.data_type.logical.is_approximate_numeric(),
        },
        _ => false,
    }
}

/// Input, keys and calls of the first step.
fn by_bucket(
    input: LogicalPlan,
    keys: &[Expr],
    calls: &[AggregateCall],
    values: &[Expr],
    buckets: u32,
) -> (LogicalPlan, Vec<Expr>, Vec<AggregateCall>) {
    if let [value] = values {
        let keys = keys.iter().cloned().chain([bucket(value, buckets)]);
        return (input, keys.collect(), calls.to_vec());
    }
    // Each copy: keys, its bucket, which copy it is, then arguments and filters, NULL and FALSE in the
    // copies that are not for their call.
    let columns: Vec<(usize, Expr)> = calls.iter().flat_map(|c| operands(c, values)).collect();
    let copy = |number: usize| {
        let own = columns.iter().map(|(of, expr)| match *of == number {
            true => expr.clone(),
            false => null(&expr.data_type),
        });
        let exprs: Vec<Expr> = keys
            .iter()
            .cloned()
            .chain([bucket(&values[number], buckets), bigint(number as i64)])
            .chain(own)
            .collect();
        let fields = exprs.iter().enumerate().map(|(index, expr)| {
            let nullable = expr.data_type.nullable || index >= keys.len() + 2;
            let mut field = plan::field(format!("$copy{index}"), expr);
            field.data_type = field.data_type.with_nullable(nullable);
            field
        });
        LogicalPlan::Project {
            schema: fields.collect(),
            input: Box::new(input.clone()),
            exprs,
        }
    };
    let copies = (1..values.len()).fold(copy(0), |copies, number| {
        let schema = copies.schema().clone();
        union_all(copies, copy(number), schema)
    });
    let schema = copies.schema().clone();
    let mut next = keys.len() + 2;
    let mut column = || {
        next += 1;
        plan::column(&schema, next - 1)
    };
    let inner = calls.iter().map(|call| AggregateCall {
        args: call.args.iter().map(|_| column()).collect(),
        filter: has_filter(call).then(&mut column),
        ..call.clone()
    });
    let inner = inner.collect();
    let keys = (0..keys.len() + 2).map(|key| plan::column(&schema, key));
    (copies, keys.collect(), inner)
}

/// Whether a call has a filter in the first step: counting rows needs one to leave out copies.
fn has_filter(call: &AggregateCall) -> bool {
    call.filter.is_some() || call.args.is_empty()
}

/// What a call reads, with the copy that it counts.
fn operands(call: &AggregateCall, values: &[Expr]) -> Vec<(usize, Expr)> {
    let own = distinct_value(call).and_then(|value| values.iter().position(|v| v == value));
    let own = own.unwrap_or_default();
    let filter = has_filter(call).then(|| {
        let filter = call.filter.clone();
        filter.unwrap_or_else(|| truth(true))
    });
    let operands = call.args.iter().cloned().chain(filter);
    operands.map(|operand| (own, operand)).collect()
}

fn bucket(value: &Expr, buckets: u32) -> Expr {
    let count = bigint(i64::from(buckets));
    let args = vec![value.clone(), count];
    Expr::call(
        ScalarFunction::HashBucket,
        args,
        LogicalType::Int.not_null(),
    )
}

/// A call of the second step over its partial results.
fn merge_call(call: &AggregateCall, partial: Expr) -> AggregateCall {
    let function = match call.function {
        AggregateFunction::Count => AggregateFunction::Sum,
        other => other,
    };
    AggregateCall {
        function,
        args: vec![partial],
        distinct: false,
        filter: None,
        data_type: call.data_type.clone(),
        name: call.name.clone(),
    }
}

/// Over no rows at all a count is 0, where the sum of no counts is NULL.
fn zero_for_none(mut merged: LogicalPlan, calls: &[AggregateCall]) -> LogicalPlan {
    let result = merged.schema().clone();
    if let LogicalPlan::Aggregate { calls, schema, .. } = &mut merged {
        let nullable = |data_type: &DataType| data_type.clone().with_nullable(true);
        for call in calls.iter_mut() {
            call.data_type = nullable(&call.data_type);
        }
        let mut fields = schema.to_vec();
        for field in &mut fields {
            field.data_type = nullable(&field.data_type);
        }
        *schema = fields.into();
    }
    let exprs = calls.iter().enumerate().map(|(index, call)| {
        let sum = plan::column(merged.schema(), index);
        match call.function {
            AggregateFunction::Count => Expr::call(
                ScalarFunction::Coalesce,
                vec![sum, bigint(0)],
                call.data_type.clone(),
            ),
            _ => sum,
        }
    });
    LogicalPlan::Project {
        exprs: exprs.collect(),
        schema: result,
        input: Box::new(merged),
    }
}
