//! Tables and views by name. Knows names and what stands behind them; not how either is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlparser::ast::{self, Spanned};

use super::Table;
use crate::error::SqlError;
use crate::parse::TableHints;
use crate::suggest::nearest;

/// The one catalog there is.
pub(crate) const DEFAULT_CATALOG: &str = "default_catalog";
/// The one database there is.
pub(crate) const DEFAULT_DATABASE: &str = "default_database";

/// Tables and views of a session. Names are case-sensitive; they may be qualified with
/// `default_catalog.default_database`, which is all there is.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Catalog {
    relations: BTreeMap<String, Relation>,
    /// A temporary relation hides a permanent one of its name.
    temporary: BTreeMap<String, Relation>,
}

/// What a name in FROM stands for.
#[derive(Clone, PartialEq, Debug)]
pub enum Relation {
    /// CREATE TABLE
    Table(Arc<Table>),
    /// CREATE VIEW
    View(Arc<View>),
}

/// A named query. It is bound where it is used.
#[derive(Clone, PartialEq, Debug)]
pub struct View {
    /// Name.
    pub name: String,
    /// Names of its columns, where CREATE VIEW lists them.
    pub columns: Option<Vec<String>>,
    /// Columns that the query had when the view was made. `*` stands for those, whatever has
    /// become of the tables since.
    pub fields: Vec<String>,
    /// COMMENT
    pub comment: Option<String>,
    /// The query as written.
    pub text: String,
    pub(crate) query: Box<ast::Query>,
    /// Table hints inside `query`, by position in the script that created the view.
    pub(crate) hints: Arc<TableHints>,
}

impl Catalog {
    /// What `name` stands for.
    pub(crate) fn resolve(&self, name: &ast::ObjectName) -> Result<&Relation, SqlError> {
        let simple = simple_name(name)?;
        self.get(&simple).ok_or_else(|| {
            let error = SqlError::validate(format!("table or view `{simple}` does not exist"))
                .at_parser(name.span());
            match nearest(&simple, self.relations().map(Relation::name)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("create it with CREATE TABLE or CREATE VIEW first"),
            }
        })
    }

    /// What the unqualified `name` stands for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Relation> {
        self.temporary.get(name).or(self.relations.get(name))
    }

    /// What the unqualified `name` stands for among the temporary or the permanent relations.
    pub(crate) fn get_among(&self, name: &str, temporary: bool) -> Option<&Relation> {
        match temporary {
            true => self.temporary.get(name),
            false => self.relations.get(name),
        }
    }

    /// Adds a permanent relation, or replaces the one of its name.
    pub fn insert(&mut self, relation: Relation) {
        self.insert_among(relation, false);
    }

    /// Adds a relation to the temporary or the permanent ones, or replaces the one of its name.
    pub(crate) fn insert_among(&mut self, relation: Relation, temporary: bool) {
        let name = relation.name().to_owned();
        match temporary {
            true => self.temporary.insert(name, relation),
            false => self.relations.insert(name, relation),
        };
    }

    /// Takes a relation away.
    pub(crate) fn remove(&mut self, name: &str, temporary: bool) -> Option<Relation> {
        match temporary {
            true => self.temporary.remove(name),
            false => self.relations.remove(name),
        }
    }

    /// How many relations there are, hidden ones included.
    pub(crate) fn len(&self) -> usize {
        self.relations.len() + self.temporary.len()
    }

    /// All relations that can be named, sorted by name.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        let mut all: BTreeMap<&String, &Relation> = self.relations.iter().collect();
        all.extend(&self.temporary);
        all.into_values()
    }
}

impl Relation {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Relation::Table(table) => &table.name,
            Relation::View(view) => &view.name,
        }
    }
}

/// The last part of a name whose other parts, if any, are the default catalog and database.
pub(crate) fn simple_name(name: &ast::ObjectName) -> Result<String, SqlError> {
    let parts: Option<Vec<&str>> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(|ident| ident.value.as_str()))
        .collect();
    let refuse = |what: &str, got: &str, only: &str| {
        Err(SqlError::validate(format!("{what} `{got}` does not exist"))
            .at_parser(name.span())
            .hint(format!("the only {what} is `{only}`")))
    };
    match parts.as_deref() {
        Some([table]) => Ok((*table).to_owned()),
        Some([database, table]) if *database == DEFAULT_DATABASE => Ok((*table).to_owned()),
        Some([database, _]) => refuse("database", database, DEFAULT_DATABASE),
        Some([DEFAULT_CATALOG, DEFAULT_DATABASE, table]) => Ok((*table).to_owned()),
        Some([DEFAULT_CATALOG, database, _]) => refuse("database", database, DEFAULT_DATABASE),
        Some([catalog, _, _]) => refuse("catalog", catalog, DEFAULT_CATALOG),
        _ => {
            Err(SqlError::validate(format!("`{name}` is not a table name")).at_parser(name.span()))
        }
    }
}
