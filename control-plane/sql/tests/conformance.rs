//! Every query of the conformance suite is planned with Flink's column names and types, or refused
//! as one that is not supported. Results are compared elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use proto::types::{DataType, Field};
use sql::error::SqlError;
use sql::{JobKind, Outcome, PlanOptions, Session, parse_script};

/// Rejections that can only happen when the job runs.
const AT_RUNTIME: &[&str] = &["34-cast-runtime", "35-div-zero"];

fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/conformance")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {path:?}: {error}"))
}

/// Limits of Flink rather than of the language: these run.
const ACCEPTED: &[&str] = &[
    "15-errors/17-over-two-windows",
    "15-errors/32-interval-updating",
    "15-errors/49-over-updating",
];

/// All cases: their files, sorted.
fn cases() -> Vec<PathBuf> {
    let entries = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).expect("a directory of the suite");
        entries
            .map(|entry| entry.expect("readable").path())
            .collect()
    };
    let areas = entries(&suite().join("cases"));
    let mut cases: Vec<PathBuf> = areas
        .iter()
        .filter(|area| area.is_dir())
        .flat_map(|area| entries(area))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    cases.sort();
    assert!(cases.len() > 200, "the suite is not complete");
    cases
}

/// The columns of the case's last statement.
fn columns(path: &Path) -> Result<Vec<Field>, SqlError> {
    let mut session = Session::new(PlanOptions::default());
    let ddl = read(&suite().join("ddl.sql"));
    for statement in parse_script(&ddl).expect("the tables of the suite") {
        session
            .execute(&statement)
            .expect("the tables of the suite");
    }
    let mut last = None;
    for statement in parse_script(&read(path))? {
        last = Some(session.execute(&statement)?);
    }
    match last {
        Some(Outcome::Job {
            kind: JobKind::Select { columns, .. },
            ..
        }) => Ok(columns),
        other => panic!("{path:?} does not end with a query: {other:?}"),
    }
}

/// What is wrong with a case, if anything.
fn problem(path: &Path) -> Option<String> {
    let name = path.with_extension("");
    let name = name
        .strip_prefix(suite().join("cases"))
        .expect("inside of it")
        .display()
        .to_string();
    let listed = |list: &[&str]| list.iter().any(|case| name.ends_with(case));
    if path.with_extension("err").exists() {
        return match columns(path) {
            Ok(_) if listed(AT_RUNTIME) || listed(ACCEPTED) => None,
            Ok(_) => Some(format!("{name} is accepted")),
            Err(error) if error.span.is_none() => Some(format!("{name} has no position: {error}")),
            Err(_) => None,
        };
    }
    let tsv = read(&path.with_extension("tsv"));
    let header = |line: usize| -> Vec<&str> {
        let text = tsv.lines().nth(line).unwrap_or_default();
        text.strip_prefix("# ")
            .unwrap_or_default()
            .split('\t')
            .collect()
    };
    match columns(path) {
        Ok(columns) => {
            let shown = |text: &str| {
                text.parse::<DataType>()
                    .map(|data_type| data_type.to_string())
            };
            let types = header(1).into_iter().map(|text| {
                let text = text.replace(" *ROWTIME*", "").replace(" *PROCTIME*", "");
                shown(&text).expect("a type")
            });
            let expected: Vec<String> = header(0)
                .iter()
                .zip(types)
                .map(|(name, data_type)| format!("{name} {data_type}"))
                .collect();
            let found: Vec<String> = columns
                .iter()
                .map(|field| format!("{} {}", field.name, field.data_type))
                .collect();
            (expected != found).then(|| format!("{name}\n  has  {found:?}\n  not  {expected:?}"))
        }
        Err(error) if error.message.contains("not supported") => None,
        Err(error) => Some(format!("{name}: {:?}: {error}", error.stage)),
    }
}

#[test]
fn columns_are_those_of_flink() {
    let problems: Vec<String> = cases().iter().filter_map(|path| problem(path)).collect();
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}
