//! Files that a job has written, and the rows that their changes come to.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// The files of a table's folder by name, which is the order of their epochs; not what is about to be
/// put there, or was when a process was killed.
///
/// # Panics
/// When an entry cannot be read.
#[must_use]
pub fn table_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let shown = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| !name.starts_with(['.', '_']))
    };
    let mut files: Vec<PathBuf> = paths.filter(shown).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Lines of JSON of a table's files.
///
/// # Panics
/// When a line is none.
#[must_use]
pub fn table_lines(folder: &Path) -> Vec<Value> {
    file_lines(&table_files(folder))
}

/// Lines of JSON of these files.
///
/// # Panics
/// When a line is none.
#[must_use]
pub fn file_lines(files: &[PathBuf]) -> Vec<Value> {
    let text = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("text"));
    let text: String = text.collect();
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("JSON")).collect()
}

/// Applies a debezium changelog of (k, c) in the order of its files.
///
/// # Panics
/// When a change does not fit the one before.
#[must_use]
pub fn fold_changelog(folder: &Path) -> BTreeMap<i64, i64> {
    fold_changes(&table_lines(folder))
}

/// Applies the changes of a debezium changelog of (k, c).
///
/// # Panics
/// When a change does not fit the one before.
#[must_use]
pub fn fold_changes(changes: &[Value]) -> BTreeMap<i64, i64> {
    fold_column(changes, "c")
}

/// The same of (k, column).
///
/// # Panics
/// When a change does not fit the one before.
#[must_use]
pub fn fold_column(changes: &[Value], column: &str) -> BTreeMap<i64, i64> {
    let mut rows: BTreeMap<i64, i64> = BTreeMap::new();
    for change in changes {
        let row = |side: &str| {
            let row = &change[side];
            Some((row["k"].as_i64()?, row[column].as_i64()?))
        };
        if let Some((key, value)) = row("before") {
            assert_eq!(rows.remove(&key), Some(value), "{change}");
        }
        if let Some((key, value)) = row("after") {
            assert_eq!(rows.insert(key, value), None, "{change}");
        }
    }
    rows
}
