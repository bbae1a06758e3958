//! Simplifies expressions: flattened AND and OR, constants in logic, CASE whose branches are
//! known, casts that change nothing. Never changes a value, and never hides a failure that a row
//! would have met.

use proto::plan::ScalarFunction;
use proto::types::LogicalType;

use crate::error::SqlError;
use crate::logical::{AggregateCall, Expr, ExprKind, Literal, LogicalPlan, OverFunction};

use super::expr::{is_truth, null, transform, truth};
use super::plan;

/// Simplifies every expression of the plan.
pub(crate) fn simplify_plan(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let mut tree = plan::map_inputs(tree, &mut simplify_plan)?;
    match &mut tree {
        LogicalPlan::Project { exprs, .. } => simplify_each(exprs),
        LogicalPlan::Filter { predicate, .. } => simplify_in_place(predicate),
        LogicalPlan::Join { condition, .. } => {
            condition.iter_mut().for_each(simplify_in_place);
            if condition.as_ref().is_some_and(|c| is_truth(c, true)) {
                *condition = None;
            }
        }
        LogicalPlan::TemporalJoin { condition, .. } => simplify_in_place(condition),
        LogicalPlan::Aggregate { keys, calls, .. } => {
            simplify_each(keys);
            calls.iter_mut().for_each(simplify_call);
        }
        LogicalPlan::Values { rows, .. } => rows.iter_mut().for_each(|row| simplify_each(row)),
        LogicalPlan::Over { calls, .. } => {
            for call in calls {
                simplify_each(&mut call.partition_by);
                match &mut call.function {
                    OverFunction::Lag { args } => simplify_each(args),
                    OverFunction::Aggregate(call) => simplify_call(call),
                    _ => {}
                }
            }
        }
        LogicalPlan::Unnest { collection, .. } => simplify_in_place(collection),
        _ => {}
    }
    Ok(match tree {
        LogicalPlan::Filter { input, predicate } if is_truth(&predicate, true) => *input,
        other => other,
    })
}

fn simplify_call(call: &mut AggregateCall) {
    simplify_each(&mut call.args);
    call.filter.iter_mut().for_each(simplify_in_place);
    if call.filter.as_ref().is_some_and(|c| is_truth(c, true)) {
        call.filter = None;
    }
}

fn simplify_each(exprs: &mut [Expr]) {
    exprs.iter_mut().for_each(simplify_in_place);
}

fn simplify_in_place(expr: &mut Expr) {
    let taken = std::mem::replace(expr, truth(true));
    *expr = simplify(taken);
}

/// Simplifies one expression. The type's nullability may become stricter.
pub(crate) fn simplify(expr: Expr) -> Expr {
    transform(expr, &mut step)
}

fn step(expr: Expr) -> Expr {
    let Expr { kind, data_type } = expr;
    match kind {
        ExprKind::Call { function, args } => call(function, args, data_type),
        ExprKind::Cast { input, .. } if input.data_type.logical == data_type.logical => *input,
        ExprKind::Cast { input, .. } if is_null(&input) => null(&data_type),
        ExprKind::Cast { input, r#try } => cast(*input, r#try, data_type),
        ExprKind::Case {
            branches,
            otherwise,
        } => case(branches, *otherwise, data_type),
        kind => Expr { kind, data_type },
    }
}

/// An exact number cast to a type that holds it is that number.
fn cast(input: Expr, r#try: bool, data_type: proto::types::DataType) -> Expr {
    if let LogicalType::Decimal { precision, scale } = data_type.logical
        && let Some(text) = decimal_text(&input, precision, scale)
    {
        return Expr::literal(Literal::Decimal(text), data_type.with_nullable(false));
    }
    if let ExprKind::Literal(Literal::Integer(value)) = input.kind
        && input.data_type.logical.is_integer()
        && integer_fits(value, &data_type.logical)
    {
        return Expr::literal(Literal::Integer(value), data_type.with_nullable(false));
    }
    Expr {
        kind: ExprKind::Cast {
            input: Box::new(input),
            r#try,
        },
        data_type,
    }
}

/// The constant written with `scale` digits after the point; `None` if it does not fit as it is.
fn decimal_text(input: &Expr, precision: u8, scale: u8) -> Option<String> {
    let text = match &input.kind {
        ExprKind::Literal(Literal::Integer(value)) if input.data_type.logical.is_integer() => {
            value.to_string()
        }
        ExprKind::Literal(Literal::Decimal(text)) => text.clone(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = whole.trim_start_matches(['-', '0']).len();
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    if fraction.len() > scale || digits + scale > precision {
        return None;
    }
    let point = if scale > 0 { "." } else { "" };
    Some(format!("{whole}{point}{fraction:0<scale$}"))
}

fn integer_fits(value: i64, logical: &LogicalType) -> bool {
    match logical {
        LogicalType::TinyInt => i8::try_from(value).is_ok(),
        LogicalType::SmallInt => i16::try_from(value).is_ok(),
        LogicalType::Int => i32::try_from(value).is_ok(),
        LogicalType::BigInt => true,
        _ => false,
    }
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr, data_type: proto::types::DataType) -> Expr {
    let mut kept: Vec<(Expr, Expr)> = Vec::new();
    let mut last = otherwise;
    for (condition, result) in branches {
        if is_truth(&condition, true) {
            last = result;
            break;
        }
        if !is_truth(&condition, false) && !is_null(&condition) {
            kept.push((condition, result));
        }
    }
    if kept.is_empty() && last.data_type.logical == data_type.logical {
        return last;
    }
    Expr {
        kind: ExprKind::Case {
            branches: kept,
            otherwise: Box::new(last),
        },
        data_type,
    }
}

fn call(function: ScalarFunction, args: Vec<Expr>, data_type: proto::types::DataType) -> Expr {
    use ScalarFunction as F;
    match (function, args.as_slice()) {
        (F::And, _) => return junction(F::And, args, data_type),
        (F::Or, _) => return junction(F::Or, args, data_type),
        (F::Not, [arg]) => return not(arg.clone(), data_type),
        (F::IsNull, [arg]) if is_null(arg) => return truth(true),
        (F::IsNotNull, [arg]) if is_null(arg) => return truth(false),
        (F::IsNull, [arg]) if !arg.data_type.nullable && is_safe(arg) => return truth(false),
        (F::IsNotNull, [arg]) if !arg.data_type.nullable && is_safe(arg) => return truth(true),
        (F::IsTrue | F::IsNotFalse, [arg]) if is_truth(arg, true) => return truth(true),
        (F::IsTrue | F::IsNotFalse, [arg]) if is_truth(arg, false) => return truth(false),
        (F::IsFalse | F::IsNotTrue, [arg]) if is_truth(arg, true) => return truth(false),
        (F::IsFalse | F::IsNotTrue, [arg]) if is_truth(arg, false) => return truth(true),
        (F::Equal, [a, b]) => match literals_equal(a, b) {
            Some(equal) => return truth(equal),
            None if is_null(a) || is_null(b) => return null(&data_type),
            None => {}
        },
        (F::NotEqual, [a, b]) => {
            if let Some(equal) = literals_equal(a, b) {
                return truth(!equal);
            }
        }
        (F::In, [value, list @ ..]) if matches!(value.kind, ExprKind::Literal(_)) => {
            let known: Option<Vec<bool>> = list
                .iter()
                .map(|item| literals_equal(value, item))
                .collect();
            if let Some(known) = known {
                return truth(known.contains(&true));
            }
        }
        _ => {}
    }
    Expr::call(function, args, data_type)
}

/// Flattens AND (OR), drops its neutral element, and is decided by its absorbing one.
fn junction(function: ScalarFunction, args: Vec<Expr>, data_type: proto::types::DataType) -> Expr {
    let neutral = function == ScalarFunction::And;
    let mut kept: Vec<Expr> = Vec::new();
    for arg in args {
        let parts = match arg.kind {
            ExprKind::Call {
                function: inner,
                args,
            } if inner == function => args,
            kind => vec![Expr {
                kind,
                data_type: arg.data_type,
            }],
        };
        for part in parts {
            if is_truth(&part, !neutral) {
                return truth(!neutral);
            }
            if !is_truth(&part, neutral) && !kept.contains(&part) {
                kept.push(part);
            }
        }
    }
    match kept.len() {
        0 => truth(neutral),
        1 => kept.remove(0),
        _ => Expr::call(function, kept, data_type),
    }
}

fn not(arg: Expr, data_type: proto::types::DataType) -> Expr {
    use ScalarFunction as F;
    if is_truth(&arg, true) || is_truth(&arg, false) {
        return truth(is_truth(&arg, false));
    }
    if is_null(&arg) {
        return null(&data_type);
    }
    if let ExprKind::Call { function, args } = &arg.kind {
        let opposite = match function {
            F::Not => return args[0].clone(),
            F::IsNull => Some(F::IsNotNull),
            F::IsNotNull => Some(F::IsNull),
            F::IsTrue => Some(F::IsNotTrue),
            F::IsNotTrue => Some(F::IsTrue),
            F::IsFalse => Some(F::IsNotFalse),
            F::IsNotFalse => Some(F::IsFalse),
            F::Equal => Some(F::NotEqual),
            F::NotEqual => Some(F::Equal),
            F::IsDistinctFrom => Some(F::IsNotDistinctFrom),
            F::IsNotDistinctFrom => Some(F::IsDistinctFrom),
            _ => None,
        };
        if let Some(opposite) = opposite {
            return Expr::call(opposite, args.clone(), data_type);
        }
    }
    Expr::call(F::Not, vec![arg], data_type)
}

fn is_null(expr: &Expr) -> bool {
    expr.kind == ExprKind::Literal(Literal::Null)
}

/// Whether leaving the expression out cannot hide a failure.
fn is_safe(expr: &Expr) -> bool {
    super::expr::is_trivial(expr)
}

/// Whether two constants of one type are equal; `None` if they are no constants, or their type
/// compares otherwise than their text.
fn literals_equal(a: &Expr, b: &Expr) -> Option<bool> {
    if a.data_type.logical != b.data_type.logical {
        return None;
    }
    match (&a.kind, &b.kind) {
        (
            ExprKind::Literal(a @ (Literal::Boolean(_) | Literal::Integer(_) | Literal::String(_))),
            ExprKind::Literal(b),
        ) if *b != Literal::Null => Some(a == b),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proto::types::DataType;

    use super::super::expr::{boolean, predicate};
    use super::*;

    fn int(value: i64) -> Expr {
        Expr::literal(Literal::Integer(value), LogicalType::Int.not_null())
    }

    fn column(index: usize) -> Expr {
        Expr::column(index, LogicalType::Int.nullable())
    }

    #[test]
    fn exact_constants_are_cast_at_once() {
        let decimal = |precision, scale| LogicalType::Decimal { precision, scale }.not_null();
        let cast = |value, data_type: &DataType| Expr {
            kind: ExprKind::Cast {
                input: Box::new(int(value)),
                r#try: false,
            },
            data_type: data_type.clone(),
        };
        let text = |text: &str, data_type: &DataType| {
            Expr::literal(Literal::Decimal(text.to_owned()), data_type.clone())
        };
        let wide = decimal(12, 3);
        check(cast(1_000_000, &wide), text("1000000.000", &wide));
        check(cast(-5, &wide), text("-5.000", &wide));
        let narrow = decimal(3, 0);
        check(cast(999, &narrow), text("999", &narrow));
        check(cast(1000, &narrow), cast(1000, &narrow));
    }

    fn check(input: Expr, expected: Expr) {
        assert_eq!(simplify(input), expected);
    }

    #[test]
    fn logic_with_constants() {
        let unknown = predicate(ScalarFunction::Equal, vec![column(0), int(1)]);
        check(
            predicate(ScalarFunction::And, vec![truth(true), unknown.clone()]),
            unknown.clone(),
        );
        check(
            predicate(ScalarFunction::Or, vec![truth(true), unknown.clone()]),
            truth(true),
        );
        check(
            predicate(ScalarFunction::Not, vec![unknown.clone()]),
            predicate(ScalarFunction::NotEqual, vec![column(0), int(1)]),
        );
        check(
            predicate(ScalarFunction::IsNull, vec![unknown.clone()]),
            predicate(ScalarFunction::IsNull, vec![unknown]),
        );
    }

    #[test]
    fn case_with_known_branches() {
        let data_type: DataType = LogicalType::Int.nullable();
        let branch = |a, b| predicate(ScalarFunction::Equal, vec![int(a), int(b)]);
        let case = |branches| Expr {
            kind: ExprKind::Case {
                branches,
                otherwise: Box::new(column(2)),
            },
            data_type: data_type.clone(),
        };
        check(
            case(vec![(branch(2, 0), column(0)), (branch(2, 1), column(1))]),
            column(2),
        );
        check(case(vec![(branch(2, 2), column(0))]), column(0));
        let open = Expr::column(3, boolean());
        check(
            case(vec![(open.clone(), column(0)), (branch(1, 1), column(1))]),
            Expr {
                kind: ExprKind::Case {
                    branches: vec![(open, column(0))],
                    otherwise: Box::new(column(1)),
                },
                data_type: data_type.clone(),
            },
        );
    }
}
