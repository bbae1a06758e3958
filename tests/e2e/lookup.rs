//! Lookup joins from SQL to rows: tables of files, views of them, more conditions than keys; and what
//! their users are told when the files cannot be read.

use std::{fs, path::Path};

use tempfile::TempDir;
use tests::{
    RunConfig,
    faults::{Fault, Step},
    rows, run,
};

const ORDERS: u64 = 600;

/// What order `n` asks for: its key, if it has one.
fn key(n: u64) -> Option<u64> {
    (!n.is_multiple_of(11)).then_some(n % 7)
}

/// Writes orders in several files, and what is looked up: key k has k rows.
fn write(folder: &Path) {
    let orders = folder.join("orders");
    fs::create_dir(&orders).expect("a folder");
    for file in 0..5 {
        let order = |n: u64| {
            let key = key(n).map_or_else(|| "null".to_owned(), |key| key.to_string());
            let (minute, second) = (n / 60, n % 60);
            format!("{{\"id\":{n},\"k\":{key},\"ts\":\"2026-01-01 00:{minute:02}:{second:02}\"}}\n")
        };
        let numbers = (0..ORDERS).filter(|n| n % 5 == file);
        let lines: String = numbers.map(order).collect();
        fs::write(orders.join(format!("{file}.json")), lines).expect("written");
    }
    let side = (0..7_u64).flat_map(|k| (0..k).map(move |n| format!("{k},{k}-{n},{n}\n")));
    let side: String = side.chain([",nobody's,0\n".to_owned()]).collect();
    fs::write(folder.join("side.csv"), side).expect("written");
}

fn tables(folder: &TempDir, side: &str) -> String {
    let folder = folder.path().display();
    format!(
        "CREATE TABLE orders (id BIGINT, k BIGINT, ts TIMESTAMP(3), p AS PROCTIME(),
           WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
         WITH ('connector' = 'filesystem', 'path' = '{folder}/orders', 'format' = 'json',
           'json.timestamp-format.standard' = 'SQL');
         CREATE TABLE side (k INT, name STRING, n INT, longer AS CONCAT(name, '!'))
         WITH ('connector' = 'filesystem', 'path' = '{folder}/{side}', 'format' = 'csv', 'csv.null-literal' = '');
         CREATE VIEW wanted AS SELECT UPPER(longer) AS longer, n, k FROM side WHERE n > 0;\n"
    )
}

fn configs() -> [RunConfig; 4] {
    let tasks = |parallelism, batch_rows| RunConfig {
        parallelism,
        batch_rows,
        ..RunConfig::default()
    };
    let crash = RunConfig {
        checkpoint_interval_ms: 10,
        faults: vec![Fault {
            step: Step::Stage,
            nth: 5,
            after: true,
        }],
        ..tasks(4, 20)
    };
    [tasks(1, 4096), tasks(2, 3), tasks(4, 100), crash]
}

fn check(query: &str, mut expected: Vec<String>) {
    let folder = TempDir::new().expect("a folder");
    write(folder.path());
    let script = format!("{}{query};", tables(&folder, "side.csv"));
    expected.sort_unstable();
    for config in configs() {
        let output = run(&script, &config).expect(query);
        let found = rows::sorted_rows(&output.text, 1);
        let same = rows::compare(&found, &expected, &[]);
        same.unwrap_or_else(|error| panic!("{query}: {error} (faults: {})", output.faults));
    }
}

#[test]
fn a_row_meets_all_rows_of_its_key_that_meet_the_condition() {
    let query = "SELECT o.id, s.name FROM orders o JOIN side FOR SYSTEM_TIME AS OF o.p AS s \
                 ON o.k = s.k AND MOD(o.id, 4) >= s.n AND s.name <> '3-1'";
    let joined = |n: u64| {
        let k = key(n).unwrap_or(0);
        let found = (0..k).filter(move |row| n % 4 >= *row && (k, *row) != (3, 1));
        found.map(move |row| format!("{n}\t{k}-{row}"))
    };
    check(query, (0..ORDERS).flat_map(joined).collect());
}

#[test]
fn a_row_that_meets_nothing_stays_where_it_is_asked_for() {
    let query = "SELECT o.id, s.longer, s.n FROM orders o LEFT JOIN wanted FOR SYSTEM_TIME AS OF o.p AS s \
                 ON o.k = s.k AND s.n < o.id - 300";
    let joined = |n: u64| {
        let k = key(n).unwrap_or(0);
        let found: Vec<String> = (1..k)
            .filter(|row| n > 300 + row)
            .map(|row| format!("{n}\t{k}-{row}!\t{row}"))
            .collect();
        match found.is_empty() {
            true => vec![format!("{n}\t\\N\t\\N")],
            false => found,
        }
    };
    check(query, (0..ORDERS).flat_map(joined).collect());
}

#[test]
fn windows_may_follow() {
    let query = "SELECT window_start, COUNT(*) AS found FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), \
                 INTERVAL '5' MINUTE)) o JOIN side FOR SYSTEM_TIME AS OF o.p AS s ON s.k = o.k \
                 GROUP BY window_start, window_end";
    let window = |start: u64| {
        let found: u64 = (start..start + 300).filter_map(key).sum();
        format!("2026-01-01 00:{:02}:00.000\t{found}", start / 60)
    };
    check(query, vec![window(0), window(300)]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = TempDir::new().expect("a folder");
    write(folder.path());
    fs::write(folder.path().join("bad.csv"), "1,a,1\n2,b\nx,c,3\n").expect("written");
    let query =
        "SELECT o.id, s.name FROM orders o JOIN side FOR SYSTEM_TIME AS OF o.p AS s ON o.k = s.k;";
    for (side, says) in [
        ("gone.csv", "gone.csv`: No such file or directory"),
        ("bad.csv", "bad.csv` at record "),
    ] {
        let script = format!("{}{query}", tables(&folder, side));
        let error = run(&script, &RunConfig::default()).expect_err(side);
        assert!(error.contains("table `side`: failed to read"), "{error}");
        assert!(error.contains(says), "{error}");
    }
}
