//! `millstream run FILE.sql`: the statements of a script in order, in this process.

mod duration;
mod input;
mod kept;
mod output;
mod progress;
mod report;
mod resume;
mod script;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use compute::SystemClock;
use control_plane::caps::PARALLELISM_MAX;
use engine::clock::Clock as _;
use proto::control::JobOptions;
use state_service::object::StoreUrl;

use crate::{
    Process, ProcessConfig,
    interrupt::{self, Interrupt},
    keep::KeepArgs,
    memory::{MemoryArgs, MemoryPlan},
    scratch::{ScratchArgs, ScratchPlan},
    telemetry::{observe_jobs, observe_runtime},
    threads::main_runtime,
};
pub(crate) use duration::duration_ms;
use report::ReportFile;

pub(crate) use output::Printer;
pub use output::{Format, Output};
pub use report::{JobReport, RunReport};
pub use resume::ScriptChanged;
pub use script::{Ended, RunError, ScriptOptions, ScriptRun, run_script};

/// How long a job may take to end after Ctrl-C.
const INTERRUPT_GRACE_MS: u64 = 5_000;

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
/// An INSERT runs until its input ends; a bare SELECT prints its rows. Jobs and their state live in
/// memory and end with the process, unless --data-dir or --store says where to keep them: then the
/// next run of the same script goes on where this one was stopped, however that was. INSERTs that
/// have finished are left out, and SELECTs start again. When everything has been executed, the jobs
/// are forgotten, and a further run starts from the beginning.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// File of SQL statements, each ended by a semicolon; `-` is standard input.
    file: PathBuf,
    /// How the rows of a SELECT are given [default: changelog, or what
    /// 'sql-client.execution.result-mode' is SET to].
    #[arg(long, value_enum)]
    result: Option<ResultMode>,
    /// How rows are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Tasks per operator, where SET 'parallelism.default' says nothing else.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=i64::from(PARALLELISM_MAX)))]
    parallelism: u32,
    /// Rows that a batch should have.
    #[arg(long, value_name = "N", default_value_t = 4096, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,
    /// Time between checkpoints, such as 500ms or 10s; 0: only one at the end of the input.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration_ms)]
    checkpoint_interval: u64,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scratch: ScratchArgs,
    /// Write figures of the run to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Where state is while jobs work on it.
struct Room {
    memory: MemoryPlan,
    scratch: ScratchPlan,
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
    let store = args.keep.url()?;
    if store.is_none() {
        args.memory.check_unused()?;
        args.scratch.check_unused()?;
    }
    let room = Room {
        memory: MemoryPlan::of_all_tiers(args.memory.bytes()),
        scratch: args.scratch.plan(store.as_ref())?,
    };
    let script = cli::read_script(&args.file)?;
    // A path that cannot be written must not show only after hours.
    let report = args.report.as_deref().map(ReportFile::open).transpose()?;
    let options = ScriptOptions {
        result: args.result,
        format: args.format,
        job: JobOptions {
            parallelism: args.parallelism,
            batch_rows: args.batch_rows as usize,
            checkpoint_interval_ms: args.checkpoint_interval,
            sink_patience_ms: Some(SINK_PATIENCE_MS),
            // Whoever runs a script waits for its end.
            quarantine: false,
            ..JobOptions::default()
        },
        progress: true,
    };
    let grace = Duration::from_millis(INTERRUPT_GRACE_MS);
    let interrupt = Interrupt::listen(grace).context("failed to wait for Ctrl-C")?;
    let runtime = main_runtime()?;
    observe_runtime(runtime.handle());
    let clock = report::RunClock::start();
    let run = runtime.block_on(execute(store.as_ref(), &script, &options, room, &interrupt));
    // Tasks that hang in a foreign call must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    let run = run?;
    if let Some(report) = report {
        report.write(&clock.report(run.reports))?;
    }
    let ended = run.ended.map_err(|error| match error {
        RunError::Sql(error) => anyhow::Error::new(SourceError(error.render(&script))),
        other => other.into(),
    })?;
    Ok(match ended {
        Ended::AtEnd | Ended::ReaderGone => ExitCode::SUCCESS,
        Ended::Interrupted => {
            match store {
                Some(_) => eprintln!("interrupted: the next run of this script goes on from here"),
                None => eprintln!("interrupted: the job was cancelled"),
            }
            ExitCode::from(interrupt::EXIT_CODE)
        }
    })
}

/// Executes the script over the store, or else in memory.
async fn execute(
    store: Option<&StoreUrl>,
    script: &str,
    options: &ScriptOptions,
    room: Room,
    interrupt: &Interrupt,
) -> anyhow::Result<ScriptRun> {
    let mut out = tokio::io::stdout();
    if let Some(url) = store {
        return kept::run_kept(url, script, options, room, &mut out, interrupt.asked()).await;
    }
    let process = Process::start(ProcessConfig::default());
    let clock = SystemClock::default();
    let jobs = process.jobs.clone();
    observe_jobs(move || Some(jobs.clone()), move || clock.wall_ms());
    Ok(run_script(&process.jobs, script, options, &mut out, interrupt.asked()).await)
}
