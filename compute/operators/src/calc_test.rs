//! Calc: filter, sharing, row kinds.

use std::sync::Arc;

use arrow::array::{Int32Array, StringArray};
use engine::{ChangeBatch, Kinds};
use proto::{
    plan::Calc,
    types::{Field, LogicalType, RowKind},
};

use super::{EvalContext, EvalError, Projector};
use crate::expr::testing::Table;

fn table() -> Table {
    Table::new(vec![
        (
            "a",
            "INT",
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4)])),
        ),
        (
            "s",
            "STRING",
            Arc::new(StringArray::from(vec!["x", "y", "z", "w"])),
        ),
    ])
}

fn project(condition: Option<&str>, projections: &[&str]) -> Option<ChangeBatch> {
    try_project(condition, projections).unwrap()
}

fn try_project(
    condition: Option<&str>,
    projections: &[&str],
) -> Result<Option<ChangeBatch>, EvalError> {
    let table = table();
    let calc = Calc {
        condition: condition.map(|text| table.expr(text)),
        projections: projections.iter().map(|text| table.expr(text)).collect(),
    };
    let output: Vec<Field> = projections
        .iter()
        .map(|text| Field::new(*text, LogicalType::Int.nullable()))
        .collect();
    let projector = Projector::compile(&calc, &table.fields, &output).unwrap();
    let kinds = Kinds::from_iter_kinds([
        RowKind::Insert,
        RowKind::Delete,
        RowKind::UpdateBefore,
        RowKind::UpdateAfter,
    ]);
    let batch = ChangeBatch::changes(table.batch.clone(), Some(kinds));
    projector.evaluate(&batch, &EvalContext::default())
}

#[test]
fn a_failure_names_its_place() {
    let check = |condition: Option<&str>, projection: &str, expected: &str| {
        let error = try_project(condition, &["s", projection]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        None,
        "CAST(s)::INT",
        "failed to cast `x` to INT, for column `CAST(s)::INT`",
    );
    check(
        Some("GREATER(DIVIDE(a, SUBTRACT(a, a)::INT)::INT, 1)::BOOLEAN"),
        "s",
        "division by zero in /, in a condition",
    );
}

#[test]
fn filters_rows_and_their_kinds() {
    let result = project(Some("GREATER(a, 1)::BOOLEAN"), &["s", "ADD(a, 1)::INT"]).unwrap();
    assert_eq!(result.num_rows(), 2);
    assert_eq!(result.kind(0), RowKind::UpdateBefore);
    assert_eq!(result.kind(1), RowKind::UpdateAfter);
    let expected: arrow::array::ArrayRef = Arc::new(Int32Array::from(vec![4, 5]));
    assert_eq!(result.rows.column(1), &expected);
    assert!(project(Some("GREATER(a, 9)::BOOLEAN"), &["s"]).is_none());
}

#[test]
fn columns_are_not_copied() {
    let table = table();
    let result = project(Some("TRUE"), &["s", "7"]).unwrap();
    assert_eq!(result.num_rows(), 4);
    assert_eq!(result.rows.column(1).len(), 4);
    assert_eq!(result.rows.column(0), table.batch.column(1));
    let none = project(None, &[]).unwrap();
    assert_eq!(none.num_rows(), 4);
}
