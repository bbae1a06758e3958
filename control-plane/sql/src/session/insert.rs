//! INSERT INTO: the target, its columns, and the query cast to them.

use std::sync::Arc;

use sqlparser::ast::{Ident, Spanned};

use super::Session;
use crate::bind;
use crate::catalog::{ColumnKind, Relation, Table};
use crate::connector;
use crate::error::SqlError;
use crate::logical::LogicalPlan;
use crate::parse::{Insert, TableHints};
use crate::stream::{SinkQuery, SinkTarget, check_late_rows_table};
use crate::suggest::nearest;

impl Session {
    /// One INSERT as part of a job.
    pub(super) fn insert(
        &self,
        insert: &Insert,
        hints: &TableHints,
    ) -> Result<SinkQuery, SqlError> {
        let place = insert.table.span();
        let table = match self.catalog.resolve(&insert.table)? {
            Relation::Table(table) => table.clone(),
            Relation::View(view) => {
                return Err(SqlError::validate(format!("`{}` is a view", view.name))
                    .at_parser(place)
                    .hint("rows can be inserted into tables only"));
            }
        };
        let table = match hints.for_table(place) {
            Some(hint) => Arc::new(connector::with_hint(&table, hint)?),
            None => table,
        };
        connector::check_sink(&table).map_err(|error| error.at_parser(place))?;
        let columns = match &insert.columns {
            Some(names) => Some(positions(names, &table)?),
            None => None,
        };
        let plan: LogicalPlan = self.bind(&insert.query, hints)?;
        let plan = bind::cast_to_sink(plan, &table, columns.as_deref())
            .map_err(|error| error.at(insert.span))?;
        Ok(SinkQuery {
            plan,
            sink: SinkTarget::Table(table),
        })
    }
}

impl Session {
    /// The table that late rows go to.
    pub(super) fn late_rows_table(&self, name: &str) -> Result<Arc<Table>, SqlError> {
        let table = match self.catalog.get(name) {
            Some(Relation::Table(table)) => table,
            other => {
                let what = match other {
                    Some(_) => "is a view",
                    None => "does not exist",
                };
                let message = format!("the table of late rows `{name}` {what}");
                return Err(SqlError::validate(message).hint(
                    "create it as a table, or RESET 'millstream.late-rows.table': late rows are only \
                     counted then",
                ));
            }
        };
        connector::check_sink(table)?;
        check_late_rows_table(table)?;
        Ok(table.clone())
    }
}

/// Positions of the listed columns in the table.
fn positions(names: &[Ident], table: &Table) -> Result<Vec<usize>, SqlError> {
    let mut positions = Vec::with_capacity(names.len());
    for name in names {
        let refuse = |message: String| SqlError::validate(message).at_parser(name.span);
        let Some(position) = table
            .columns
            .iter()
            .position(|column| column.name == name.value)
        else {
            let message = format!("table `{}` has no column `{}`", table.name, name.value);
            let columns = table.columns.iter().map(|column| column.name.as_str());
            return Err(match nearest(&name.value, columns) {
                Some(near) => refuse(message).hint(format!("did you mean `{near}`?")),
                None => refuse(message),
            });
        };
        let computed = |column: &crate::catalog::Column| column.kind != ColumnKind::Physical;
        if table.columns.get(position).is_some_and(computed) {
            let message = format!("column `{}` is computed and cannot be inserted", name.value);
            return Err(refuse(message));
        }
        if positions.contains(&position) {
            return Err(refuse(format!("column `{}` is listed twice", name.value)));
        }
        positions.push(position);
    }
    Ok(positions)
}
