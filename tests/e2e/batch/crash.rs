//! One job, crashed at every step in turn: its rows, and the files that it writes, are the same.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use proptest::strategy::{Strategy as _, ValueTree as _};
use tests::{RunConfig, Store, faults::Fault, rows, run};

use super::{
    STEPS, runner,
    tables::{Tables, tables},
};

/// Runs side by side: most of their time they wait to be restarted.
const THREADS: usize = 12;

/// An aggregate of what changes joined with windows of what grows.
const QUERY: &str = "SELECT l.c0 AS c0, l.c1 AS c1, r.c1 AS c2 FROM (SELECT c1 AS c0, COUNT(*) AS \
     c1 FROM u GROUP BY c1) AS l LEFT JOIN (SELECT c0 AS c0, SUM(c1) AS c1 FROM (SELECT \
     window_start, c0, COUNT(DISTINCT c1) AS c1 FROM TABLE(HOP(TABLE a, DESCRIPTOR(c3), INTERVAL \
     '3' SECOND, INTERVAL '9' SECOND)) GROUP BY window_start, window_end, c0) AS w GROUP BY c0) AS \
     r ON l.c0 = r.c0";

/// What one run gives.
struct Outcome {
    rows: Vec<String>,
    looks: u64,
    faults: u64,
}

/// Some tables that are not too small.
fn input() -> Tables {
    let mut runner = runner(1);
    let mut tables = || {
        let tree = tables().new_tree(&mut runner).expect("tables");
        tree.current()
    };
    std::iter::repeat_with(&mut tables)
        .find(|tables| tables.a.len() > 100 && tables.items().len() > 10)
        .expect("endless")
}

/// Every step of the store, before and after its effect, and every so many looks at the clock.
fn ways(plain: &RunConfig, looks: u64, look_step: usize) -> Vec<RunConfig> {
    let mut ways = Vec::new();
    for step in STEPS {
        for nth in 1..=4 {
            let faults = [false, true].map(|after| Fault { step, nth, after });
            ways.extend(faults.map(|fault| RunConfig {
                faults: vec![fault],
                ..plain.clone()
            }));
        }
    }
    ways.extend((1..=looks).step_by(look_step).map(|look| RunConfig {
        crash_at_look: Some(look),
        ..plain.clone()
    }));
    // In some of them barriers overtake.
    for way in ways.iter_mut().step_by(3) {
        way.alignment_timeout_ms = Some(0);
    }
    ways
}

/// Runs the script that `script` makes of the tables' DDL and an empty folder in every way, and
/// wants the same rows.
fn crash_everywhere(store: Store, script: impl Fn(&str, &Path) -> String + Sync, look_step: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let ddl = input().write(folder.path());
    let outcome = |way: &RunConfig| {
        let folder = tempfile::tempdir().expect("a folder");
        let output = run(&script(&ddl, folder.path()), way);
        let output = output.unwrap_or_else(|error| panic!("{error}: {way:?}"));
        Outcome {
            rows: rows::sorted_rows(&output.text, 1),
            looks: output.looks,
            faults: output.faults,
        }
    };
    let plain = RunConfig {
        store,
        parallelism: 2,
        batch_rows: 7,
        checkpoint_interval_ms: 1,
        alignment_timeout_ms: None,
        ..RunConfig::default()
    };
    let expected = outcome(&plain);
    assert!(expected.rows.len() > 5, "{:?}", expected.rows);
    let ways = ways(&plain, expected.looks, look_step);
    let (next, struck) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(way) = ways.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let outcome = outcome(way);
                    assert_eq!(outcome.rows, expected.rows, "{way:?}");
                    struck.fetch_add(outcome.faults, Ordering::Relaxed);
                }
            });
        }
    });
    let struck = struck.into_inner();
    println!("{} runs, {struck} faults", ways.len());
    assert!(struck as usize > ways.len() / 2, "only {struck} faults");
}

/// The query as a SELECT.
fn select(ddl: &str, _: &Path) -> String {
    format!("{ddl}{QUERY};")
}

/// The query's changes in files of the folder, and a SELECT of them.
fn insert(ddl: &str, folder: &Path) -> String {
    let path = folder.join("out");
    format!(
        "{ddl}CREATE TABLE changes (c0 BIGINT, c1 BIGINT, c2 BIGINT) WITH ('connector' = \
         'filesystem', 'path' = '{}', 'format' = 'debezium-json');\n\
         INSERT INTO changes {QUERY};\nSELECT * FROM changes;",
        path.display()
    )
}

#[test]
fn a_crash_at_any_step_changes_nothing() {
    crash_everywhere(Store::Memory, select, 5);
}

#[test]
fn a_crash_at_any_step_changes_nothing_over_a_state_node() {
    crash_everywhere(Store::Embedded, select, 60);
}

#[test]
fn files_hold_every_change_once_wherever_a_crash_comes() {
    crash_everywhere(Store::Memory, insert, 20);
}

#[test]
fn files_hold_every_change_once_wherever_a_crash_comes_over_a_state_node() {
    crash_everywhere(Store::Embedded, insert, 100);
}
