//! Logical expressions to the plan's.

use proto::plan::{self as wire, NullValue, literal::Value};

use crate::logical::{Expr, ExprKind, Literal};

/// The wire form. Subqueries and references to enclosing queries are gone by now; should one be
/// left, it becomes a NULL that [`crate::lint`] reports.
pub(crate) fn to_wire(expr: &Expr) -> wire::Expr {
    let data_type = &expr.data_type;
    match &expr.kind {
        ExprKind::Column(index) => wire::Expr::column(*index, data_type),
        ExprKind::Literal(literal) => wire::Expr::literal(literal_value(literal), data_type),
        ExprKind::Call { function, args } => {
            wire::Expr::call(*function, args.iter().map(to_wire).collect(), data_type)
        }
        ExprKind::Cast { input, r#try } => wire::Expr::cast(to_wire(input), data_type, *r#try),
        ExprKind::Case {
            branches,
            otherwise,
        } => wire::Expr::case(
            branches
                .iter()
                .map(|(condition, result)| (to_wire(condition), to_wire(result)))
                .collect(),
            to_wire(otherwise),
            data_type,
        ),
        ExprKind::Field { input, index } => wire::Expr::field(to_wire(input), *index, data_type),
        ExprKind::OuterColumn { .. }
        | ExprKind::ScalarSubquery(_)
        | ExprKind::InSubquery { .. }
        | ExprKind::Exists(_) => wire::Expr {
            kind: None,
            r#type: data_type.to_string(),
        },
    }
}

fn literal_value(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null(NullValue::Null as i32),
        Literal::Boolean(value) => Value::Boolean(*value),
        Literal::Integer(value) => Value::Integer(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::Decimal(text) => Value::Decimal(text.clone()),
        Literal::String(text) => Value::String(text.clone()),
        Literal::Binary(bytes) => Value::Binary(bytes.clone()),
    }
}
