//! ARCHITECTURE.md promises: each invariant names tests, and those tests are there.

use std::{collections::BTreeSet, fs};

use crate::files::sources;

/// The part of the document under this heading.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let (_, after) = text.split_once(heading).expect("the heading");
    after.split("\n## ").next().unwrap_or(after)
}

/// Words in backticks that look like the name of a test.
fn named_tests(text: &str) -> BTreeSet<&str> {
    let is_name = |word: &&str| {
        word.contains('_')
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let text = fs::read_to_string(tests::root().join("ARCHITECTURE.md")).expect("the document");
    let invariants = section(&text, "\n## Invariants\n");
    let sources = sources();
    let exists = |name: &str| {
        let function = format!("fn {name}(");
        sources.iter().any(|(_, text)| text.contains(&function))
    };
    let missing: Vec<&str> = named_tests(invariants)
        .into_iter()
        .filter(|name| !exists(name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    let silent: Vec<&str> = invariants
        .split("\n- ")
        .skip(1)
        .filter(|invariant| named_tests(invariant).is_empty())
        .collect();
    assert!(silent.is_empty(), "invariants without a test: {silent:#?}");
}
