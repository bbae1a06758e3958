//! Sinks of a plan that is there already, written elsewhere than their tables say.

use proto::plan::{
    Changelog, ConnectorSpec, Node, RowType, Sink, connector_spec::Connector, row_type,
};

use super::Session;
use crate::catalog::Relation;
use crate::connector::{self, Given, Shape, physical_fields};
use crate::error::SqlError;
use crate::stream::accepts;

impl Session {
    /// Where a node of a plan, which is `sink`, writes with other options of its table. With another
    /// `connector`, these are all of its options; else they replace single ones.
    ///
    /// # Errors
    /// When there is no such table any more or it has other columns, and for bad options.
    pub fn sink_elsewhere(
        &self,
        node: &Node,
        sink: &Sink,
        options: &[(String, String)],
    ) -> Result<ConnectorSpec, SqlError> {
        let name = &sink.table;
        let table = match self.catalog.get(name) {
            Some(Relation::Table(table)) => table,
            Some(Relation::View(_)) | None => {
                let message = format!("the catalog has no table `{name}` any more");
                return Err(SqlError::validate(message).hint("create it as it was, then ask again"));
            }
        };
        let fields = physical_fields(&table.columns);
        let types = |rows: &RowType| -> Vec<String> {
            rows.fields
                .iter()
                .map(|field| bare(&field.r#type))
                .collect()
        };
        if types(&row_type(&fields)) != types(&node.output.clone().unwrap_or_default()) {
            let message = format!("table `{name}` has other columns than the job writes");
            return Err(SqlError::validate(message).hint("create it as it was, then ask again"));
        }
        let replaced = |key: &str| options.iter().any(|(option, _)| option == key);
        let kept = table.options.iter();
        let kept = kept.filter(|(key, _)| !replaced("connector") && !replaced(key));
        let given: Vec<Given> = kept
            .chain(options)
            .map(|(key, value)| Given {
                key: key.clone(),
                value: value.clone(),
                span: None,
            })
            .collect();
        let partition_by = match &table.connector.connector {
            Some(Connector::Filesystem(spec)) if !replaced("connector") => &spec.partition_by[..],
            _ => &[],
        };
        let shape = Shape {
            fields: &fields,
            partition_by,
        };
        let spec = connector::resolve(&given, &shape)?;
        if matches!(
            spec.connector,
            Some(Connector::Nexmark(_) | Connector::Datagen(_))
        ) {
            let message = format!("table `{name}` would be a generator and cannot be written to");
            return Err(SqlError::validate(message));
        }
        let before = sink.connector.clone().unwrap_or_default();
        let inserts = |changes: &Changelog| {
            !changes.update_before && !changes.update_after && !changes.delete
        };
        let inserts_only = node.changelog.as_ref().is_some_and(inserts);
        if !inserts_only && accepts(&spec) != accepts(&before) {
            let message = format!("table `{name}` would take other changes than the job makes");
            return Err(SqlError::validate(message)
                .hint("choose a connector and a format that take the same kinds of changes"));
        }
        Ok(spec)
    }
}

/// A type without saying whether it may be NULL, which is checked row by row.
fn bare(text: &str) -> String {
    text.replace(" NOT NULL", "")
}
