//! Which files a path stands for.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A data file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataFile {
    pub(super) path: PathBuf,
    /// Names of the directories between the table's path and the file.
    pub(super) directories: Vec<String>,
    pub(super) bytes: u64,
}

/// Depth of directories that is followed: a loop of links ends there with an error.
const DEPTH_MAX: usize = 32;

/// The files at or below `root`, in the order of their names. Names that begin with `.` or `_` are
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
            bytes: metadata.len(),
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
    names.sort();
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
                bytes: metadata.len(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
