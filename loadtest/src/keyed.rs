//! The job that `recovery`, `rescale` and `fork` disturb: a row of state per key, as much as is asked for,
//! and a steady load of changes of random keys.
//!
//! ```text
//! filled (each key once, as fast as it goes) ─┐
//!                                             ├─ GROUP BY k ─▶ print, those rows that `live` has changed
//! live (random keys, steady rate) ────────────┘
//! ```
//! A row of `live` is due at a fixed time (`rate.catch-up`), so that what comes during a pause is there
//! after it, as from any source outside. Its number goes through the job and out again: when the row with
//! that number is printed, minus when it was due, is how late the job is. A `print` sink is not staged:
//! what is measured has no part of the time between checkpoints in it.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::Operator,
    clock::wall_ms,
    cluster::{Cluster, ClusterSpec},
    counts::{Counts, Tasks, state},
    gaps::Due,
    job_settings::JobSettings,
    set_up::{Folder, SetUp},
    size,
};

/// Bytes that a key takes as it is stored: itself, its hash and epoch, a count, a number, and text.
const KEY_BYTES: u64 = 128;
/// Of these, text.
const TEXT_BYTES: u64 = 84;
/// How long the state may take to be built.
const FILL_MAX: Duration = Duration::from_secs(3600);
/// How long it may then take until rows come in time.
const SETTLE_MAX: Duration = Duration::from_secs(900);
/// In time is what is no later than this,
const LATE_MS: i64 = 1_000;
/// for so long, or as long as is measured if that is shorter.
const CALM: Duration = Duration::from_secs(3);
/// Between two looks at figures that are made once a second.
const LOOK: Duration = Duration::from_millis(100);

/// What such a run is made of.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeyedOptions {
    #[command(flatten)]
    pub(crate) set_up: SetUp,
    /// State to build, such as 100MB; several, separated by commas, are a run each.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = size::bytes, default_value = "100MB")]
    pub(crate) state_bytes: Vec<u64>,
    /// Rows per second while it is measured.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) rate: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 2)]
    pub(crate) workers: usize,
    /// State-node processes.
    #[arg(long, default_value_t = 2)]
    pub(crate) state_nodes: usize,
    #[command(flatten)]
    pub(crate) job: JobSettings,
    /// Seconds of load that are measured before each disturbance, and after it.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Memory of each worker [default: enough for all of the state].
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    worker_memory: Option<u64>,
    /// Memory of each state node [default: half of the state and 512 MiB].
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    state_node_memory: Option<u64>,
}

impl KeyedOptions {
    /// How long is measured before a disturbance, and after it.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.max(2))
    }

    fn spec(&self, state_bytes: u64, folder: PathBuf) -> anyhow::Result<ClusterSpec> {
        let least = 512 << 20;
        let worker = self.worker_memory.unwrap_or(least + 3 * state_bytes);
        let state_node = self.state_node_memory.unwrap_or(least + state_bytes / 2);
        Ok(ClusterSpec {
            binary: self.set_up.binary()?,
            folder,
            workers: self.workers,
            state_nodes: self.state_nodes,
            worker_memory: Some(worker),
            state_node_memory: Some(state_node),
            control_arguments: Vec::new(),
        })
    }
}

/// A job that has its state, and keeps up with its load.
pub(crate) struct Keyed {
    pub(crate) cluster: Cluster,
    pub(crate) job: String,
    /// When the rows of the load are due.
    pub(crate) due: Due,
    spec: ClusterSpec,
    state_bytes: u64,
    keys: u64,
    fill_seconds: f64,
    calm: Duration,
    tasks: Tasks,
    // Removed after the processes that write to it have ended.
    _folder: Folder,
}

impl Keyed {
    /// Starts all, builds the state and waits until the job keeps up with its load.
    ///
    /// # Errors
    /// When that is not so in time.
    pub(crate) fn start(options: &KeyedOptions, state_bytes: u64) -> anyhow::Result<Keyed> {
        let folder = options.set_up.folder("loadtest-")?;
        let spec = options.spec(state_bytes, folder.path().to_owned())?;
        let cluster = Cluster::start(&spec)?;
        let keys = keys_of(state_bytes);
        ensure!(
            i32::try_from(keys).is_ok(),
            "so much state has too many keys"
        );
        let begun = Instant::now();
        let job = cluster.client.execute(&statements(options, keys))?;
        let view = cluster.client.until_running(&job)?;
        let mut keyed = Keyed {
            cluster,
            job,
            due: Due {
                first_ms: view.created_ms,
                rows_per_second: options.rate,
            },
            spec,
            state_bytes,
            keys,
            fill_seconds: 0.0,
            calm: CALM.min(options.time()),
            tasks: Tasks::default(),
            _folder: folder,
        };
        keyed.until_filled()?;
        keyed.fill_seconds = begun.elapsed().as_secs_f64();
        keyed.until_in_time(SETTLE_MAX)?;
        Ok(keyed)
    }

    fn until_filled(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + FILL_MAX;
        loop {
            self.cluster.check_up()?;
            let operators = self.cluster.client.operators(&self.job)?;
            let filled = find(&operators, "Source(table=[filled]");
            let rows = filled.map_or(0, |source| source.sum(|task| task.rows_out));
            if rows >= self.keys {
                return Ok(());
            }
            let all = self.keys;
            ensure!(
                Instant::now() < deadline,
                "only {rows} of {all} keys are there in time"
            );
            thread::sleep(LOOK);
        }
    }

    /// Waits until rows come in time, for some seconds.
    ///
    /// # Errors
    /// When they do not.
    pub(crate) fn until_in_time(&mut self, most: Duration) -> anyhow::Result<()> {
        self.until_job_in_time(0, most)
    }

    /// The same of the rows of one of the identifiers.
    ///
    /// # Errors
    /// When they do not.
    pub(crate) fn until_job_in_time(&mut self, job: u8, most: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + most;
        let mut calm = Instant::now();
        while calm.elapsed() < self.calm {
            self.cluster.check_up()?;
            let late_ms = self.late_ms(job);
            if late_ms > LATE_MS {
                calm = Instant::now();
            }
            let late = Instant::now() >= deadline;
            ensure!(!late, "rows are {late_ms} ms late: try a lower --rate");
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// How late it is.
    fn late_ms(&self, job: u8) -> i64 {
        wall_ms() - self.due.at_ms(self.cluster.printed.rows_seen(job))
    }

    /// Waits, while the processes that should run do.
    pub(crate) fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.cluster.check_up()?;
            thread::sleep(LOOK.min(until - Instant::now()));
        }
        Ok(())
    }

    /// What reads of its state found, and what was asked of the object store, until now.
    ///
    /// # Errors
    /// When a process does not tell.
    pub(crate) fn counts(&mut self) -> anyhow::Result<Counts> {
        let operators = self.cluster.client.operators(&self.job)?;
        self.tasks.look(aggregate(&operators)?);
        Ok(self.tasks.counts(&self.cluster.state_node_metrics()?))
    }

    /// What there is after the measurement, in figures. The size of what is stored is counted last: all
    /// of it is read for that.
    ///
    /// # Errors
    /// When a process does not tell.
    pub(crate) fn figures(&mut self) -> anyhow::Result<Value> {
        let counts = self.counts()?;
        let client = &self.cluster.client;
        let operators = client.operators(&self.job)?;
        let nodes = self.cluster.state_node_metrics()?;
        let peak_rss_bytes = self.cluster.peak_rss_bytes();
        Ok(json!({
            "asked_bytes": self.state_bytes,
            "keys": self.keys,
            "state": state(client, &self.job, aggregate(&operators)?, &nodes)?,
            "fill_seconds": self.fill_seconds,
            "since_start": counts.json(),
            "peak_rss_bytes": peak_rss_bytes,
            "worker_memory_bytes": self.spec.worker_memory,
            "state_node_memory_bytes": self.spec.state_node_memory,
        }))
    }
}

/// The operator that has the state.
///
/// # Errors
/// When the plan has none.
pub(crate) fn aggregate(operators: &[Operator]) -> anyhow::Result<&Operator> {
    find(operators, "GroupAggregate(").context("the plan aggregates")
}

/// An operator by how its description begins.
pub(crate) fn find<'a>(operators: &'a [Operator], begins: &str) -> Option<&'a Operator> {
    let mut operators = operators.iter();
    operators.find(|operator| operator.description.starts_with(begins))
}

/// Text for a key, so that its row has [`KEY_BYTES`].
pub(crate) fn filled_table(keys: u64) -> String {
    let last = keys - 1;
    format!(
        "CREATE TABLE filled (k INT, note STRING) WITH ('connector' = 'datagen',
           'rows-per-second' = '0', 'number-of-rows' = '{keys}', 'fields.k.kind' = 'sequence',
           'fields.k.start' = '0', 'fields.k.end' = '{last}', 'fields.note.length' = '{TEXT_BYTES}');"
    )
}

/// Keys that a state of so many bytes has.
pub(crate) fn keys_of(state_bytes: u64) -> u64 {
    (state_bytes / KEY_BYTES).max(1)
}

fn statements(options: &KeyedOptions, keys: u64) -> String {
    let KeyedOptions { rate, job, .. } = options;
    let settings = job.statements();
    let (filled, last) = (filled_table(keys), keys - 1);
    format!(
        "{settings}
         {filled}
         CREATE TABLE live (k INT, id BIGINT) WITH ('connector' = 'datagen',
           'rows-per-second' = '{rate}', 'rate.catch-up' = 'true',
           'fields.k.min' = '0', 'fields.k.max' = '{last}', 'fields.id.kind' = 'sequence',
           'fields.id.start' = '0', 'fields.id.end' = '1000000000000');
         CREATE TABLE seen (k INT, changes BIGINT, newest BIGINT)
           WITH ('connector' = 'print', 'print-identifier' = 'load');
         INSERT INTO seen SELECT k, changes, newest FROM (
           SELECT k, COUNT(*) AS changes, MAX(id) AS newest, MAX(note) AS note FROM (
             SELECT k, id, CAST(NULL AS STRING) AS note FROM live
             UNION ALL SELECT k, CAST(NULL AS BIGINT), note FROM filled)
           GROUP BY k)
         WHERE newest IS NOT NULL AND COALESCE(note, 'not yet') <> '';"
    )
}
