//! What becomes of a script for what the store has.

use std::sync::Arc;

use proto::control::JobOptions;
use sql::parse::parse_script;

use super::*;

const TABLES: &str =
    "CREATE TABLE a (x INT) WITH ('connector' = 'datagen', 'number-of-rows' = '9');
    CREATE TABLE b (x INT) WITH ('connector' = 'blackhole');
    CREATE VIEW v AS SELECT x + 1 AS x FROM a;";

/// The jobs that the store has when this was run: each as its letter says (`f`inished, `r`unning,
/// `c`ancelled, failed with an `e`rror).
fn kept(script: &str, ends: &str) -> Vec<KeptJob> {
    let statements = parse_script(script).expect("a script");
    let (jobs, error) = script_jobs(&statements);
    assert_eq!(error, None);
    let jobs = jobs.into_iter().zip(ends.chars()).zip(1..);
    let kept = |((job, end), id): ((ScriptJob, char), u64)| KeptJob {
        id: JobId(id),
        spec: JobSpec {
            name: "job".into(),
            sql: job.sql,
            plan: Arc::new(job.plan),
            options: JobOptions::default(),
            select: None,
            origin: None,
            tables_max: 0,
        },
        committed: Epoch(7),
        ended: match end {
            'f' => Some((JobState::Finished, None)),
            'c' => Some((JobState::Canceled, None)),
            'e' => Some((JobState::Failed, Some("no disk".into()))),
            _ => None,
        },
    };
    jobs.map(kept).collect()
}

/// What becomes of `now` after `then` was run, in words.
fn check(then: &str, ends: &str, now: &str) -> String {
    let kept = kept(then, ends);
    assert_eq!(kept.len(), ends.len(), "each end has a job");
    let statements = parse_script(now).expect("a script");
    let step = |step: &Step| match step {
        Step::Skip(job) => format!("skip {job}"),
        Step::Attach(job, from) => format!("attach {job} at {from}"),
        Step::Again(job, state, cause) => {
            format!("again {job}, {state} {}", cause.as_deref().unwrap_or("-"))
        }
    };
    match resume(&statements, &kept) {
        Ok(steps) => steps.iter().map(step).collect::<Vec<_>>().join("; "),
        Err(error) => error.to_string(),
    }
}

fn script(jobs: &str) -> String {
    format!("{TABLES} {jobs}")
}

const TWO: &str = "INSERT INTO b SELECT x FROM a; SELECT x FROM a; INSERT INTO b SELECT x FROM v;";

#[test]
fn each_insert_is_left_out_gone_on_with_or_started_anew() {
    let check = |ends: &str, expected: &str| {
        let two = script(TWO);
        assert_eq!(check(&two, ends, &two), expected, "{ends}");
    };
    check("", "");
    check("r", "attach job_1 at 7");
    check("f", "skip job_1");
    check("fr", "skip job_1; attach job_2 at 7");
    check("fe", "skip job_1; again job_2, FAILED no disk");
    check("c", "again job_1, CANCELED -");
    check("ff", "skip job_1; skip job_2");
    // As a server leaves them, which starts all at once.
    check("rr", "attach job_1 at 7; attach job_2 at 7");
}

#[test]
fn statements_that_are_the_same_are_told_apart_by_their_order() {
    let same = script("INSERT INTO b SELECT 1; INSERT INTO b SELECT 1;");
    assert_eq!(check(&same, "fr", &same), "skip job_1; attach job_2 at 7");
    assert_eq!(check(&same, "f", &same), "skip job_1");
}

#[test]
fn a_statement_set_is_one_job() {
    let set = script(
        "BEGIN STATEMENT SET; INSERT INTO b SELECT 1; INSERT INTO b SELECT 2; END; \
         INSERT INTO b SELECT 3;",
    );
    assert_eq!(check(&set, "fr", &set), "skip job_1; attach job_2 at 7");
}

#[test]
fn what_does_not_matter_for_a_job_may_change() {
    let then = script("INSERT INTO b SELECT x FROM a;");
    let spaced = then.replace(" WITH", "\n  -- where it comes from\n  WITH");
    assert_eq!(check(&then, "f", &spaced), "skip job_1");
    let longer = format!("{then} SELECT 1; INSERT INTO b SELECT 2;");
    assert_eq!(check(&then, "r", &longer), "attach job_1 at 7");
    let other_view = then.replace("x + 1", "x + 2");
    assert_eq!(check(&then, "f", &other_view), "skip job_1");
}

/// The reason that an error gives.
fn why(error: &str) -> &str {
    let (_, why) = error.split_once("this script: ").expect(error);
    let (why, _) = why
        .split_once("; run the script as it was then, or")
        .expect(error);
    why
}

#[test]
fn a_script_that_was_changed_is_refused_with_the_job_and_the_reason() {
    let then = script(TWO);
    let check = |ends: &str, now: &str, reason: &str| {
        let error = check(&then, ends, now);
        assert_eq!(why(&error), reason);
    };
    let table_of = |table: &str| format!("table `{table}` was another then");
    check("f", &then.replace("'9'", "'8'"), &table_of("a"));
    check("r", &then.replace("blackhole", "print"), &table_of("b"));
    check("f", &then.replace("x INT", "x BIGINT"), &table_of("a"));
    let depends = "the views, options or version of Millstream that it depends on were others then";
    check("fr", &then.replace("x + 1", "x + 2"), depends);
    check(
        "f",
        &script("INSERT INTO b SELECT 1;"),
        "its INSERT number 1 is another",
    );
    let first = script("INSERT INTO b SELECT x FROM a;");
    check("ff", &first, "it has no INSERT number 2");
    let before = script(&format!("INSERT INTO b SELECT 1; {TWO}"));
    check("f", &before, "its INSERT number 1 is another");
    // No run leaves this: it ends with the first job that fails.
    let reason = "it was started though job_1, which comes before it, is failed";
    check("er", &then, reason);
}

#[test]
fn the_error_says_which_job_it_is_and_what_to_do() {
    let then = script(TWO);
    let error = check(&then, "f", &script("SELECT 1;"));
    expect_test::expect![[
        "job_1, which the store has kept of an earlier run (`INSERT INTO b SELECT x FROM a`), does not belong to this script: it has no INSERT number 1; run the script as it was then, or give this one another --data-dir or --store"
    ]]
    .assert_eq(&error);
}

#[test]
fn a_statement_that_is_wrong_shows_before_the_jobs_that_come_after_it() {
    let then = script(TWO);
    let wrong = then.replace("SELECT x FROM v", "SELECT y FROM v");
    assert_eq!(check(&then, "f", &wrong), "skip job_1");
    let error = check(&then, "ff", &wrong);
    assert!(error.contains("`y`"), "{error}");
}
