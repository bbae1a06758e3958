//! Rules for single files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of code, tests aside, that a file may have.
const LINES_MAX: usize = 600;
/// Names that say nothing about what a room holds.
const NAMELESS: &[&str] = &[
    "common", "util", "utils", "helper", "helpers", "misc", "manager",
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') && name != "data" {
                rust_files(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Every source file: its path in the project and its text.
pub(crate) fn sources() -> Vec<(String, String)> {
    let root = tests::root();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    let read = |path: &PathBuf| {
        let name = path
            .strip_prefix(&root)
            .unwrap_or(path)
            .display()
            .to_string();
        (name, fs::read_to_string(path).expect("a text file"))
    };
    files.iter().map(read).collect()
}

fn is_test(name: &str) -> bool {
    name.starts_with("tests/")
        || name.contains("/testing")
        || name.contains("/tests/")
        || name.ends_with("_test.rs")
        || name.ends_with("/tests.rs")
        || name.contains("/benches/")
}

#[test]
fn files_stay_small() {
    let mut large = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or(text);
        let lines = code.lines().count();
        if lines > LINES_MAX {
            large.push(format!("{name}: {lines} lines"));
        }
    }
    assert!(large.is_empty(), "over {LINES_MAX} lines: {large:#?}");
}

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top: {silent:#?}");
}

#[test]
fn rooms_have_names() {
    let nameless: Vec<String> = sources()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            let parts = name.split('/').map(|part| part.trim_end_matches(".rs"));
            parts.into_iter().any(|part| NAMELESS.contains(&part))
        })
        .collect();
    assert!(nameless.is_empty(), "{nameless:#?}");
}

#[test]
fn modules_only_gather() {
    let mut busy = Vec::new();
    for (name, text) in sources() {
        let is_crate = name.ends_with("/lib.rs") && !is_test(&name);
        let items = ["\npub fn ", "\nfn ", "\npub(crate) fn ", "\nimpl "];
        if is_crate && items.iter().any(|item| text.contains(item)) {
            busy.push(name);
        }
    }
    assert!(
        busy.is_empty(),
        "lib.rs is for docs, `mod` and `pub use`: {busy:#?}"
    );
}
