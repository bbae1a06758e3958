//! Load tests at sizes that take seconds: that they measure what they say, whatever the figures are here.

use clap::Parser as _;
use loadtest::Arguments;
use serde_json::Value;

/// Rows enough for every key group to be seen, and state for some thousand keys.
const SMALL: [&str; 8] = [
    "--state-bytes",
    "1MB",
    "--rate",
    "3000",
    "--seconds",
    "2",
    "--checkpoint-interval",
    "200ms",
];

/// Runs a load test: what it prints.
fn run(workload: &str, options: &[&str]) -> Value {
    let binary = env!("CARGO_BIN_EXE_millstream-under-test");
    let own = ["loadtest", workload, "--binary", binary];
    let arguments = Arguments::try_parse_from(own.iter().chain(options));
    let arguments = arguments.unwrap_or_else(|error| panic!("{error}"));
    let outcome = loadtest::run(&arguments).unwrap_or_else(|error| panic!("{error:?}"));
    assert!(!outcome.failed, "nothing was to be checked");
    assert!(!outcome.text.contains('\n'), "one line");
    eprintln!("{}", outcome.text);
    serde_json::from_str(&outcome.text).expect("JSON")
}

fn number(figures: &Value, path: &str) -> f64 {
    let value = figures.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {path} in {figures}"))
}

/// What each run over a keyed job must tell.
fn check_keyed(run: &Value) {
    let keys = number(run, "/keyed/keys");
    assert!((keys - 7_812.0).abs() < 0.5, "{keys}");
    // What has moved is in memory once it is asked for.
    let in_memory = number(run, "/keyed/state/memory_rows");
    assert!((keys / 4.0..keys + 0.5).contains(&in_memory), "{run}");
    assert_eq!(run["keyed"]["state"]["stored_complete"], true);
    // The size that was asked for, as it is stored.
    let stored = number(run, "/keyed/state/stored_bytes");
    assert!((0.8e6..1.2e6).contains(&stored), "{stored}");
    for figure in [
        "/keyed/fill_seconds",
        "/keyed/state/memory_bytes",
        "/keyed/since_start/object_store/requests/put",
        "/keyed/since_start/object_store/bytes/put",
        "/keyed/peak_rss_bytes/control-plane",
        "/keyed/peak_rss_bytes/worker-1",
        "/keyed/peak_rss_bytes/worker-2",
        "/keyed/peak_rss_bytes/state-node-1",
        "/keyed/since_start/reads/hit_rate",
    ] {
        assert!(number(run, figure) > 0.0, "{figure} of {run}");
    }
}

fn count(figures: &Value, path: &str) -> u64 {
    figures
        .pointer(&format!("{path}/count"))
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

#[test]
fn recovery_tells_the_pauses_of_all_key_groups() {
    let figures = run("recovery", &SMALL);
    let run = &figures["runs"][0];
    check_keyed(run);
    let measured = &run["measured"];
    let of_dead = count(measured, "/pauses_of_dead_workers_key_groups");
    let of_others = count(measured, "/pauses_of_other_key_groups");
    assert_eq!((of_dead, of_others), (128, 128), "{figures}");
    let pause = number(measured, "/pauses_of_dead_workers_key_groups/p50_ms");
    assert!(
        pause > 0.0 && number(run, "/noticed_after_ms") >= 0.0,
        "{figures}"
    );
    assert!(number(run, "/counts/reads/rows") > 0.0, "{figures}");
    let first = "/first_output_of_dead_workers_key_groups_after_ms";
    assert!(number(measured, first) > 0.0, "{figures}");
    assert!(number(measured, "/gaps_before/count") > 255.5, "{figures}");
    assert!(number(measured, "/caught_up_after_ms") >= 0.0);
}

#[test]
fn rescale_tells_which_key_groups_moved() {
    let figures = run("rescale", &SMALL);
    let run = &figures["runs"][0];
    check_keyed(run);
    let steps = run["steps"].as_array().expect("steps");
    let moved: Vec<(u64, u64)> = steps
        .iter()
        .map(|step| {
            let pauses = |of: &str| count(step, &format!("/pauses_of_{of}_key_groups"));
            (pauses("moved"), pauses("other"))
        })
        .collect();
    assert_eq!(moved[0], (128, 128), "{figures}");
    let first = "/first_outputs_of_moved_key_groups";
    assert_eq!(count(&steps[0], first), 128, "{figures}");
    // From 4 to 1 and to 3 more move than must where a task is given to another worker.
    for ((moved, others), least) in moved[1..].iter().zip([192, 170]) {
        assert!(*moved >= least && moved + others == 256, "{figures}");
    }
}

#[test]
fn fork_tells_when_copies_run() {
    let figures = run("fork", &[&SMALL[..], &["--forks", "2"]].concat());
    let run = &figures["runs"][0];
    check_keyed(run);
    for time in ["answered", "running", "first_row"] {
        assert_eq!(count(run, &format!("/{time}")), 2, "{figures}");
        assert!(number(run, &format!("/{time}/p50_ms")) > 0.0, "{figures}");
    }
}

#[test]
fn checkpoint_tells_how_long_they_take() {
    let options = ["--keys", "1000", "--checkpoint-interval", "100ms"];
    let more = ["--seconds", "3", "--warm-up", "1"];
    let figures = run("checkpoint", &[&options[..], &more].concat());
    assert!(count(&figures, "/barrier_to_commit") >= 3, "{figures}");
    let (stage, total) = (
        number(&figures, "/barrier_to_last_state/p50_ms"),
        number(&figures, "/barrier_to_commit/p50_ms"),
    );
    assert!(0.0 < stage && stage <= total, "{figures}");
    assert!(number(&figures, "/rows_per_second") > 0.0);
    assert_eq!(figures["targets"].as_array().map(Vec::len), Some(1));
}

#[test]
fn bigstate_tells_what_memory_for_a_part_costs() {
    let options = ["--state-bytes", "1MB", "--seconds", "2", "--warm-up", "1"];
    let figures = run("bigstate", &options);
    for half in ["all_in_memory", "part_in_memory"] {
        let half = &figures[half];
        assert!(
            (number(half, "/state/memory_rows") - 7_812.0).abs() < 0.5,
            "{figures}"
        );
        assert!(number(half, "/rows_per_second") > 0.0, "{figures}");
        assert!(
            (0.0..=1.0).contains(&number(half, "/hit_rate")),
            "{figures}"
        );
    }
    assert!(number(&figures, "/throughput_ratio") > 0.0, "{figures}");
    // So little state fits into the least memory that a process takes.
    assert!(number(&figures, "/share") > 1.0, "{figures}");
    assert_eq!(figures["targets"].as_array().map(Vec::len), Some(2));
}
