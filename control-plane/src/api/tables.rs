//! `/v1/tables`: what the catalog has.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use sql::catalog::Relation;
use utoipa::ToSchema;

use crate::Statements;

/// Tables and views by name.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct TableList {
    tables: Vec<TableView>,
}

/// A table or view.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct TableView {
    name: String,
    /// TABLE or VIEW.
    kind: &'static str,
    /// Columns of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<ColumnView>>,
    /// Query of a view.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
}

/// A column.
#[derive(Serialize, ToSchema, Debug)]
pub(super) struct ColumnView {
    name: String,
    /// Its SQL type.
    #[serde(rename = "type")]
    data_type: String,
}

/// List tables and views
#[utoipa::path(
    get,
    path = "/v1/tables",
    operation_id = "listTables",
    tag = "tables",
    responses((status = 200, description = "The catalog", body = TableList)),
)]
pub(super) async fn list(State(statements): State<Arc<Statements>>) -> Json<TableList> {
    let session = statements.session();
    Json(TableList {
        tables: session.catalog().relations().map(view).collect(),
    })
}

fn view(relation: &Relation) -> TableView {
    match relation {
        Relation::Table(table) => TableView {
            name: table.name.clone(),
            kind: "TABLE",
            columns: Some(
                table
                    .columns
                    .iter()
                    .map(|column| ColumnView {
                        name: column.name.clone(),
                        data_type: column.data_type.to_string(),
                    })
                    .collect(),
            ),
            query: None,
        },
        Relation::View(view) => TableView {
            name: view.name.clone(),
            kind: "VIEW",
            columns: None,
            query: Some(view.text.clone()),
        },
    }
}
