//! CREATE TABLE statements as written: what the bound table can no longer say.

use std::collections::BTreeMap;

use crate::parse::{ColumnDefKind, CreateTable};

/// Definitions of the session's tables, by name.
#[derive(Clone, Default, Debug)]
pub(super) struct Definitions {
    by_name: BTreeMap<String, Definition>,
}

/// A table's CREATE statement.
#[derive(Clone, Debug)]
struct Definition {
    create: CreateTable,
    text: String,
}

impl Definitions {
    pub(super) fn insert(&mut self, name: &str, create: &CreateTable, text: &str) {
        let definition = Definition {
            create: create.clone(),
            text: text.to_owned(),
        };
        self.by_name.insert(name.to_owned(), definition);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// The statement.
    pub(super) fn text(&self, table: &str) -> Option<&str> {
        self.by_name
            .get(table)
            .map(|definition| definition.text.as_str())
    }

    /// The expression of a computed column.
    pub(super) fn computed(&self, table: &str, column: &str) -> Option<String> {
        let columns = &self.by_name.get(table)?.create.columns;
        match &columns
            .iter()
            .find(|definition| definition.name.value == column)?
            .kind
        {
            ColumnDefKind::Computed(expr) => Some(expr.to_string()),
            ColumnDefKind::Physical(..) => None,
        }
    }

    /// The expression of the watermark, if it is on this column.
    pub(super) fn watermark(&self, table: &str, column: &str) -> Option<String> {
        let watermark = self.by_name.get(table)?.create.watermark.as_ref()?;
        (watermark.column.value == column).then(|| watermark.expr.to_string())
    }
}
