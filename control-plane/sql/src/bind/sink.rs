//! What INSERT INTO does to a query: one value per column of the table, in the table's types.

use crate::catalog::{Column, ColumnKind, Table};
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal, LogicalField, LogicalPlan, Schema};

use super::coerce::coerce;
use super::function::shown_type;
use super::scope::column;
use super::types::{equal_but_nullability, implicit_cast_allowed};

/// Checks a query against a sink and casts its columns. The result has the sink's physical columns
/// in declared order. `columns` are positions in the table, where INSERT lists them; the others
/// are NULL.
pub(crate) fn cast_to_sink(
    plan: LogicalPlan,
    sink: &Table,
    columns: Option<&[usize]>,
) -> Result<LogicalPlan, SqlError> {
    let physical: Vec<usize> = sink
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| matches!(column.kind, ColumnKind::Physical))
        .map(|(index, _)| index)
        .collect();
    let targets: &[usize] = columns.unwrap_or(&physical);
    let source = plan.schema().clone();
    if source.len() != targets.len() {
        return Err(wrong_count(&source, sink, targets));
    }
    let mut exprs = Vec::with_capacity(physical.len());
    let mut fields = Vec::with_capacity(physical.len());
    for index in &physical {
        let wanted = &sink.columns[*index];
        let given = targets.iter().position(|target| target == index);
        let given = given.map(|position| (position, &source[position]));
        let expr = sink_value(given, wanted, sink)?;
        let time = match expr.kind {
            ExprKind::Column(position) => source[position].time,
            _ => None,
        };
        fields.push(LogicalField {
            qualifier: None,
            name: wanted.name.clone(),
            data_type: expr.data_type.clone(),
            time,
        });
        exprs.push(expr);
    }
    let schema: Schema = fields.into();
    let identity = exprs.len() == source.len()
        && exprs
            .iter()
            .enumerate()
            .all(|(i, expr)| expr.kind == ExprKind::Column(i))
        && schema.iter().zip(source.iter()).all(|(a, b)| {
            a.name == b.name && equal_but_nullability(&a.data_type.logical, &b.data_type.logical)
        });
    if identity {
        return Ok(plan);
    }
    Ok(LogicalPlan::Project {
        input: Box::new(plan),
        exprs,
        schema,
    })
}

/// The value of one column of the sink, from the query's column if there is one.
fn sink_value(
    given: Option<(usize, &LogicalField)>,
    wanted: &Column,
    sink: &Table,
) -> Result<Expr, SqlError> {
    let to = &wanted.data_type.logical;
    let Some((position, from)) = given else {
        if wanted.data_type.nullable {
            return Ok(Expr::literal(Literal::Null, wanted.data_type.clone()));
        }
        return Err(SqlError::validate(format!(
            "column `{}` of the sink `{}` is NOT NULL and gets no value",
            wanted.name, sink.name
        )));
    };
    let own = &from.data_type.logical;
    if !implicit_cast_allowed(own, to) {
        return Err(SqlError::validate(format!(
            "column `{}` of the query is {own}, but `{}` of the sink `{}` is {to}",
            from.name, wanted.name, sink.name
        ))
        .hint(format!("write CAST({} AS {to})", from.name)));
    }
    Ok(coerce(column(position, from), to))
}

fn wrong_count(source: &Schema, sink: &Table, targets: &[usize]) -> SqlError {
    let shown: Vec<String> = source
        .iter()
        .map(|field| format!("{} {}", field.name, shown_type(&field.data_type)))
        .collect();
    let wanted: Vec<String> = targets
        .iter()
        .map(|index| &sink.columns[*index])
        .map(|column| format!("{} {}", column.name, shown_type(&column.data_type)))
        .collect();
    SqlError::validate(format!(
        "the query has {} columns, the sink `{}` takes {}",
        source.len(),
        sink.name,
        targets.len()
    ))
    .hint(format!(
        "query: ({}); sink: ({})",
        shown.join(", "),
        wanted.join(", ")
    ))
}
