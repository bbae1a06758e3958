//! Flink's answers to the SQL conformance suite (`tests/data/conformance`).
//!
//! Every case runs. `tests/data/conformance/passing.txt` names those that must be equal; the test
//! prints passed/total per area and fails when a named case is not equal any more, or when one
//! that is equal is not named yet (`BLESS=1` writes the list).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tests::{
    RunConfig, Store, data,
    faults::{Fault, Step},
    rows, run,
};

/// Rejected by Flink for a limit of its own, not of the language: these run.
const ACCEPTED: &[&str] = &[
    "15-errors/17-over-two-windows",
    "15-errors/32-interval-updating",
    "15-errors/49-over-updating",
];

struct Case {
    name: String,
    sql: String,
    expected: Expected,
}

enum Expected {
    Rows {
        rows: Vec<String>,
        approximate: Vec<bool>,
    },
    Rejection,
}

fn cases() -> Vec<Case> {
    let folder = data("conformance/cases");
    let mut cases = Vec::new();
    for area in sorted(&folder).iter().filter(|path| path.is_dir()) {
        for file in sorted(area)
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "sql"))
        {
            let area = area.file_name().unwrap_or_default().to_string_lossy();
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let sql = fs::read_to_string(file).expect("a case");
            let expected = expected(&file.with_extension("tsv"));
            cases.push(Case {
                name: format!("{area}/{stem}"),
                sql,
                expected,
            });
        }
    }
    cases
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn expected(tsv: &Path) -> Expected {
    let Ok(text) = fs::read_to_string(tsv) else {
        return Expected::Rejection;
    };
    let types = text
        .lines()
        .nth(1)
        .unwrap_or_default()
        .trim_start_matches("# ");
    let is_float = |name: &str| name.starts_with("DOUBLE") || name.starts_with("FLOAT");
    Expected::Rows {
        rows: rows::sorted_rows(&text, 2),
        approximate: types.split('\t').map(is_float).collect(),
    }
}

fn check(case: &Case, config: &RunConfig) -> Result<(), String> {
    let folder = data("conformance/data").display().to_string();
    let ddl = fs::read_to_string(data("conformance/ddl.sql")).expect("the tables");
    let script = format!("{ddl}\n{}", case.sql).replace("{DATA}", &folder);
    match (run(&script, config), &case.expected) {
        (Ok(output), Expected::Rows { rows, approximate }) => {
            rows::compare(&rows::sorted_rows(&output.text, 1), rows, approximate)
        }
        (Err(error), Expected::Rows { .. }) => Err(error),
        (Ok(_), Expected::Rejection) if ACCEPTED.contains(&&*case.name) => Ok(()),
        (Ok(_), Expected::Rejection) => Err("was not rejected".to_owned()),
        (Err(error), Expected::Rejection) if error.contains("panicked") => Err(error),
        (Err(_), Expected::Rejection) => Ok(()),
    }
}

fn passing_list() -> PathBuf {
    data("conformance/passing.txt")
}

#[test]
fn answers_are_flinks() {
    let only = std::env::var("CASE").ok();
    let mut passed: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut equal = BTreeSet::new();
    let mut failures = BTreeMap::new();
    for case in cases() {
        if only
            .as_ref()
            .is_some_and(|only| !case.name.contains(only.as_str()))
        {
            continue;
        }
        let area = case.name.split('/').next().unwrap_or_default().to_owned();
        let count = passed.entry(area).or_default();
        count.1 += 1;
        match check(&case, &RunConfig::default()) {
            Ok(()) => {
                count.0 += 1;
                equal.insert(case.name);
            }
            Err(error) => {
                failures.insert(case.name, error);
            }
        }
    }
    for (area, (equal, total)) in &passed {
        println!("{area}: {equal}/{total}");
    }
    let total: (usize, usize) = passed.values().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    println!("all: {}/{}", total.0, total.1);
    if only.is_some() {
        assert!(failures.is_empty(), "{failures:#?}");
        return;
    }
    if std::env::var("BLESS").is_ok() {
        let list: Vec<String> = equal.into_iter().collect();
        fs::write(passing_list(), list.join("\n") + "\n").expect("the list is written");
        for (name, error) in failures {
            println!("\nnot equal: {name}\n{error}");
        }
        return;
    }
    let list = fs::read_to_string(passing_list()).unwrap_or_default();
    let named: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    let lost: Vec<_> = failures
        .iter()
        .filter(|(name, _)| named.contains(*name))
        .collect();
    assert!(lost.is_empty(), "no longer equal: {lost:#?}");
    let new: Vec<_> = equal.difference(&named).collect();
    assert!(new.is_empty(), "equal now; bless the list: {new:#?}");
}

/// Runs each `every`th case that is equal in another way.
fn check_another_way(store: Store, every: usize) {
    let list = fs::read_to_string(passing_list()).unwrap_or_default();
    let config = RunConfig {
        store,
        parallelism: 3,
        batch_rows: 7,
        checkpoint_interval_ms: 5,
        faults: vec![
            Fault {
                step: Step::Stage,
                nth: 9,
                after: false,
            },
            Fault {
                step: Step::Commit,
                nth: 3,
                after: true,
            },
        ],
        ..RunConfig::default()
    };
    let mut failures = BTreeMap::new();
    let cases = cases().into_iter();
    let equal = cases.filter(|case| list.lines().any(|name| name == case.name));
    for case in equal.step_by(every) {
        // What the order of arrival decides differs between one task and three.
        let by_arrival = ["FIRST_VALUE", "LAST_VALUE"]
            .iter()
            .any(|name| case.sql.contains(name));
        if by_arrival {
            continue;
        }
        if let Err(error) = check(&case, &config) {
            failures.insert(case.name.clone(), error);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn answers_do_not_depend_on_how_a_query_runs() {
    check_another_way(Store::Memory, 1);
}

#[test]
fn answers_do_not_depend_on_how_a_query_runs_over_a_state_node() {
    check_another_way(Store::Embedded, 3);
}
