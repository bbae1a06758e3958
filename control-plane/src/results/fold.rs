//! A changelog to the rows that it leaves.

use std::collections::HashMap;
use std::sync::Arc;

use proto::types::RowKind;

use super::ResultRow;

/// Why a changelog leaves no rows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FoldError {
    /// It takes away more copies than it added.
    #[error("changelog takes away a row that it did not add: {0}")]
    Negative(String),
}

/// Folds changes, in order. Without an upsert key the rows are a multiset; with one, a row takes
/// the place of the one with the same key.
#[derive(Clone, Debug)]
pub struct Fold(Rows);

#[derive(Clone, Debug)]
enum Rows {
    Counted(HashMap<Arc<str>, i64>),
    Keyed {
        key: Vec<usize>,
        rows: HashMap<String, Arc<str>>,
    },
}

impl Fold {
    /// No rows yet.
    #[must_use]
    pub fn new(upsert_key: Option<&[usize]>) -> Fold {
        Fold(match upsert_key {
            None => Rows::Counted(HashMap::new()),
            Some(key) => Rows::Keyed {
                key: key.to_vec(),
                rows: HashMap::new(),
            },
        })
    }

    /// Takes a change.
    pub fn apply(&mut self, row: &ResultRow) {
        match &mut self.0 {
            Rows::Counted(counts) => {
                let count = counts.entry(row.line.clone()).or_default();
                *count += if row.kind.is_add() { 1 } else { -1 };
                if *count == 0 {
                    counts.remove(&row.line);
                }
            }
            Rows::Keyed { key, rows } => {
                let key = key_text(&row.line, key);
                match row.kind {
                    RowKind::Insert | RowKind::UpdateAfter => {
                        rows.insert(key, row.line.clone());
                    }
                    RowKind::Delete => {
                        rows.remove(&key);
                    }
                    RowKind::UpdateBefore => {}
                }
            }
        }
    }

    /// The rows, sorted by their bytes; a row that is there several times comes several times.
    ///
    /// # Errors
    /// When the changelog took away what it had not added.
    pub fn finish(self) -> Result<Vec<Arc<str>>, FoldError> {
        let mut lines = Vec::new();
        match self.0 {
            Rows::Keyed { rows, .. } => lines.extend(rows.into_values()),
            Rows::Counted(counts) => {
                for (line, count) in counts {
                    let copies = usize::try_from(count)
                        .map_err(|_| FoldError::Negative(line.to_string()))?;
                    lines.extend(std::iter::repeat_n(line, copies));
                }
            }
        }
        lines.sort_unstable();
        Ok(lines)
    }
}

/// The key's values, still escaped.
fn key_text(line: &str, key: &[usize]) -> String {
    let values: Vec<&str> = line.split('\t').collect();
    let parts: Vec<&str> = key
        .iter()
        .map(|column| values.get(*column).copied().unwrap_or_default())
        .collect();
    parts.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(changes: &str, key: Option<&[usize]>) -> Result<String, FoldError> {
        let mut fold = Fold::new(key);
        for change in changes.split(' ') {
            let (kind, line) = change.split_at(2);
            let kind = match kind {
                "+I" => RowKind::Insert,
                "-U" => RowKind::UpdateBefore,
                "+U" => RowKind::UpdateAfter,
                _ => RowKind::Delete,
            };
            fold.apply(&ResultRow {
                kind,
                line: line.replace(',', "\t").into(),
            });
        }
        Ok(fold.finish()?.join(" ").replace('\t', ","))
    }

    #[test]
    fn changelogs_fold_to_multisets_and_by_key() {
        let check = |changes: &str, key: Option<&[usize]>, expected: &str| {
            assert_eq!(fold(changes, key).expect("folds"), expected, "{changes}");
        };
        check("+Ib,1 +Ia,1 +Ib,1", None, "a,1 b,1 b,1");
        check("+Ia,1 -Ua,1 +Ua,2", None, "a,2");
        check("-Da,1 +Ia,1 +Ib,2", None, "b,2");
        check("+Ia,1 +Ua,2 +Ib,1 -Db,9", Some(&[0]), "a,2");
        check("+Ia,1 -Ua,1 +Ua,2", Some(&[0]), "a,2");
        assert_eq!(
            fold("+Ia,1 -Da,2", None),
            Err(FoldError::Negative("a\t2".into()))
        );
    }
}
