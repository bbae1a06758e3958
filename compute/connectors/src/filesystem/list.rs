//! Which files a path stands for.

use std::{
    cmp::Ordering,
    fs, io,
    path::{Path, PathBuf},
};

/// A data file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataFile {
    pub(super) path: PathBuf,
    /// Names of the directories between the table's path and the file.
    pub(super) directories: Vec<String>,
    /// `None`: it is a pipe or the like, and ends when its writer says so.
    pub(super) bytes: Option<u64>,
}

/// Depth of directories that is followed: a loop of links ends there with an error.
const DEPTH_MAX: usize = 32;

/// The files at or below `root`, in the order of their names, in which numbers are compared as
/// numbers. Names that begin with `.` or `_` are
/// left out: files that are still being written, and other programs' notes.
pub(super) fn data_files(root: &Path) -> Result<Vec<DataFile>, (PathBuf, io::Error)> {
    let mut found = Vec::new();
    let metadata = fs::metadata(root).map_err(|error| (root.to_owned(), error))?;
    if metadata.is_dir() {
        walk(root, &mut Vec::new(), &mut found)?;
    } else {
        found.push(DataFile {
            path: root.to_owned(),
            directories: Vec::new(),
            bytes: metadata.is_file().then_some(metadata.len()),
        });
    }
    Ok(found)
}

fn walk(
    directory: &Path,
    above: &mut Vec<String>,
    found: &mut Vec<DataFile>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    if above.len() > DEPTH_MAX {
        let error = io::Error::other("directories are nested too deeply");
        return Err((directory.to_owned(), error));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(at(directory))? {
        names.push(entry.map_err(at(directory))?.file_name());
    }
    names.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()).then(a.cmp(b)));
    for name in names {
        let path = directory.join(&name);
        let name = name.to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) {
            continue;
        }
        let metadata = fs::metadata(&path).map_err(at(&path))?;
        if metadata.is_dir() {
            above.push(name);
            walk(&path, above, found)?;
            above.pop();
        } else if metadata.len() > 0 {
            found.push(DataFile {
                path,
                directories: above.clone(),
                bytes: metadata.is_file().then_some(metadata.len()),
            });
        }
    }
    Ok(())
}

/// `part-9` before `part-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let ((digits_a, rest_a), (digits_b, rest_b)) = (digits(a), digits(b));
        if !digits_a.is_empty() && !digits_b.is_empty() {
            let (number_a, number_b) = (
                digits_a.trim_start_matches('0'),
                digits_b.trim_start_matches('0'),
            );
            let order = number_a.len().cmp(&number_b.len());
            let order = order.then_with(|| number_a.cmp(number_b));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            (None, None) => return Ordering::Equal,
            (next_a, next_b) if next_a != next_b => return next_a.cmp(&next_b),
            _ => (a, b) = (rest_a.as_str(), rest_b.as_str()),
        }
    }
}

/// The digits that a text begins with, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        let mut names = ["10", "9", "part-10.json", "part-2.json", "part-02.b", "a"];
        names.sort_by(|a, b| natural(a, b));
        let expected = ["9", "10", "a", "part-02.b", "part-2.json", "part-10.json"];
        assert_eq!(names, expected);
    }

    #[test]
    fn hidden_and_empty_files_are_left_out_and_names_are_sorted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/c")).unwrap();
        fs::create_dir_all(root.path().join("_tmp")).unwrap();
        for name in ["z", "a", ".a.tmp", "_SUCCESS", "b/c/x", "b/1", "_tmp/x"] {
            fs::write(root.path().join(name), "1\n").unwrap();
        }
        fs::write(root.path().join("empty"), "").unwrap();
        let found = data_files(root.path()).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|file| {
                file.path
                    .strip_prefix(root.path())
                    .unwrap()
                    .to_str()
                    .unwrap()
            })
            .collect();
        assert_eq!(names, ["a", "b/1", "b/c/x", "z"]);
        assert_eq!(found[2].directories, ["b", "c"]);
        assert!(data_files(&root.path().join("nowhere")).is_err());
    }
}
