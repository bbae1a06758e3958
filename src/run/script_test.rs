//! Scripts whose output is stuck, gone or JSON.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use proto::control::JobOptions;
use tokio::{io::AsyncWrite, sync::Notify};

use super::*;
use crate::{Process, ProcessConfig};

fn options() -> ScriptOptions {
    ScriptOptions {
        result: None,
        format: Format::Json,
        job: JobOptions::default(),
        progress: false,
    }
}

/// An output that takes nothing: for ever, or because its reader has gone.
struct Closed {
    gone: bool,
    written_to: Arc<Notify>,
}

impl AsyncWrite for Closed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.written_to.notify_one();
        if self.gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn run_closed(script: &str, gone: bool) -> ScriptRun {
    let written_to = Arc::new(Notify::new());
    let mut out = Closed {
        gone,
        written_to: written_to.clone(),
    };
    let process = Process::start(ProcessConfig::default());
    let interrupted = async move {
        written_to.notified().await;
        if gone {
            std::future::pending::<()>().await;
        }
    };
    run_script(&process.jobs, script, &options(), &mut out, interrupted).await
}

async fn run(script: &str) -> (String, ScriptRun) {
    let mut out = Vec::new();
    let process = Process::start(ProcessConfig::default());
    let never = std::future::pending();
    let run = run_script(&process.jobs, script, &options(), &mut out, never).await;
    (String::from_utf8(out).expect("text"), run)
}

const SCRIPTS: [&str; 4] = [
    "SHOW FUNCTIONS;",
    "EXPLAIN SELECT 1;",
    "SELECT 1 AS a;",
    "SET 'sql-client.execution.result-mode' = 'table'; SELECT 1 AS a;",
];

#[tokio::test]
async fn ctrl_c_ends_a_run_whose_output_is_stuck() {
    for script in SCRIPTS {
        let run = run_closed(script, false).await;
        assert!(matches!(run.ended, Ok(Ended::Interrupted)), "{script}");
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_failure() {
    for script in SCRIPTS {
        let run = run_closed(script, true).await;
        assert!(matches!(run.ended, Ok(Ended::ReaderGone)), "{script}");
    }
}

#[tokio::test]
async fn every_answer_is_json_where_json_is_wanted() {
    let (text, _) = run(
        "EXPLAIN SELECT 1 AS a; EXPLAIN PLAN FOR SELECT 1; SHOW VIEWS;
         SELECT ARRAY['a, b', CAST(NULL AS STRING)] AS l, ROW(1, 'x', CAST(NULL AS INT)) AS r, MAP['k', 1.5] AS m",
    )
    .await;
    for line in text.lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
    assert!(text.starts_with(r#"{"plan":"#), "{text}");
    expect_test::expect![[
        r#"{"op":"+I","row":{"l":["a, b",null],"r":{"EXPR$0":1,"EXPR$1":"x","EXPR$2":null},"m":{"k":"1.5"}}}"#
    ]]
    .assert_eq(text.lines().last().unwrap_or_default());
}

#[tokio::test]
async fn a_job_that_fails_is_reported() {
    let script = "CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'path' = '/nonexistent/x', 'format' = 'json');
         SELECT 1 AS a; SELECT * FROM t";
    let (_, run) = run(script).await;
    assert!(
        matches!(run.ended, Err(RunError::Job { .. })),
        "{:?}",
        run.ended
    );
    let states: Vec<&str> = run
        .reports
        .iter()
        .map(|report| report.state.as_str())
        .collect();
    assert_eq!(states, ["FINISHED", "FAILED"]);
}
