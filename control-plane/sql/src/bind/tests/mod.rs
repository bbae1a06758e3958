//! Queries and what they bind to: plans with types, and errors with positions and hints.

mod errors;
mod plans;

use std::sync::Arc;

use super::{BindContext, bind_query, bind_scalar};
use crate::catalog::{Catalog, Column, ColumnKind, Relation, Table, View, WatermarkSpec};
use crate::error::SqlError;
use crate::logical::{LogicalField, LogicalPlan, Schema};
use crate::parse::{ColumnDefKind, CreateTable, Statement, TableHints, parse_script};

/// A few tables with time attributes, keys, nested types.
const TABLES: &str = "
CREATE TABLE orders (
  id BIGINT, user_id INT, product STRING, amount DECIMAL(10, 2), qty INT, price DOUBLE, gift BOOLEAN,
  bought DATE, tags ARRAY<STRING>, attrs MAP<STRING, STRING>, addr ROW<city STRING, zip STRING, geo ROW<lat DOUBLE>>,
  ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '10' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE pays (id BIGINT, paid DECIMAL(10, 2), ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'datagen');
CREATE TABLE users (user_id INT NOT NULL, name STRING, since TIMESTAMP(3), PRIMARY KEY (user_id) NOT ENFORCED,
  WATERMARK FOR since AS since) WITH ('connector' = 'datagen');
CREATE TABLE clicks (id INT NOT NULL, ms BIGINT, i16 SMALLINT, f32 FLOAT,
  ts AS TO_TIMESTAMP_LTZ(ms, 3), pt AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE names (id BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = '/x', 'format' = 'csv');
CREATE VIEW v (a, b) AS SELECT id, qty FROM orders;
";

/// Binds the last query of a script over the tables.
fn bind(sql: &str) -> Result<LogicalPlan, SqlError> {
    bind_over(&format!("{TABLES}{sql}"))
}

/// Binds the last query of a script after its CREATE statements.
pub(super) fn bind_over(script: &str) -> Result<LogicalPlan, SqlError> {
    let mut catalog = Catalog::default();
    let mut result = Err(SqlError::validate("no query"));
    for parsed in parse_script(script)? {
        let context = BindContext {
            hints: &parsed.hints,
        };
        match parsed.statement {
            Statement::CreateTable(create) => {
                let table = table(&create, &catalog, &context)?;
                catalog.insert(Relation::Table(Arc::new(table)));
            }
            Statement::CreateView(create) => catalog.insert(Relation::View(Arc::new(View {
                name: create.name.to_string(),
                fields: bind_query(&create.query, &catalog, &context)?
                    .schema()
                    .iter()
                    .map(|field| field.name.clone())
                    .collect(),
                columns: create
                    .columns
                    .map(|c| c.into_iter().map(|c| c.value).collect()),
                comment: None,
                text: create.text,
                query: create.query,
                hints: Arc::new(TableHints::default()),
            }))),
            Statement::Query(query) => result = bind_query(&query, &catalog, &context),
            _ => {}
        }
    }
    result
}

fn table(
    create: &CreateTable,
    catalog: &Catalog,
    context: &BindContext<'_>,
) -> Result<Table, SqlError> {
    let field = |name: &str, data_type| LogicalField {
        qualifier: None,
        name: name.to_owned(),
        data_type,
        time: None,
    };
    let mut physical = Vec::new();
    for column in &create.columns {
        if let ColumnDefKind::Physical(data_type, _) = &column.kind {
            physical.push(field(&column.name.value, data_type.clone()));
        }
    }
    let schema: Schema = physical.into();
    let mut columns = Vec::new();
    for column in &create.columns {
        let (data_type, kind) = match &column.kind {
            ColumnDefKind::Physical(data_type, _) => (data_type.clone(), ColumnKind::Physical),
            ColumnDefKind::Computed(expr) => {
                let expr = bind_scalar(expr, &schema, catalog, context)?;
                (expr.data_type.clone(), ColumnKind::Computed(expr))
            }
        };
        columns.push(Column {
            name: column.name.value.clone(),
            data_type,
            kind,
            comment: None,
        });
    }
    let position = |name: &str| {
        columns
            .iter()
            .position(|column| column.name == name)
            .unwrap()
    };
    let watermark = match &create.watermark {
        Some(watermark) => {
            let all: Schema = columns
                .iter()
                .map(|column| field(&column.name, column.data_type.clone()))
                .collect();
            Some(WatermarkSpec {
                column: position(&watermark.column.value),
                expr: bind_scalar(&watermark.expr, &all, catalog, context)?,
            })
        }
        None => None,
    };
    let primary_key = create.primary_key.as_ref().map(|(key, _)| {
        key.iter()
            .map(|name| position(&name.value))
            .collect::<Vec<_>>()
    });
    for index in primary_key.iter().flatten() {
        columns[*index].data_type.nullable = false;
    }
    Ok(Table {
        name: create.name.to_string(),
        columns,
        watermark,
        primary_key,
        // Whatever the options say: that a table is one of files is all that is asked.
        connector: proto::plan::ConnectorSpec {
            connector: (create.name.to_string() == "names")
                .then(|| proto::plan::connector_spec::Connector::Filesystem(Default::default())),
        },
        options: Vec::new(),
    })
}
