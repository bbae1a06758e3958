//! The batch engine: SQLite over the final rows of the tables.

use rusqlite::{Connection, params, types::ValueRef};

use super::{
    relation::{Dialect, Relation, Type},
    tables::{Event, Tables, timestamp},
};

const DDL: &str = "
    PRAGMA case_sensitive_like = ON;
    CREATE TABLE a (c0 INTEGER, c1 INTEGER, c2 TEXT, c3 INTEGER);
    CREATE TABLE b (c0 INTEGER, c1 INTEGER, c2 TEXT, c3 INTEGER);
    CREATE TABLE u (c0 INTEGER, c1 INTEGER, c2 INTEGER);
    CREATE TABLE steps (step INTEGER);
    INSERT INTO steps VALUES (0), (1), (2), (3), (4), (5);
";

/// More rows than this are not worth a comparison.
const ROWS_MAX: usize = 20_000;

/// The sorted rows of a query as tab-separated text; `None` when there are too many.
pub(super) fn rows(tables: &Tables, query: &Relation) -> Option<Vec<String>> {
    let connection = Connection::open_in_memory().expect("SQLite opens");
    connection.execute_batch(DDL).expect("tables");
    fill(&connection, tables).expect("rows");
    let sql = query
        .sql(Dialect::Sqlite)
        .replace("CHAR_LENGTH(", "LENGTH(");
    let columns = query.columns();
    let mut statement = connection
        .prepare(&sql)
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    let mut cursor = statement.query([]).expect("rows");
    let mut lines = Vec::new();
    while let Some(row) = cursor
        .next()
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
    {
        if lines.len() == ROWS_MAX {
            return None;
        }
        let cells = columns.iter().enumerate().map(|(index, column)| {
            let value = row.get_ref(index).expect("a column");
            cell(value, *column)
        });
        lines.push(cells.collect::<Vec<_>>().join("\t"));
    }
    lines.sort_unstable();
    Some(lines)
}

fn cell(value: ValueRef<'_>, column: Type) -> String {
    match (value, column) {
        (ValueRef::Null, _) => "\\N".to_owned(),
        (ValueRef::Integer(ms), Type::Time) => timestamp(ms),
        (ValueRef::Integer(number), Type::Int) => number.to_string(),
        (ValueRef::Text(text), Type::Text) => String::from_utf8_lossy(text).into_owned(),
        (value, column) => panic!("{value:?} in a column of {column:?}"),
    }
}

fn fill(connection: &Connection, tables: &Tables) -> rusqlite::Result<()> {
    for (name, events) in [("a", &tables.a), ("b", &tables.b)] {
        let mut insert = connection.prepare(&format!("INSERT INTO {name} VALUES (?, ?, ?, ?)"))?;
        for Event {
            key,
            value,
            text,
            time_ms,
        } in events
        {
            insert.execute(params![key, value, text, time_ms])?;
        }
    }
    let mut insert = connection.prepare("INSERT INTO u VALUES (?, ?, ?)")?;
    for (id, key, value) in tables.items() {
        insert.execute(params![id, key, value])?;
    }
    Ok(())
}
