//! CREATE TABLE to a catalog table: names resolved, expressions bound, connector
//! options read.

use std::collections::BTreeSet;

use proto::types::{DataType, LogicalType};
use sqlparser::ast::{Ident, Spanned};

use crate::bind::{self, BindContext};
use crate::catalog::{Catalog, Column, ColumnKind, Table, WatermarkSpec, simple_name};
use crate::connector::{self, Given, Shape, physical_fields};
use crate::error::SqlError;
use crate::logical::{Expr, LogicalField, Schema};
use crate::parse::{ColumnDef, ColumnDefKind, CreateTable, WatermarkDef};
use crate::suggest::nearest;

/// The table that a CREATE TABLE declares. Does not put it into the catalog.
///
/// # Errors
/// For whatever is wrong with a column, key, watermark or option.
pub(crate) fn table(
    create: &CreateTable,
    catalog: &Catalog,
    context: &BindContext<'_>,
) -> Result<Table, SqlError> {
    let name = simple_name(&create.name)?;
    if create.columns.is_empty() {
        return Err(SqlError::validate(format!("table `{name}` has no columns"))
            .at_parser(create.name.span())
            .hint("list its columns in parentheses after the name"));
    }
    unique_names(&create.columns)?;
    let primary_key = primary_key(create)?;
    let columns = columns(create, &name, primary_key.as_deref(), catalog, context)?;
    let watermark = match &create.watermark {
        Some(definition) => Some(watermark(definition, &name, &columns, catalog, context)?),
        None => None,
    };
    let partition_by = partition_by(create)?;
    let fields = physical_fields(&columns);
    let given = create.options.iter().map(|(key, value, span)| Given {
        key: key.clone(),
        value: value.clone(),
        span: Some(*span),
    });
    let given: Vec<Given> = given.collect();
    let shape = Shape {
        fields: &fields,
        partition_by: &partition_by,
    };
    let connector =
        connector::resolve(&given, &shape).map_err(|error| error.at_parser(create.name.span()))?;
    Ok(Table {
        name,
        columns,
        watermark,
        primary_key,
        connector,
        options: given
            .into_iter()
            .map(|given| (given.key, given.value))
            .collect(),
    })
}

fn unique_names(columns: &[ColumnDef]) -> Result<(), SqlError> {
    let mut seen = BTreeSet::new();
    for column in columns {
        if !seen.insert(column.name.value.as_str()) {
            let message = format!("column `{}` is declared twice", column.name.value);
            return Err(SqlError::validate(message).at_parser(column.name.span));
        }
    }
    Ok(())
}

/// Position of a named column.
fn position(name: &Ident, columns: &[ColumnDef], role: &str) -> Result<usize, SqlError> {
    let names = || columns.iter().map(|column| column.name.value.as_str());
    names()
        .position(|column| column == name.value)
        .ok_or_else(|| {
            let message = format!("column `{}` of the {role} does not exist", name.value);
            let error = SqlError::validate(message).at_parser(name.span);
            match nearest(&name.value, names()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("it must be a column of the table"),
            }
        })
}

fn primary_key(create: &CreateTable) -> Result<Option<Vec<usize>>, SqlError> {
    let Some((names, _)) = &create.primary_key else {
        return Ok(None);
    };
    let mut key = Vec::new();
    for name in names {
        let index = position(name, &create.columns, "primary key")?;
        let wrong = |message: String| Err(SqlError::validate(message).at_parser(name.span));
        if key.contains(&index) {
            return wrong(format!(
                "column `{}` is in the primary key twice",
                name.value
            ));
        }
        if matches!(
            create.columns.get(index),
            Some(ColumnDef {
                kind: ColumnDefKind::Computed(_),
                ..
            })
        ) {
            return wrong(format!(
                "computed column `{}` cannot be in the primary key",
                name.value
            ));
        }
        key.push(index);
    }
    Ok(Some(key))
}

fn partition_by(create: &CreateTable) -> Result<Vec<String>, SqlError> {
    let mut names = Vec::new();
    for name in &create.partitioned_by {
        let index = position(name, &create.columns, "partition")?;
        let column = create.columns.get(index).map(|column| &column.kind);
        let error = |message: String| Err(SqlError::validate(message).at_parser(name.span));
        if matches!(column, Some(ColumnDefKind::Computed(_))) {
            return error(format!(
                "computed column `{}` cannot be a partition",
                name.value
            ));
        }
        if names.contains(&name.value) {
            return error(format!("column `{}` is a partition twice", name.value));
        }
        names.push(name.value.clone());
    }
    let physical = create
        .columns
        .iter()
        .filter(|column| matches!(column.kind, ColumnDefKind::Physical(..)));
    if !names.is_empty() && physical.count() == names.len() {
        return Err(SqlError::validate("every column is a partition column")
            .at_parser(create.name.span())
            .hint("at least one column must be in the files"));
    }
    Ok(names)
}

/// Columns in declared order. Computed ones see the physical ones only.
fn columns(
    create: &CreateTable,
    table: &str,
    primary_key: Option<&[usize]>,
    catalog: &Catalog,
    context: &BindContext<'_>,
) -> Result<Vec<Column>, SqlError> {
    let in_key = |index: usize| primary_key.is_some_and(|key| key.contains(&index));
    let physical = |index: usize, column: &ColumnDef| match &column.kind {
        // A key column is never NULL, whatever its declaration says.
        ColumnDefKind::Physical(data_type, _) => Some(
            data_type
                .clone()
                .with_nullable(data_type.nullable && !in_key(index)),
        ),
        ColumnDefKind::Computed(_) => None,
    };
    let schema: Schema = create
        .columns
        .iter()
        .enumerate()
        .filter_map(|(index, column)| {
            Some(logical_field(
                table,
                &column.name.value,
                physical(index, column)?,
            ))
        })
        .collect();
    let mut columns = Vec::with_capacity(create.columns.len());
    for (index, column) in create.columns.iter().enumerate() {
        let (kind, data_type) = match (&column.kind, physical(index, column)) {
            (ColumnDefKind::Computed(expr), _) => {
                let expr: Expr = bind::bind_scalar(expr, &schema, catalog, context)
                    .map_err(|error| error.at_parser(column.name.span))?;
                let data_type = expr.data_type.clone();
                (ColumnKind::Computed(expr), data_type)
            }
            (ColumnDefKind::Physical(declared, _), data_type) => (
                ColumnKind::Physical,
                data_type.unwrap_or_else(|| declared.clone()),
            ),
        };
        columns.push(Column {
            name: column.name.value.clone(),
            data_type,
            kind,
            comment: column.comment.clone(),
        });
    }
    Ok(columns)
}

fn watermark(
    definition: &WatermarkDef,
    table: &str,
    columns: &[Column],
    catalog: &Catalog,
    context: &BindContext<'_>,
) -> Result<WatermarkSpec, SqlError> {
    let name = &definition.column;
    let names = || columns.iter().map(|column| column.name.as_str());
    let Some((index, column)) = columns
        .iter()
        .enumerate()
        .find(|(_, column)| column.name == name.value)
    else {
        let message = format!("column `{}` of the watermark does not exist", name.value);
        let error = SqlError::validate(message).at_parser(name.span);
        return Err(match nearest(&name.value, names()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("a watermark is declared for a column of the table"),
        });
    };
    if !can_be_rowtime(&column.data_type) {
        let message = format!(
            "column `{}` of type {} cannot have a watermark",
            name.value, column.data_type
        );
        return Err(SqlError::validate(message)
            .at_parser(name.span)
            .hint("event time is a TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p at most 3"));
    }
    let schema: Schema = columns
        .iter()
        .map(|column| logical_field(table, &column.name, column.data_type.clone()))
        .collect();
    let expr = bind::bind_scalar(&definition.expr, &schema, catalog, context)
        .map_err(|error| error.at_parser(name.span))?;
    let same_kind = matches!(
        (&expr.data_type.logical, &column.data_type.logical),
        (LogicalType::Timestamp(_), LogicalType::Timestamp(_))
            | (LogicalType::TimestampLtz(_), LogicalType::TimestampLtz(_))
    );
    if !same_kind || !can_be_rowtime(&expr.data_type) {
        let message = format!(
            "the watermark of `{}` is {}, but the column is {}",
            name.value, expr.data_type.logical, column.data_type.logical
        );
        return Err(SqlError::validate(message)
            .at_parser(definition.expr.span())
            .hint(
                "a watermark is a time of the column's own type, such as ts - INTERVAL '5' SECOND",
            ));
    }
    Ok(WatermarkSpec {
        column: index,
        expr,
    })
}

fn can_be_rowtime(data_type: &DataType) -> bool {
    matches!(
        data_type.logical,
        LogicalType::Timestamp(0..=3) | LogicalType::TimestampLtz(0..=3)
    )
}

fn logical_field(table: &str, name: &str, data_type: DataType) -> LogicalField {
    LogicalField {
        qualifier: Some(table.to_owned()),
        name: name.to_owned(),
        data_type,
        time: None,
    }
}
