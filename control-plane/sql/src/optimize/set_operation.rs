//! Spells DISTINCT, UNION, INTERSECT and EXCEPT out in joins and aggregates; only UNION ALL stays.
//!
//! INTERSECT ALL and EXCEPT ALL count: both sides are united with a mark of their side, the
//! copies of each row are counted per side, and a row is repeated min(l, r) or l - r times by
//! unnesting an array of that length.

use proto::plan::{AggregateFunction, ScalarFunction};
use proto::types::{DataType, LogicalType};

use crate::error::SqlError;
use crate::logical::{
    AggregateCall, Expr, ExprKind, JoinKind, Literal, LogicalField, LogicalPlan, Schema, SetOp,
};

use super::expr::{bigint, predicate};
use super::plan;

/// Rewrites every set operation and DISTINCT of the plan.
///
/// # Errors
/// Never; the signature is that of all rules.
pub(crate) fn spell_out(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let tree = plan::map_inputs(tree, &mut spell_out)?;
    Ok(match tree {
        LogicalPlan::Distinct { input } => distinct(*input),
        LogicalPlan::SetOperation {
            op,
            all,
            left,
            right,
            schema,
        } => match (op, all) {
            (SetOp::Union, true) => union_all(*left, *right, schema),
            (SetOp::Union, false) => distinct(union_all(*left, *right, schema)),
            (SetOp::Intersect, false) => by_join(*left, *right, JoinKind::Semi),
            (SetOp::Except, false) => by_join(*left, *right, JoinKind::Anti),
            (op, true) => by_counting(op, *left, *right, &schema),
        },
        other => other,
    })
}

fn distinct(input: LogicalPlan) -> LogicalPlan {
    let schema = input.schema().clone();
    // A second of two DISTINCTs, or one over a GROUP BY of all columns, changes nothing.
    if let LogicalPlan::Aggregate {
        calls,
        grouping_sets: None,
        ..
    } = &input
        && calls.is_empty()
    {
        return input;
    }
    LogicalPlan::Aggregate {
        keys: plan::all_columns(&schema),
        input: Box::new(input),
        grouping_sets: None,
        calls: Vec::new(),
        schema,
        ttl_ms: None,
    }
}

pub(super) fn union_all(left: LogicalPlan, right: LogicalPlan, schema: Schema) -> LogicalPlan {
    LogicalPlan::SetOperation {
        op: SetOp::Union,
        all: true,
        left: Box::new(left),
        right: Box::new(right),
        schema,
    }
}

fn by_join(left: LogicalPlan, right: LogicalPlan, kind: JoinKind) -> LogicalPlan {
    let left = distinct(left);
    let width = left.schema().len();
    let pairs = (0..width)
        .map(|i| {
            let l = plan::column(left.schema(), i);
            let r = Expr::column(width + i, right.schema()[i].data_type.clone());
            predicate(ScalarFunction::IsNotDistinctFrom, vec![l, r])
        })
        .collect();
    plan::join(left, right, kind, pairs)
}

fn by_counting(op: SetOp, left: LogicalPlan, right: LogicalPlan, schema: &Schema) -> LogicalPlan {
    let width = schema.len();
    let marks = |l, r| [bigint(l), bigint(r)];
    let united_schema: Schema = with_columns(schema, &["$left", "$right"], &big());
    let united = union_all(
        append(left, marks(1, 0), &united_schema),
        append(right, marks(0, 1), &united_schema),
        united_schema.clone(),
    );
    let sum = |index: usize| AggregateCall {
        function: AggregateFunction::Sum,
        args: vec![Expr::column(index, big())],
        distinct: false,
        filter: None,
        data_type: LogicalType::BigInt.nullable(),
        name: united_schema[index].name.clone(),
    };
    let counted = LogicalPlan::Aggregate {
        input: Box::new(united),
        keys: (0..width)
            .map(|i| plan::column(&united_schema, i))
            .collect(),
        grouping_sets: None,
        calls: vec![sum(width), sum(width + 1)],
        schema: with_columns(
            schema,
            &["$left", "$right"],
            &LogicalType::BigInt.nullable(),
        ),
        ttl_ms: None,
    };
    repeat(op, counted, schema)
}

/// Repeats each row of (columns, left count, right count) as often as the operation says.
fn repeat(op: SetOp, counted: LogicalPlan, schema: &Schema) -> LogicalPlan {
    let width = schema.len();
    let count_type = LogicalType::BigInt.nullable();
    let l = Expr::column(width, count_type.clone());
    let r = Expr::column(width + 1, count_type.clone());
    let (some, copies) = if op == SetOp::Intersect {
        let both =
            [&l, &r].map(|side| predicate(ScalarFunction::Greater, vec![side.clone(), bigint(0)]));
        (
            predicate(ScalarFunction::And, both.to_vec()),
            Expr::call(ScalarFunction::Least, vec![l, r], count_type),
        )
    } else {
        (
            predicate(ScalarFunction::Greater, vec![l.clone(), r.clone()]),
            Expr::call(ScalarFunction::Subtract, vec![l, r], count_type),
        )
    };
    let filtered = plan::filter(counted, vec![some]);
    let element = LogicalType::STRING.not_null();
    let unnested = LogicalPlan::Unnest {
        input: Box::new(filtered),
        collection: array_of_length(copies, &element),
        left: false,
        with_ordinality: false,
        schema: with_columns(
            &with_columns(
                schema,
                &["$left", "$right"],
                &LogicalType::BigInt.nullable(),
            ),
            &["$copy"],
            &element,
        ),
    };
    let columns: Vec<usize> = (0..width).collect();
    plan::select(unnested, &columns)
}

/// An array of n ≥ 1 elements: `SPLIT('x' || REPEAT(',x', n - 1), ',')`.
fn array_of_length(length: Expr, element: &DataType) -> Expr {
    let string = LogicalType::STRING.nullable();
    let text = |s: &str| {
        Expr::literal(
            Literal::String(s.to_owned()),
            LogicalType::STRING.not_null(),
        )
    };
    let more = Expr {
        kind: ExprKind::Cast {
            input: Box::new(Expr::call(
                ScalarFunction::Subtract,
                vec![length, bigint(1)],
                LogicalType::BigInt.nullable(),
            )),
            r#try: false,
        },
        data_type: LogicalType::Int.nullable(),
    };
    let tail = Expr::call(
        ScalarFunction::Repeat,
        vec![text(",x"), more],
        string.clone(),
    );
    let all = Expr::call(ScalarFunction::Concat, vec![text("x"), tail], string);
    Expr::call(
        ScalarFunction::Split,
        vec![all, text(",")],
        LogicalType::Array(Box::new(element.clone())).nullable(),
    )
}

fn append(input: LogicalPlan, values: [Expr; 2], schema: &Schema) -> LogicalPlan {
    let mut exprs = plan::all_columns(input.schema());
    exprs.extend(values);
    LogicalPlan::Project {
        input: Box::new(input),
        exprs,
        schema: schema.clone(),
    }
}

fn big() -> DataType {
    LogicalType::BigInt.not_null()
}

fn with_columns(schema: &Schema, names: &[&str], data_type: &DataType) -> Schema {
    let new = names.iter().map(|name| LogicalField {
        qualifier: None,
        name: (*name).to_owned(),
        data_type: data_type.clone(),
        time: None,
    });
    schema.iter().cloned().chain(new).collect()
}
