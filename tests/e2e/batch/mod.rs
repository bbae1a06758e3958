//! The backbone: the result of a bounded run equals the batch result of the same query, whatever
//! the batch size, the parallelism, the time between checkpoints, and wherever a crash comes.
//!
//! `SEED=7 CASES=500 cargo test -p tests --test e2e batch` tries others than the default ones.

mod relation;
mod sqlite;
mod strategy;
mod tables;

use std::{
    env,
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
    RunConfig,
    faults::{Fault, Step},
    rows, run,
};

/// Runs of one case side by side: most of their time they wait to be restarted.
const RUNS: usize = 6;
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
fn config() -> impl Strategy<Value = RunConfig> {
    let fault = (select(&STEPS[..]), 1..9_u64, any::<bool>());
    let fault = fault.prop_map(|(step, nth, after)| Fault { step, nth, after });
    let stage = (1..9_u64, any::<bool>()).prop_map(|(nth, after)| Fault {
        step: Step::Stage,
        nth,
        after,
    });
    (
        (1..5_u32, select(&[1, 2, 3, 7, 64, 1000][..])),
        select(&[1, 1, 1, 3, 0][..]),
        prop::collection::vec(prop_oneof![fault, stage], 0..3),
        prop::option::weighted(0.6, 1..LOOKS),
    )
        .prop_map(
            |((parallelism, batch_rows), interval_ms, faults, crash)| RunConfig {
                parallelism,
                batch_rows,
                checkpoint_interval_ms: interval_ms,
                faults,
                crash_at_look: crash,
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
    let ran = |way: &RunConfig| {
        let output = run(&script, way)?;
        rows::compare(&rows::sorted_rows(&output.text, 1), &expected, &[])?;
        Ok((output.checkpoints, output.faults))
    };
    thread::scope(|scope| {
        let runs: Vec<_> = ways
            .iter()
            .map(|way| scope.spawn(move || ran(way)))
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

#[test]
fn a_bounded_run_gives_the_batch_result() {
    let (checkpoints, faults) = (AtomicU64::new(0), AtomicU64::new(0));
    let strategy = (
        tables::tables(),
        strategy::relation(),
        prop::collection::vec(config(), RUNS),
    );
    let mut runner = runner(60);
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

/// An aggregate and a window join of everything there is, into one changelog.
const SYSTEMATIC: &str = "SELECT l.c0 AS c0, l.c1 AS c1, r.c1 AS c2 FROM (SELECT c1 AS c0, COUNT(*) \
     AS c1 FROM u GROUP BY c1) AS l LEFT JOIN (SELECT c0 AS c0, SUM(c1) AS c1 FROM (SELECT \
     window_start, c0, COUNT(DISTINCT c1) AS c1 FROM TABLE(HOP(TABLE a, DESCRIPTOR(c3), INTERVAL \
     '3' SECOND, INTERVAL '9' SECOND)) GROUP BY window_start, window_end, c0) AS w GROUP BY c0) AS \
     r ON l.c0 = r.c0";

/// The rows of [`SYSTEMATIC`] in one of many ways, and how often tasks looked at the clock.
fn systematic(ddl: &str, way: &RunConfig) -> Result<(Vec<String>, u64, u64), String> {
    let output = run(&format!("{ddl}{SYSTEMATIC};"), way)?;
    Ok((
        rows::sorted_rows(&output.text, 1),
        output.looks,
        output.faults,
    ))
}

#[test]
fn a_crash_at_any_step_changes_nothing() {
    let mut runner = runner(1);
    let mut input = || {
        let tree = tables::tables().new_tree(&mut runner).expect("tables");
        tree.current()
    };
    let input = std::iter::repeat_with(&mut input)
        .find(|tables: &Tables| tables.a.len() > 100 && tables.items().len() > 10)
        .expect("endless");
    let folder = tempfile::tempdir().expect("a folder");
    let ddl = input.write(folder.path());
    let plain = RunConfig {
        parallelism: 2,
        batch_rows: 7,
        checkpoint_interval_ms: 1,
        ..RunConfig::default()
    };
    let (expected, looks, _) = systematic(&ddl, &plain).expect("runs");
    assert!(expected.len() > 5, "{expected:?}");
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
    ways.extend((1..=looks).step_by(5).map(|look| RunConfig {
        crash_at_look: Some(look),
        ..plain.clone()
    }));
    let struck = AtomicU64::new(0);
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while let Some(way) = ways.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let (rows, _, faults) =
                        systematic(&ddl, way).unwrap_or_else(|error| panic!("{error}: {way:?}"));
                    assert_eq!(rows, expected, "{way:?}");
                    struck.fetch_add(faults, Ordering::Relaxed);
                }
            });
        }
    });
    let struck = struck.into_inner();
    println!("{} runs, {struck} faults", ways.len());
    assert!(struck as usize > ways.len() / 2, "only {struck} faults");
}
