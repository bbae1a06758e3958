//! `/*+ OPTIONS(…) */`: a table as one query sees it.

use proto::plan::connector_spec::Connector;
use proto::types::Field;

use super::{Given, Shape};
use crate::catalog::{Column, ColumnKind, Table};
use crate::error::SqlError;
use crate::parse::TableHint;

/// The table with the options of a hint in place of its own.
///
/// # Errors
/// For options that the connector does not take; the connector itself cannot be replaced.
pub(crate) fn with_hint(table: &Table, hint: &TableHint) -> Result<Table, SqlError> {
    let mut given: Vec<Given> = table
        .options
        .iter()
        .map(|(key, value)| Given {
            key: key.clone(),
            value: value.clone(),
            span: None,
        })
        .collect();
    for (key, value) in &hint.options {
        if key == "connector" {
            return Err(SqlError::validate("a hint cannot replace the connector")
                .at(hint.span)
                .hint("create another table for the other connector"));
        }
        given.retain(|given| given.key != *key);
        given.push(Given {
            key: key.clone(),
            value: value.clone(),
            span: Some(hint.span),
        });
    }
    let fields = physical_fields(&table.columns);
    let partition_by = match &table.connector.connector {
        Some(Connector::Filesystem(spec)) => spec.partition_by.as_slice(),
        _ => &[],
    };
    let shape = Shape {
        fields: &fields,
        partition_by,
    };
    let connector = super::resolve(&given, &shape).map_err(|error| error.at(hint.span))?;
    Ok(Table {
        connector,
        options: given
            .into_iter()
            .map(|given| (given.key, given.value))
            .collect(),
        ..table.clone()
    })
}

/// The columns that the connector makes or takes.
pub(crate) fn physical_fields(columns: &[Column]) -> Vec<Field> {
    let physical = columns
        .iter()
        .filter(|column| column.kind == ColumnKind::Physical);
    physical
        .map(|column| Field::new(&column.name, column.data_type.clone()))
        .collect()
}
