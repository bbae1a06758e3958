//! CREATE TABLE statements as written: what the bound table can no longer say.

use std::collections::BTreeMap;

use crate::parse::{ColumnDefKind, CreateTable};

/// Definitions of the session's tables.
#[derive(Clone, Default, Debug)]
pub(super) struct Definitions {
    permanent: BTreeMap<String, Definition>,
    temporary: BTreeMap<String, Definition>,
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
        self.among(create.temporary)
            .insert(name.to_owned(), definition);
    }

    pub(super) fn remove(&mut self, name: &str, temporary: bool) {
        self.among(temporary).remove(name);
    }

    fn among(&mut self, temporary: bool) -> &mut BTreeMap<String, Definition> {
        match temporary {
            true => &mut self.temporary,
            false => &mut self.permanent,
        }
    }

    /// As the catalog has it: what is temporary hides what is permanent.
    fn get(&self, name: &str) -> Option<&Definition> {
        self.temporary.get(name).or(self.permanent.get(name))
    }

    /// The statement.
    pub(super) fn text(&self, table: &str) -> Option<&str> {
        self.get(table).map(|definition| definition.text.as_str())
    }

    /// The expression of a computed column.
    pub(super) fn computed(&self, table: &str, column: &str) -> Option<String> {
        let columns = &self.get(table)?.create.columns;
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
        let watermark = self.get(table)?.create.watermark.as_ref()?;
        (watermark.column.value == column).then(|| watermark.expr.to_string())
    }
}
