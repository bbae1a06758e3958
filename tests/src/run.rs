//! Runs scripts as `millstream run` does, in this process.

use std::{sync::Arc, time::Duration};

use control_plane::{JobEntry, Jobs};
use engine::memory::MemoryPool;
use millstream::{
    Process, ProcessConfig,
    run::{Format, ResultMode, RunError, ScriptOptions, run_script},
};
use proto::control::JobOptions;
use tokio::time::timeout;

use crate::{
    faults::{CrashClock, Fault, FaultyStore},
    store::{StartedStore, Store},
};

/// A script that takes longer has hung.
const RUN_MAX: Duration = Duration::from_secs(180);

/// How long what is under way may take to end.
const STOP_MAX: Duration = Duration::from_secs(60);

/// How a script is run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Where state is.
    pub store: Store,
    /// Tasks per operator.
    pub parallelism: u32,
    /// Rows per batch.
    pub batch_rows: usize,
    /// Time between checkpoints in ms; 0: only at the end.
    pub checkpoint_interval_ms: u64,
    /// After how long barriers overtake; `None`: never.
    pub alignment_timeout_ms: Option<u64>,
    /// Steps that fail.
    pub faults: Vec<Fault>,
    /// A task crashes when tasks have looked at the clock this often: before and after every call
    /// of an operator, so that the crash can come between any two things that a task does.
    pub crash_at_look: Option<u64>,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            store: Store::Memory,
            parallelism: 1,
            batch_rows: 4096,
            checkpoint_interval_ms: 1000,
            alignment_timeout_ms: Some(1000),
            faults: Vec::new(),
            crash_at_look: None,
        }
    }
}

/// What a script printed, and how many of its faults struck.
#[derive(Debug)]
pub struct RunOutput {
    /// The rows of its SELECTs: TSV, folded.
    pub text: String,
    /// Faults and crashes that struck.
    pub faults: u64,
    /// Committed epochs of all its jobs.
    pub checkpoints: u64,
    /// How often tasks looked at the clock.
    pub looks: u64,
}

/// Runs a script; its final results as TSV, or the rendered error.
///
/// # Errors
/// What the user would see.
pub fn run(script: &str, config: &RunConfig) -> Result<RunOutput, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let options = ScriptOptions {
        result: Some(ResultMode::Final),
        format: Format::Tsv,
        job: JobOptions {
            parallelism: config.parallelism,
            batch_rows: config.batch_rows,
            checkpoint_interval_ms: config.checkpoint_interval_ms,
            alignment_timeout_ms: config.alignment_timeout_ms,
            ..JobOptions::default()
        },
        progress: false,
    };
    let clock = Arc::new(CrashClock::new(config.crash_at_look));
    let mut text = Vec::new();
    let (ran, faults) = runtime.block_on(async {
        let started = StartedStore::start(config.store).await;
        let (tasks, control) = (started.tasks.clone(), started.control.clone());
        let store = FaultyStore::new(tasks, control, config.faults.clone());
        let process = Process::start(ProcessConfig {
            store: Arc::new(store.clone()),
            control: Arc::new(store.clone()),
            metadata: started.metadata.clone(),
            memory: MemoryPool::unbounded(),
            clock: clock.clone(),
            seed: 1,
        });
        let never = std::future::pending();
        let ran = run_script(&process.jobs, script, &options, &mut text, never);
        let ran = timeout(RUN_MAX, ran).await;
        let ran = ran.map_err(|_| format!("it does not end: {}", jobs(&process.jobs)));
        let stopped = timeout(STOP_MAX, started.stop()).await;
        assert!(stopped.is_ok(), "the state node does not stop");
        (ran, store.struck() + clock.struck())
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    let ran = ran?;
    match ran.ended {
        Ok(_) => {
            let text = String::from_utf8(text).map_err(|error| error.to_string())?;
            Ok(RunOutput {
                text,
                faults,
                checkpoints: ran.reports.iter().map(|report| report.checkpoints).sum(),
                looks: clock.looks(),
            })
        }
        Err(RunError::Sql(error)) => Err(error.render(script)),
        Err(error) => Err(error.to_string()),
    }
}

/// What becomes of jobs, for who looks for the cause of a failure.
fn jobs(jobs: &Jobs) -> String {
    let job = |entry: &Arc<JobEntry>| {
        let (id, state, generation) = (entry.id, entry.state(), entry.generation());
        let (committed, waits_for) = (entry.committed(), entry.waits_for());
        let (exceptions, last) = (entry.exceptions(), entry.checkpoints(3));
        format!(
            "{id} is {state:?} in {generation}, committed {committed}, waits for {waits_for:?}; \
             {exceptions:#?} {last:#?}"
        )
    };
    jobs.list().iter().map(job).collect::<Vec<_>>().join("\n")
}
