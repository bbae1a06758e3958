//! The backbone: the result of a bounded run equals the batch result of the same query, whatever
//! the batch size, the parallelism, the time between checkpoints, and wherever a crash comes.
//!
//! `SEED=7 CASES=500 cargo test -p tests --test e2e batch` tries others than the default ones.

mod crash;
mod grouping;
mod over;
mod ranked;
mod relation;
mod sqlite;
mod strategy;
mod subquery;
mod tables;

use std::{
    env, fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use proptest::{
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use relation::{Dialect, Relation};
use tables::Tables;
use tests::{
    RunConfig, Store,
    faults::{Fault, Step},
    rows, run,
};

/// Runs of one case side by side: most of their time they wait to be restarted.
const RUNS: usize = 6;
const SPLIT: &str = "SET 'table.optimizer.distinct-agg.split.enabled' = 'true';
SET 'table.optimizer.distinct-agg.split.bucket-num' = '3';
";
/// Looks at the clock that a small job gets to.
const LOOKS: u64 = 600;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn runner(cases: u64) -> TestRunner {
    let seed = number("SEED", 1);
    let config = Config {
        cases: u32::try_from(number("CASES", cases)).expect("fewer cases"),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

const STEPS: [Step; 7] = [
    Step::Read,
    Step::Scan,
    Step::Stage,
    Step::Output,
    Step::Begin,
    Step::Commit,
    Step::Published,
];

/// How one run differs from the next.
fn config(store: Store) -> impl Strategy<Value = RunConfig> {
    let fault = (select(&STEPS[..]), 1..9_u64, any::<bool>());
    let fault = fault.prop_map(|(step, nth, after)| Fault { step, nth, after });
    let stage = (1..9_u64, any::<bool>()).prop_map(|(nth, after)| Fault {
        step: Step::Stage,
        nth,
        after,
    });
    (
        (1..5_u32, select(&[1, 2, 3, 7, 64, 1000][..])),
        (
            select(&[1, 1, 1, 3, 0][..]),
            select(&[Some(0), Some(0), None][..]),
        ),
        prop::collection::vec(prop_oneof![fault, stage], 0..3),
        prop::option::weighted(0.6, 1..LOOKS),
    )
        .prop_map(
            move |((parallelism, batch_rows), (interval_ms, patience_ms), faults, crash)| {
                RunConfig {
                    store,
                    parallelism,
                    batch_rows,
                    checkpoint_interval_ms: interval_ms,
                    alignment_timeout_ms: patience_ms,
                    faults,
                    crash_at_look: crash,
                }
            },
        )
}

/// Runs the query in each of the ways; the epochs and faults that there were.
fn check(tables: &Tables, query: &Relation, ways: &[RunConfig]) -> Result<(u64, u64), String> {
    let Some(expected) = sqlite::rows(tables, query) else {
        return Ok((0, 0));
    };
    let folder = tempfile::tempdir().expect("a folder");
    let ddl = tables.write(folder.path());
    let script = format!("{ddl}{};\n", query.sql(Dialect::Flink));
    // Every other way has DISTINCT aggregates in two steps.
    let split = format!("{SPLIT}{script}");
    let ran = |at: usize, way: &RunConfig| {
        let script = if at.is_multiple_of(2) {
            &script
        } else {
            &split
        };
        let output = run(script, way)?;
        let same = rows::compare(&rows::sorted_rows(&output.text, 1), &expected, &[]);
        same.map_err(|error| format!("{error}\n{script}"))?;
        Ok((output.checkpoints, output.faults))
    };
    thread::scope(|scope| {
        let runs: Vec<_> = ways
            .iter()
            .enumerate()
            .map(|(at, way)| scope.spawn(move || ran(at, way)))
            .collect();
        let mut sum = (0, 0);
        for (way, run) in ways.iter().zip(runs) {
            let result: Result<(u64, u64), String> = run.join().expect("no panic");
            let (checkpoints, faults) =
                result.map_err(|error| format!("{error}\n{way:?}\n{script}"))?;
            sum = (sum.0 + checkpoints, sum.1 + faults);
        }
        Ok(sum)
    })
}

/// A query over tables in files.
pub(super) struct Case {
    /// The statements that make the tables `a`, `b` and `u`.
    pub(super) ddl: String,
    /// Its columns, as a table is declared with.
    pub(super) columns: String,
    /// The query.
    pub(super) select: String,
    /// What the batch engine answers: sorted rows of TSV.
    pub(super) rows: Vec<String>,
}

/// Random queries over random tables whose files are below the folder; each has some rows.
pub(super) fn some_cases(count: usize, folder: &Path) -> Vec<Case> {
    let mut runner = runner(1);
    let strategy = (tables::tables(), strategy::relation());
    let mut cases = Vec::new();
    while cases.len() < count {
        let tree = strategy.new_tree(&mut runner).expect("a case");
        let (tables, query) = tree.current();
        let rows = sqlite::rows(&tables, &query).filter(|rows| rows.len() > 5);
        let Some(rows) = rows else {
            continue;
        };
        let folder = folder.join(format!("case-{}", cases.len()));
        fs::create_dir(&folder).expect("a folder");
        let columns = query.columns().into_iter().enumerate();
        let columns = columns.map(|(at, column)| format!("c{at} {}", column.name()));
        cases.push(Case {
            ddl: tables.write(&folder),
            columns: columns.collect::<Vec<_>>().join(", "),
            select: query.sql(Dialect::Flink),
            rows,
        });
    }
    cases
}

/// Runs random queries over random tables in random ways.
fn check_all(store: Store, cases: u64) {
    let (checkpoints, faults) = (AtomicU64::new(0), AtomicU64::new(0));
    let strategy = (
        tables::tables(),
        strategy::relation(),
        prop::collection::vec(config(store), RUNS),
    );
    let mut runner = runner(cases);
    let result = runner.run(&strategy, |(tables, query, ways)| {
        let (epochs, struck) = check(&tables, &query, &ways).map_err(TestCaseError::fail)?;
        checkpoints.fetch_add(epochs, Ordering::Relaxed);
        faults.fetch_add(struck, Ordering::Relaxed);
        Ok(())
    });
    let (checkpoints, faults) = (checkpoints.into_inner(), faults.into_inner());
    println!("{checkpoints} checkpoints, {faults} faults");
    match result {
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        other => other.expect("cases"),
    }
    // A test in which nothing goes wrong shows nothing.
    let runs = u64::from(runner.config().cases) * RUNS as u64;
    assert!(faults > runs / 2, "only {faults} faults in {runs} runs");
    assert!(
        checkpoints > runs,
        "only {checkpoints} checkpoints in {runs} runs"
    );
}

#[test]
fn a_bounded_run_gives_the_batch_result() {
    check_all(Store::Memory, 60);
}

#[test]
fn a_bounded_run_gives_the_batch_result_over_a_state_node() {
    check_all(Store::Embedded, 24);
}
