//! SHOW, DESCRIBE and bare SET.

use proto::types::DataType;
use sqlparser::ast::{ObjectName, Spanned};

use super::{Outcome, Session};
use crate::bind;
use crate::catalog::{DEFAULT_CATALOG, DEFAULT_DATABASE, Relation, Table, View};
use crate::error::SqlError;
use crate::parse::ShowTarget;

impl Session {
    pub(super) fn show(&self, target: &ShowTarget) -> Result<Outcome, SqlError> {
        let names = |wanted: fn(&Relation) -> bool| {
            let relations = self
                .catalog
                .relations()
                .filter(move |relation| wanted(relation));
            relations
                .map(|relation| relation.name().to_owned())
                .collect::<Vec<_>>()
        };
        Ok(match target {
            // Views can be read like tables, so they are among them.
            ShowTarget::Tables => one_column("table name", names(|_| true)),
            ShowTarget::Views => one_column(
                "view name",
                names(|relation| matches!(relation, Relation::View(_))),
            ),
            ShowTarget::Functions => one_column("function name", bind::function_names()),
            ShowTarget::UserFunctions => one_column("function name", Vec::<String>::new()),
            ShowTarget::Catalogs => one_column("catalog name", [DEFAULT_CATALOG]),
            ShowTarget::Databases => one_column("database name", [DEFAULT_DATABASE]),
            ShowTarget::CurrentCatalog => one_column("current catalog name", [DEFAULT_CATALOG]),
            ShowTarget::CurrentDatabase => one_column("current database name", [DEFAULT_DATABASE]),
            ShowTarget::Columns(name) => self.describe(name)?,
            ShowTarget::Like {
                target,
                negated,
                pattern,
            } => {
                let pattern: Vec<char> = pattern.chars().collect();
                let kept = |row: &Vec<Option<String>>| {
                    let name: Vec<char> = row
                        .iter()
                        .flatten()
                        .take(1)
                        .flat_map(|n| n.chars())
                        .collect();
                    is_like(&name, &pattern) != *negated
                };
                match self.show(target)? {
                    Outcome::Rows { columns, rows } => Outcome::Rows {
                        columns,
                        rows: rows.into_iter().filter(kept).collect(),
                    },
                    other => other,
                }
            }
            ShowTarget::CreateTable(name) => match self.catalog.resolve(name)? {
                Relation::Table(table) => one_column("result", self.definitions.text(&table.name)),
                Relation::View(_) => return Err(other_kind(name, "table", "VIEW")),
            },
            ShowTarget::CreateView(name) => match self.catalog.resolve(name)? {
                Relation::View(view) => one_column("result", [create_view(view)]),
                Relation::Table(_) => return Err(other_kind(name, "view", "TABLE")),
            },
        })
    }

    pub(super) fn show_settings(&self) -> Outcome {
        let row = |(key, value): (&str, &str)| vec![Some(key.to_owned()), Some(value.to_owned())];
        Outcome::Rows {
            columns: vec!["key".to_owned(), "value".to_owned()],
            rows: self.settings.iter().map(row).collect(),
        }
    }

    pub(super) fn describe(&self, name: &ObjectName) -> Result<Outcome, SqlError> {
        let rows = match self.catalog.resolve(name)? {
            Relation::Table(table) => self.describe_table(table),
            Relation::View(view) => self.describe_view(view)?,
        };
        let columns = [
            "name",
            "type",
            "null",
            "key",
            "extras",
            "watermark",
            "comment",
        ];
        Ok(Outcome::Rows {
            columns: columns.map(str::to_owned).to_vec(),
            rows,
        })
    }

    fn describe_table(&self, table: &Table) -> Vec<Vec<Option<String>>> {
        let key = table.primary_key.as_deref().unwrap_or_default();
        let key_names: Vec<&str> = key
            .iter()
            .filter_map(|index| table.columns.get(*index))
            .map(|column| column.name.as_str())
            .collect();
        let key_text = format!("PRI({})", key_names.join(", "));
        let row = |(index, column): (usize, &crate::catalog::Column)| {
            let computed = self.definitions.computed(&table.name, &column.name);
            let mut row = type_columns(&column.name, &column.data_type);
            row.push(key.contains(&index).then(|| key_text.clone()));
            row.push(computed.map(|expr| format!("AS {expr}")));
            row.push(self.definitions.watermark(&table.name, &column.name));
            row.push(column.comment.clone());
            row
        };
        table.columns.iter().enumerate().map(row).collect()
    }

    fn describe_view(&self, view: &View) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        let plan = bind::bind_view(view, &self.catalog)?;
        let row = |field: &crate::logical::LogicalField| {
            let mut row = type_columns(&field.name, &field.data_type);
            row.extend([None, None, None, None]);
            row
        };
        Ok(plan.schema().iter().map(row).collect())
    }
}

/// LIKE of a name: `%` is anything, `_` one character.
fn is_like(name: &[char], pattern: &[char]) -> bool {
    let (mut at, mut next) = (0, 0);
    // The last `%`, and where the name goes on after what it stands for.
    let mut open: Option<(usize, usize)> = None;
    while let Some(character) = name.get(at) {
        match pattern.get(next) {
            Some('%') => {
                open = Some((next, at));
                next += 1;
            }
            Some(wanted) if *wanted == '_' || wanted == character => {
                at += 1;
                next += 1;
            }
            _ => {
                let Some((percent, from)) = open else {
                    return false;
                };
                open = Some((percent, from + 1));
                (at, next) = (from + 1, percent + 1);
            }
        }
    }
    pattern.iter().skip(next).all(|rest| *rest == '%')
}

fn type_columns(name: &str, data_type: &DataType) -> Vec<Option<String>> {
    let nullable = data_type.nullable.to_string().to_uppercase();
    vec![
        Some(name.to_owned()),
        Some(data_type.logical.to_string()),
        Some(nullable),
    ]
}

fn one_column<T: Into<String>>(column: &str, values: impl IntoIterator<Item = T>) -> Outcome {
    Outcome::Rows {
        columns: vec![column.to_owned()],
        rows: values
            .into_iter()
            .map(|value| vec![Some(value.into())])
            .collect(),
    }
}

fn create_view(view: &View) -> String {
    let quote = |name: &String| format!("`{}`", name.replace('`', "``"));
    let columns = view.columns.as_ref().map(|names| {
        let names: Vec<String> = names.iter().map(quote).collect();
        format!(" ({})", names.join(", "))
    });
    let comment = view
        .comment
        .as_ref()
        .map(|text| format!(" COMMENT '{}'", text.replace('\'', "''")));
    format!(
        "CREATE VIEW {}{}{} AS\n{}",
        quote(&view.name),
        columns.unwrap_or_default(),
        comment.unwrap_or_default(),
        view.text
    )
}

fn other_kind(name: &ObjectName, wanted: &str, other: &str) -> SqlError {
    SqlError::validate(format!("`{name}` is not a {wanted}"))
        .at_parser(name.span())
        .hint(format!("use SHOW CREATE {other}"))
}
