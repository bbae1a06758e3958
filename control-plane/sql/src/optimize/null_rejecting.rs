//! Decides whether a condition drops every row in which one side of a join is all NULL.

use std::ops::Range;

use proto::plan::ScalarFunction as F;

use crate::logical::{Expr, ExprKind};

/// Whether the condition cannot be TRUE when all columns of `side` are NULL. May answer no
/// although it holds.
pub(crate) fn rejects_null(condition: &Expr, side: &Range<usize>) -> bool {
    let ExprKind::Call { function, args } = &condition.kind else {
        return is_strict(condition, side);
    };
    match function {
        F::And => args.iter().any(|arg| rejects_null(arg, side)),
        F::Or => args.iter().all(|arg| rejects_null(arg, side)),
        F::IsNotNull | F::IsFalse => args.iter().any(|arg| is_strict(arg, side)),
        F::IsTrue => args.iter().any(|arg| rejects_null(arg, side)),
        _ => is_strict(condition, side),
    }
}

/// Whether the expression is NULL when all columns of `side` are.
fn is_strict(expr: &Expr, side: &Range<usize>) -> bool {
    match &expr.kind {
        ExprKind::Column(index) => side.contains(index),
        ExprKind::Cast { input, .. } | ExprKind::Field { input, .. } => is_strict(input, side),
        ExprKind::Call {
            function: F::In,
            args,
        } => args.first().is_some_and(|value| is_strict(value, side)),
        ExprKind::Call { function, args } => {
            propagates_null(*function) && args.iter().any(|arg| is_strict(arg, side))
        }
        _ => false,
    }
}

/// Functions whose result is NULL as soon as one argument is.
pub(super) fn propagates_null(function: F) -> bool {
    matches!(
        function,
        F::Equal
            | F::NotEqual
            | F::Less
            | F::LessOrEqual
            | F::Greater
            | F::GreaterOrEqual
            | F::Not
            | F::Add
            | F::Subtract
            | F::Multiply
            | F::Divide
            | F::Modulo
            | F::Negate
            | F::AddInterval
            | F::SubtractTimestamps
            | F::MultiplyInterval
            | F::Abs
            | F::Round
            | F::Floor
            | F::Ceil
            | F::Upper
            | F::Lower
            | F::CharLength
            | F::Substring
            | F::Like
            | F::Extract
            | F::FloorTime
            | F::DateFormat
    )
}

#[cfg(test)]
mod tests {
    use proto::types::LogicalType;

    use super::super::expr::predicate;
    use super::*;

    #[test]
    fn conditions_over_the_padded_side() {
        let column = |index| Expr::column(index, LogicalType::Int.nullable());
        let side = 2..4;
        let check = |condition: Expr, expected: bool| {
            assert_eq!(rejects_null(&condition, &side), expected, "{condition:?}");
        };
        let equal = predicate(F::Equal, vec![column(0), column(2)]);
        let is_null = predicate(F::IsNull, vec![column(2)]);
        check(equal.clone(), true);
        check(is_null.clone(), false);
        check(predicate(F::IsNotNull, vec![column(3)]), true);
        check(
            predicate(F::Or, vec![equal.clone(), is_null.clone()]),
            false,
        );
        check(predicate(F::And, vec![equal, is_null]), true);
        check(predicate(F::Equal, vec![column(0), column(1)]), false);
        let default = Expr::call(F::Coalesce, vec![column(2)], LogicalType::Int.nullable());
        check(predicate(F::Equal, vec![default, column(0)]), false);
    }
}
