//! Flink's answers to Nexmark's queries over 20,000 events (`tests/data/nexmark-20k`).

use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

use tests::{
    RunConfig, Store, data,
    faults::{Fault, Step},
    root, rows, run,
};

/// Queries whose operators exist.
const QUERIES: &[&str] = &[
    "q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q14", "q15", "q16", "q17", "q20", "q21", "q22",
];

fn unzip(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).expect("test data");
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("text");
    text
}

/// The oracle writes backslashes as they are; our TSV escapes them.
fn escaped(tsv: &str) -> String {
    let cell = |cell: &str| {
        if cell == "\\N" {
            cell.to_owned()
        } else {
            cell.replace('\\', "\\\\")
        }
    };
    let row = |row: &str| row.split('\t').map(cell).collect::<Vec<_>>().join("\t");
    tsv.lines().map(row).collect::<Vec<_>>().join("\n")
}

/// The query as a bare SELECT over the events in a file.
fn script(query: &str, events: &Path) -> String {
    let folder = root().join("loadtest/nexmark");
    let ddl = fs::read_to_string(folder.join("ddl.sql")).expect("the tables");
    let source = format!(
        "'connector' = 'filesystem', 'path' = '{}', 'format' = 'json', \
         'json.timestamp-format.standard' = 'SQL'",
        events.display()
    );
    let sql = fs::read_to_string(folder.join(format!("{query}.sql"))).expect("a query");
    let insert = format!("INSERT INTO nexmark_{query}\n");
    let (_, select) = sql.split_once(&insert).expect("an INSERT");
    format!("{}\n{select}", ddl.replace("{WITH}", &source))
}

fn check(query: &str, events: &Path, config: &RunConfig) -> Result<(), String> {
    let output = run(&script(query, events), config)?;
    let expected = escaped(&unzip(&data(&format!(
        "nexmark-20k/expected/{query}.tsv.gz"
    ))));
    rows::compare(
        &rows::sorted_rows(&output.text, 1),
        &rows::sorted_rows(&expected, 1),
        &[],
    )
    .map_err(|error| format!("{error} (faults: {})", output.faults))
}

fn check_all(config: &RunConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    let events = folder.path().join("events.jsonl");
    fs::write(&events, unzip(&data("nexmark-20k/events.jsonl.gz"))).expect("written");
    let mut failures = BTreeMap::new();
    for query in QUERIES {
        if let Err(error) = check(query, &events, config) {
            failures.insert(*query, error);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn one_task() {
    check_all(&RunConfig::default());
}

#[test]
fn four_tasks() {
    check_all(&RunConfig {
        parallelism: 4,
        batch_rows: 500,
        ..RunConfig::default()
    });
}

#[test]
fn one_task_with_a_crash() {
    check_all(&RunConfig {
        batch_rows: 1000,
        checkpoint_interval_ms: 10,
        faults: vec![Fault {
            step: Step::Stage,
            nth: 7,
            after: false,
        }],
        ..RunConfig::default()
    });
}

/// Four tasks that lose what they do, and answers that get lost.
fn crashes(store: Store) -> RunConfig {
    RunConfig {
        store,
        parallelism: 4,
        batch_rows: 200,
        checkpoint_interval_ms: 10,
        faults: vec![
            Fault {
                step: Step::Stage,
                nth: 20,
                after: true,
            },
            Fault {
                step: Step::Commit,
                nth: 4,
                after: true,
            },
            Fault {
                step: Step::Output,
                nth: 3,
                after: false,
            },
        ],
        ..RunConfig::default()
    }
}

#[test]
fn four_tasks_with_crashes() {
    check_all(&crashes(Store::Memory));
}

#[test]
fn four_tasks_with_crashes_over_a_state_node() {
    check_all(&crashes(Store::Embedded));
}
