//! `millstream run FILE.sql`: the statements of a script in order, in this process.

mod duration;
mod output;
mod progress;
mod report;
mod script;

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use proto::control::JobOptions;

use crate::{Process, ProcessConfig};
use duration::duration_ms;

pub use output::Format;
pub(crate) use output::Printer;
pub use report::{JobReport, RunReport};
pub use script::{Ended, RunError, ScriptOptions, run_script};

/// How long a sink may fail before a script does: somebody waits for it.
const SINK_PATIENCE_MS: u64 = 10_000;

/// How the rows of a SELECT are given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ResultMode {
    /// Every change as it is committed, its kind first: +I, -U, +U or -D.
    Changelog,
    /// The rows that are left at the end of the input, sorted.
    Final,
}

/// Run the statements of a file, in order, in one process.
///
/// An INSERT runs until its input ends; a bare SELECT prints its rows. State is kept in memory.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// File of SQL statements, each ended by a semicolon.
    file: PathBuf,
    /// How the rows of a SELECT are given [default: changelog, or what
    /// 'sql-client.execution.result-mode' is SET to].
    #[arg(long, value_enum)]
    result: Option<ResultMode>,
    /// How rows are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Tasks per operator, where SET 'parallelism.default' says nothing else.
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallelism: u32,
    /// Rows that a batch should have.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,
    /// Time between checkpoints, such as 500ms or 10s; 0: only one at the end of the input.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration_ms)]
    checkpoint_interval: u64,
    /// Write figures of the run to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// An error of a statement, with the piece of the script that it is about: several lines, made to
/// be printed as they are.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(String);

/// Runs the script and gives the exit code.
///
/// # Errors
/// When the file cannot be read, a statement is wrong or a job fails.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let script = fs::read_to_string(&args.file)
        .with_context(|| format!("failed to read {}", args.file.display()))?;
    let options = ScriptOptions {
        result: args.result,
        format: args.format,
        job: JobOptions {
            parallelism: args.parallelism,
            batch_rows: args.batch_rows as usize,
            checkpoint_interval_ms: args.checkpoint_interval,
            sink_patience_ms: Some(SINK_PATIENCE_MS),
            ..JobOptions::default()
        },
        progress: true,
    };
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let clock = report::RunClock::start();
    let (jobs, ended) = runtime.block_on(async {
        let process = Process::start(ProcessConfig::default());
        let interrupted = async {
            // Without a signal handler the script runs to its end.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let mut out = io::stdout();
        run_script(&process, &script, &options, &mut out, interrupted)
            .await
            .map_err(|error| match error {
                RunError::Sql(error) => anyhow::Error::new(SourceError(error.render(&script))),
                other => other.into(),
            })
    })?;
    // Tasks that hang in a foreign call must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if let Some(path) = &args.report {
        let report = clock.report(jobs);
        let json = serde_json::to_string_pretty(&report).context("failed to write the report")?;
        fs::write(path, json).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(match ended {
        Ended::AtEnd | Ended::ReaderGone => ExitCode::SUCCESS,
        Ended::Interrupted => {
            eprintln!("interrupted: the job was cancelled");
            // What a shell expects of a program that Ctrl-C ended.
            ExitCode::from(130)
        }
    })
}
