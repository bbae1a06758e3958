//! Flink's answers to Nexmark's queries over 20,000 events (`tests/data/nexmark-20k`); to q6, which
//! Flink cannot run, the answer that is computed here.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::{
    RunConfig, Store, data,
    faults::{Fault, Step},
    root, rows, run,
};

/// Queries whose answers by Flink there are.
pub(super) const QUERIES: &[&str] = &[
    "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q11", "q14", "q15", "q16", "q17",
    "q18", "q19", "q20", "q21", "q22",
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
    let [_, insert] = insert(query, "");
    let (_, select) = insert.split_once('\n').expect("a SELECT");
    format!("{}\n{select}", event_tables(events))
}

fn check(query: &str, events: &Path, config: &RunConfig) -> Result<(), String> {
    let output = run(&script(query, events), config)?;
    compare(query, &output.text).map_err(|error| format!("{error} (faults: {})", output.faults))
}

/// Compares the rows that a query gave, as TSV, with Flink's.
pub(super) fn compare(query: &str, text: &str) -> Result<(), String> {
    let expected = match query {
        "q6" => averages(),
        _ => {
            let expected = data(&format!("nexmark-20k/expected/{query}.tsv.gz"));
            rows::sorted_rows(&escaped(&unzip(&expected)), 1)
        }
    };
    rows::compare(&rows::sorted_rows(text, 1), &expected, &[])
}

/// An auction: its seller, from when to when it takes bids, and the best one: its price, and the
/// earliest time.
struct Auction {
    seller: i64,
    open: (String, String),
    best: Option<(i64, Reverse<String>)>,
}

/// q6 in one go: at each bid that won an auction, the average of the prices at which its seller sold
/// that one and up to ten before.
fn averages() -> Vec<String> {
    let text = unzip(&data("nexmark-20k/events.jsonl.gz"));
    let events = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"));
    let events: Vec<Value> = events.collect();
    let number = |row: &Value, name: &str| row[name].as_i64().expect("a number");
    // Of one length, so that times compare as their text does.
    let time = |row: &Value, name: &str| row[name].as_str().expect("a time").to_owned();
    let rows = |name: &str| {
        let rows = events.iter().map(|event| &event[name]);
        rows.filter(|row| row.is_object()).collect::<Vec<_>>()
    };
    let auction = |row: &Value| Auction {
        seller: number(row, "seller"),
        open: (time(row, "dateTime"), time(row, "expires")),
        best: None,
    };
    let auctions = rows("auction").into_iter();
    let mut auctions: BTreeMap<i64, Auction> = auctions
        .map(|row| (number(row, "id"), auction(row)))
        .collect();
    for bid in rows("bid") {
        let at = time(bid, "dateTime");
        if let Some(auction) = auctions.get_mut(&number(bid, "auction"))
            && (&auction.open.0..=&auction.open.1).contains(&&at)
        {
            let bid = Some((number(bid, "price"), Reverse(at)));
            auction.best = auction.best.take().max(bid);
        }
    }
    let mut sold: BTreeMap<i64, Vec<(String, i64, i64)>> = BTreeMap::new();
    for (id, auction) in auctions {
        if let Some((price, Reverse(at))) = auction.best {
            sold.entry(auction.seller)
                .or_default()
                .push((at, id, price));
        }
    }
    let mut averages = Vec::new();
    for (seller, mut sold) in sold {
        sold.sort_unstable();
        for at in 0..sold.len() {
            let last = &sold[at.saturating_sub(10)..=at];
            let sum: i64 = last.iter().map(|(_, _, price)| price).sum();
            averages.push(format!("{seller}\t{}", sum / last.len() as i64));
        }
    }
    averages.sort_unstable();
    averages
}

/// Writes the events to a file in the folder: its path.
pub(super) fn write_events(folder: &Path) -> PathBuf {
    let events = folder.join("events.jsonl");
    fs::write(&events, unzip(&data("nexmark-20k/events.jsonl.gz"))).expect("written");
    events
}

/// The statements that make tables of events, which come from a table with these options.
pub(super) fn tables(options: &str) -> String {
    let ddl = fs::read_to_string(root().join("loadtest/nexmark/ddl.sql")).expect("the tables");
    ddl.replace("{WITH}", options)
}

/// The statements that make tables of the events in a file.
pub(super) fn event_tables(events: &Path) -> String {
    let source = format!(
        "'connector' = 'filesystem', 'path' = '{}', 'format' = 'json', \
         'json.timestamp-format.standard' = 'SQL'",
        events.display()
    );
    tables(&source)
}

/// The query's table, with these options, and its INSERT.
pub(super) fn insert(query: &str, options: &str) -> [String; 2] {
    let sql = root().join(format!("loadtest/nexmark/{query}.sql"));
    let sql = fs::read_to_string(sql).expect("a query");
    let (table, insert) = sql.split_once("INSERT INTO").expect("an INSERT");
    let table = table.replace("{WITH}", options);
    [table, format!("INSERT INTO{insert}")]
}

fn check_all(config: &RunConfig) {
    let folder = tempfile::tempdir().expect("a folder");
    let events = write_events(folder.path());
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
fn two_tasks() {
    check_all(&RunConfig {
        parallelism: 2,
        batch_rows: 97,
        checkpoint_interval_ms: 20,
        ..RunConfig::default()
    });
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

/// DISTINCT aggregates in two steps, of values of one expression and of two, with changes taken back
/// and without.
#[test]
fn distinct_values_in_buckets() {
    let folder = tempfile::tempdir().expect("a folder");
    let events = write_events(folder.path());
    for query in ["q15", "q16"] {
        let script = format!(
            "SET 'table.optimizer.distinct-agg.split.enabled' = 'true';\n\
             SET 'table.optimizer.distinct-agg.split.bucket-num' = '7';\n{}",
            script(query, &events)
        );
        let output = run(&script, &crashes(Store::Memory)).expect("it runs");
        compare(query, &output.text).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
}

/// What is random has one value per row, whose bucket is its own.
#[test]
fn random_values_are_in_one_bucket_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!(
        "SET 'table.optimizer.distinct-agg.split.enabled' = 'true';\n{}\n\
         SELECT COUNT(DISTINCT RAND_INTEGER(3)) AS u FROM bid;",
        event_tables(&write_events(folder.path()))
    );
    let output = run(&script, &RunConfig::default()).expect("it runs");
    assert_eq!(rows::sorted_rows(&output.text, 1), ["3"]);
}
