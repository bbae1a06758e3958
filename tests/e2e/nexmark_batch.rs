//! Nexmark's queries of which there are no answers of Flink's, against what a program computes from the
//! same events.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use tests::{
    RunConfig, Store,
    faults::{Fault, Step},
    rows, run,
};

use crate::nexmark::{event_tables, insert, write_events};

/// The events of a file, as far as the queries here ask.
struct Events {
    persons: Vec<Value>,
    auctions: Vec<Value>,
    bids: Vec<Value>,
}

impl Events {
    fn read(path: &Path) -> Events {
        let mut events = Events {
            persons: Vec::new(),
            auctions: Vec::new(),
            bids: Vec::new(),
        };
        for line in fs::read_to_string(path).expect("events").lines() {
            let mut event: Value = serde_json::from_str(line).expect("an event");
            let (name, of_kind) = match event["event_type"].as_i64() {
                Some(0) => ("person", &mut events.persons),
                Some(1) => ("auction", &mut events.auctions),
                _ => ("bid", &mut events.bids),
            };
            of_kind.push(event[name].take());
        }
        events
    }
}

/// A field as TSV.
fn cell(row: &Value, field: &str) -> String {
    match &row[field] {
        Value::String(time) if field == "dateTime" || field == "expires" => {
            // The events leave zeros at the end out.
            let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
            format!("{seconds}.{fraction:0<3}")
        }
        Value::String(text) => text
            .replace('\\', "\\\\")
            .replace('\t', "\\t")
            .replace('\n', "\\n"),
        value => value.to_string(),
    }
}

fn cells(row: &Value, fields: &[&str]) -> String {
    let cells: Vec<String> = fields.iter().map(|field| cell(row, field)).collect();
    cells.join("\t")
}

const BID: &[&str] = &[
    "auction", "bidder", "price", "channel", "url", "dateTime", "extra",
];

/// How each query runs: on one task, on several, and with all kinds of crashes.
fn configs() -> Vec<RunConfig> {
    let crash = |step, nth, after| Fault { step, nth, after };
    let tasks = |parallelism| RunConfig {
        parallelism,
        batch_rows: 500,
        ..RunConfig::default()
    };
    vec![
        tasks(1),
        tasks(2),
        tasks(4),
        RunConfig {
            store: Store::Embedded,
            parallelism: 4,
            batch_rows: 200,
            checkpoint_interval_ms: 10,
            faults: vec![
                crash(Step::Stage, 20, true),
                crash(Step::Commit, 4, true),
                crash(Step::Output, 3, false),
            ],
            ..RunConfig::default()
        },
    ]
}

/// In these events whoever bids is nobody: their numbers begin where those of persons end.
fn with_known_bidders(line: &str) -> String {
    let mut event: Value = serde_json::from_str(line).expect("an event");
    if let Some(bidder) = event["bid"]["bidder"].as_i64() {
        event["bid"]["bidder"] = (bidder - 1000).into();
    }
    event.to_string()
}

/// The rows of a query's SELECT, `around` it.
fn check(query: &str, around: &dyn Fn(&str) -> String, expected: &dyn Fn(&Events) -> Vec<String>) {
    check_events(query, &str::to_owned, around, expected);
}

/// The same over events that are changed line by line.
fn check_events(
    query: &str,
    change: &dyn Fn(&str) -> String,
    around: &dyn Fn(&str) -> String,
    expected: &dyn Fn(&Events) -> Vec<String>,
) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = write_events(folder.path());
    let events = fs::read_to_string(&path).expect("events");
    let events: Vec<String> = events.lines().map(change).collect();
    fs::write(&path, events.join("\n")).expect("written");
    let mut expected = expected(&Events::read(&path));
    expected.sort_unstable();
    let [_, insert] = insert(query, "");
    let (_, select) = insert.split_once('\n').expect("a SELECT");
    let script = format!("{}\n{}", event_tables(&path), around(select));
    for config in configs() {
        let output = run(&script, &config).expect(query);
        let found = rows::sorted_rows(&output.text, 1);
        let same = rows::compare(&found, &expected, &[]);
        same.unwrap_or_else(|error| panic!("{query}: {error} (faults: {})", output.faults));
    }
}

/// Which windows of processing time bids are in is chance; that each is in one is not.
#[test]
fn q12_counts_each_bid_in_one_window() {
    let around = |select: &str| {
        let select = select.trim_end().trim_end_matches(';');
        format!("SELECT bidder, SUM(bid_count) FROM ({select}) AS w GROUP BY bidder;")
    };
    check("q12", &around, &bids_of_bidders);
}

fn bids_of_bidders(events: &Events) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for bid in &events.bids {
        *counts.entry(cell(bid, "bidder")).or_default() += 1;
    }
    let line = |(bidder, count)| format!("{bidder}\t{count}");
    counts.into_iter().map(line).collect()
}

/// The same in the words of the public benchmark, by a window function, and with a condition on the window.
#[test]
fn q12_counts_each_bid_in_one_window_of_a_window_function() {
    const PUBLIC: &str = "
        CREATE VIEW B AS SELECT *, PROCTIME() as p_time FROM bid;
        CREATE VIEW counts AS
        SELECT
            bidder,
            count(*) as bid_count,
            window_start AS starttime,
            window_end AS endtime
        FROM TABLE(
                TUMBLE(TABLE B, DESCRIPTOR(p_time), INTERVAL '10' SECOND))
        GROUP BY bidder, window_start, window_end;
        SELECT bidder, SUM(bid_count) FROM counts
        WHERE starttime >= TIMESTAMP '2020-01-01 00:00:00' AND endtime = starttime + INTERVAL '10' SECOND
          AND EXTRACT(SECOND FROM starttime) IN (0, 10, 20, 30, 40, 50)
        GROUP BY bidder;";
    check("q12", &|_| PUBLIC.to_owned(), &bids_of_bidders);
}

#[test]
fn q23_joins_bids_with_bidders_and_their_auctions() {
    let person: &[&str] = &[
        "name",
        "emailAddress",
        "creditCard",
        "city",
        "state",
        "dateTime",
        "extra",
    ];
    let auction: &[&str] = &[
        "id",
        "itemName",
        "description",
        "initialBid",
        "reserve",
        "dateTime",
        "expires",
        "category",
        "extra",
    ];
    check_events("q23", &with_known_bidders, &str::to_owned, &|events| {
        let mut persons: BTreeMap<String, &Value> = BTreeMap::new();
        for row in &events.persons {
            persons.insert(cell(row, "id"), row);
        }
        let mut auctions: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for row in &events.auctions {
            auctions.entry(cell(row, "seller")).or_default().push(row);
        }
        let mut joined = Vec::new();
        for bid in &events.bids {
            let bidder = cell(bid, "bidder");
            let Some(who) = persons.get(&bidder) else {
                continue;
            };
            for sold in auctions.get(&bidder).into_iter().flatten() {
                let row = [cells(bid, BID), cells(who, person), cells(sold, auction)];
                joined.push(row.join("\t"));
            }
        }
        assert!(!joined.is_empty(), "nothing to compare");
        joined
    });
}

/// Each bid meets the rows of its auction's rest, which the file has once, twice or not at all.
#[test]
fn q13_looks_each_bid_up_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let side_input = folder.path().join("side_input.csv");
    let rows = |key: u64| match key % 3 {
        0 => vec![format!("once {key}")],
        1 => vec![format!("a {key}"), format!("b {key}")],
        _ => Vec::new(),
    };
    let line = |key: u64| {
        rows(key)
            .into_iter()
            .map(move |row| format!("{key},{row}\n"))
    };
    let lines: String = (0..10_000).flat_map(line).collect();
    fs::write(&side_input, lines).expect("written");
    let [tables, _] = insert("q13", "'connector' = 'blackhole'");
    let tables = tables.replace("{SIDE_INPUT}", &side_input.display().to_string());
    let around = |select: &str| format!("{tables}\n{select}");
    check("q13", &around, &|events| {
        let mut joined = Vec::new();
        for bid in &events.bids {
            let own = cells(bid, &["auction", "bidder", "price", "dateTime"]);
            let auction = bid["auction"].as_u64().expect("a number");
            let found = rows(auction % 10_000).into_iter();
            joined.extend(found.map(|row| format!("{own}\t{row}")));
        }
        assert!(joined.len() > 1000, "{} rows", joined.len());
        joined
    });
}

/// Files by day and minute hold each bid once, in the folder that its time says.
#[test]
fn q10_logs_each_bid_once_by_its_minute() {
    for config in configs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write_events(folder.path());
        let log = folder.path().join("log");
        let options = format!(
            "'connector' = 'filesystem', 'path' = '{}', 'format' = 'csv'",
            log.display()
        );
        let [table, insert] = insert("q10", &options);
        let write = format!("{}\n{table}\n{insert}", event_tables(&path));
        run(&write, &config).expect("q10");
        let read = run(
            &format!("{table}\nSELECT * FROM nexmark_q10;"),
            &RunConfig::default(),
        );
        let found = rows::sorted_rows(&read.expect("the log").text, 1);
        let line = |bid: &Value| {
            let time = cell(bid, "dateTime");
            let columns = cells(bid, &["auction", "bidder", "price", "dateTime", "extra"]);
            format!("{columns}\t{}\t{}", &time[..10], &time[11..16])
        };
        let events = Events::read(&path);
        let mut expected: Vec<String> = events.bids.iter().map(line).collect();
        expected.sort_unstable();
        rows::compare(&found, &expected, &[]).expect("the bids");
        let minutes: BTreeSet<&str> = expected
            .iter()
            .map(|row| row.rsplit('\t').next().unwrap_or_default())
            .collect();
        for minute in &minutes {
            let day = log
                .join("dt=2026-11-21")
                .join(format!("hm={}", minute.replace(':', "%3A")));
            assert!(day.is_dir(), "{}", day.display());
        }
        assert!(minutes.len() > 1);
    }
}
