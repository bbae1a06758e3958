//! ARCHITECTURE.md promises: each invariant names tests, and those tests are there. So does each
//! scenario, or it says why there can be none.

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

fn check_that_tests_exist(text: &str) {
    let sources = sources();
    let exists = |name: &str| {
        let function = format!("fn {name}(");
        sources.iter().any(|(_, text)| text.contains(&function))
    };
    let missing: Vec<&str> = named_tests(text)
        .into_iter()
        .filter(|name| !exists(name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_scenario_names_a_test_that_exists_or_says_why_there_is_none() {
    const SCENARIOS: usize = 37;
    let text = fs::read_to_string(tests::root().join("tests/scenarios.md")).expect("the document");
    let rows = text.lines().filter_map(|line| {
        let (number, row) = line.strip_prefix("| ")?.split_once(" | ")?;
        Some((number.parse::<usize>().ok()?, row))
    });
    let rows: Vec<(usize, &str)> = rows.collect();
    let numbers: Vec<usize> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=SCENARIOS).collect::<Vec<_>>());
    for (number, row) in rows {
        let (is_named, is_nothing) = (
            !named_tests(row).is_empty(),
            row.contains("*nothing yet*: "),
        );
        assert!(is_named != is_nothing, "scenario {number}: {row}");
    }
    check_that_tests_exist(&text);
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let text = fs::read_to_string(tests::root().join("ARCHITECTURE.md")).expect("the document");
    let invariants = section(&text, "\n## Invariants\n");
    check_that_tests_exist(invariants);
    let silent: Vec<&str> = invariants
        .split("\n- ")
        .skip(1)
        .filter(|invariant| named_tests(invariant).is_empty())
        .collect();
    assert!(silent.is_empty(), "invariants without a test: {silent:#?}");
}
