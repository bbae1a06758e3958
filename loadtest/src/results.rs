//! What an exactly-once sink has written: a changelog of counts by key, folded in the order of its files.
//! The rows that were counted are the numbers from 0 on, without a gap, each of the key that is its
//! remainder; so the counts say how many there were, and whether one was lost or came twice.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Counted {
    /// Rows of the source that are in the counts.
    pub(crate) rows: u64,
    /// Keys whose count is not what it must be for so many rows: rows were lost, or counted twice.
    pub(crate) wrong_keys: usize,
    /// Changes that do not follow from those before: written twice, or one is missing.
    pub(crate) misplaced_changes: u64,
    /// Changes in all.
    pub(crate) changes: u64,
}

#[derive(Deserialize)]
struct Change {
    before: Option<Count>,
    after: Option<Count>,
}

#[derive(Deserialize)]
struct Count {
    k: u64,
    c: u64,
}

/// Reads a table's folder.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn count(folder: &Path, keys: u64) -> anyhow::Result<Counted> {
    let (mut counts, mut changes, mut misplaced) = (BTreeMap::new(), 0, 0);
    for file in files(folder)? {
        let name = || format!("{}", file.display());
        for line in BufReader::new(File::open(&file)?).lines() {
            let change = serde_json::from_str(&line.with_context(name)?).with_context(name)?;
            changes += 1;
            misplaced += u64::from(!follows(&mut counts, change));
        }
    }
    let rows = counts.values().sum();
    // Of `rows` numbers from 0 on, those with this remainder.
    let expected = |key: u64| (rows + keys - 1 - key) / keys;
    let wrong = |key: &u64| counts.get(key).copied().unwrap_or_default() != expected(*key);
    let foreign = counts.range(keys..).count();
    Ok(Counted {
        rows,
        wrong_keys: (0..keys).filter(wrong).count() + foreign,
        misplaced_changes: misplaced,
        changes,
    })
}

fn follows(counts: &mut BTreeMap<u64, u64>, change: Change) -> bool {
    let taken = change
        .before
        .is_none_or(|before| counts.remove(&before.k) == Some(before.c));
    let put = change
        .after
        .is_none_or(|after| counts.insert(after.k, after.c).is_none());
    taken && put
}

/// Files by name, which is the order of their epochs; not what is about to be put there.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    let shown = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_file() && name.is_some_and(|name| !name.starts_with(['.', '_']))
    };
    let mut files: Vec<PathBuf> = paths.into_iter().filter(shown).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Counted {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        count(folder.path(), 2).expect("counted")
    }

    const FIRST: &str = "{\"before\":null,\"after\":{\"k\":0,\"c\":2},\"op\":\"c\"}\n\
        {\"before\":null,\"after\":{\"k\":1,\"c\":1},\"op\":\"c\"}\n";
    const SECOND: &str = "{\"before\":{\"k\":1,\"c\":1},\"after\":null,\"op\":\"d\"}\n\
        {\"before\":null,\"after\":{\"k\":1,\"c\":2},\"op\":\"c\"}\n";

    fn counted(rows: u64, wrong_keys: usize, misplaced_changes: u64, changes: u64) -> Counted {
        Counted {
            rows,
            wrong_keys,
            misplaced_changes,
            changes,
        }
    }

    #[test]
    fn what_is_lost_or_comes_twice_is_seen() {
        let whole = [("b", SECOND), ("a", FIRST), (".c", "not yet")];
        assert_eq!(found(&whole), counted(4, 0, 0, 4));
        // Three rows are numbered 0 to 2.
        assert_eq!(found(&[("a", FIRST)]), counted(3, 0, 0, 2));
        assert_eq!(found(&[("a", FIRST), ("b", FIRST)]).misplaced_changes, 2);
        assert_eq!(found(&[("b", SECOND)]), counted(2, 2, 1, 2));
        let skewed = FIRST.replace("\"c\":1", "\"c\":0");
        assert_eq!(found(&[("a", &skewed)]), counted(2, 2, 0, 2));
    }
}
