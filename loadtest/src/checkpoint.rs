//! `checkpoint`: how long checkpoints take, barrier to commit, while a job is fed as fast as it goes, all
//! in one process over a local directory where every object is synced to disk.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    counts::{Counts, state},
    gaps::Spread,
    job_settings::JobSettings,
    keyed::{aggregate, find},
    server::Server,
    set_up::SetUp,
    target::{Target, outcome},
    workload::Outcome,
};

/// Of a hundred checkpoints 99 take at most this.
const P99_TARGET_MS: f64 = 250.0;
/// Between two looks: the server lists the last hundred.
const LOOK: Duration = Duration::from_secs(2);

/// A run of `checkpoint`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    set_up: SetUp,
    /// Keys, changed at random.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u32,
    #[command(flatten)]
    job: JobSettings,
    /// Seconds of load that are measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds of load before.
    #[arg(long, default_value_t = 10)]
    warm_up: u64,
}

#[derive(Deserialize)]
struct Checkpoints {
    checkpoints: Vec<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    epoch: u64,
    stage_ms: f64,
    total_ms: f64,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let folder = options.set_up.folder("loadtest-checkpoint-")?;
    let store = format!("file://{}", folder.path().join("store").display());
    let binary = options.set_up.binary()?;
    let mut server = Server::start(&binary, &store, folder.path(), &[])?;
    let job = server.client.execute(&statements(options))?;
    server.client.until_running(&job)?;
    let mut seen = BTreeMap::new();
    watch(&mut server, &job, &mut seen, options.warm_up)?;
    let (known, (before, counts)) = (std::mem::take(&mut seen), moment(&server, &job)?);
    let (begun, cpu) = (Instant::now(), server.cpu_seconds());
    watch(&mut server, &job, &mut seen, options.seconds.max(3))?;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), server.cpu_seconds() - cpu);
    let (rows, until) = moment(&server, &job)?;
    let last = known.keys().next_back().copied().unwrap_or_default();
    let measured: Vec<&Checkpoint> = seen.range(last + 1..).map(|(_, one)| one).collect();
    ensure!(!measured.is_empty(), "no checkpoint was committed");
    let spread = |of: fn(&Checkpoint) -> f64| Spread::of(measured.iter().map(|one| of(one)));
    let total = spread(|one| one.total_ms);
    let (operators, metrics) = (server.client.operators(&job)?, server.client.metrics()?);
    let figures = json!({
        "workload": "checkpoint",
        "keys": options.keys,
        "parallelism": options.job.parallelism,
        "checkpoint_interval": options.job.checkpoint_interval,
        "seconds": seconds,
        "rows_per_second": rows.saturating_sub(before) as f64 / seconds,
        "cpu_seconds": cpu,
        "barrier_to_commit": total,
        "barrier_to_last_state": spread(|one| one.stage_ms),
        "measured": until.since(&counts).json(),
        "since_start": until.json(),
        "peak_rss_bytes": server.peak_rss_bytes(),
        "state": state(&server.client, &job, aggregate(&operators)?, &metrics)?,
    });
    let what = "p99 of checkpoints, barrier to commit, ms";
    let target = Target::at_most(what, P99_TARGET_MS, total.map(|total| total.p99_ms));
    Ok(outcome(figures, &[target], options.set_up.check))
}

/// Collects the checkpoints that are committed in so many seconds, by their epochs.
fn watch(
    server: &mut Server,
    job: &str,
    seen: &mut BTreeMap<u64, Checkpoint>,
    seconds: u64,
) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        thread::sleep(LOOK.min(until - Instant::now()));
        server.check_up()?;
        let path = format!("/v1/jobs/{job}/checkpoints");
        let listed: Checkpoints = server.client.get(&path)?;
        seen.extend(listed.checkpoints.into_iter().map(|one| (one.epoch, one)));
        if Instant::now() >= until {
            return Ok(());
        }
    }
}

/// Rows that the source has given, and counts of reads and requests.
fn moment(server: &Server, job: &str) -> anyhow::Result<(u64, Counts)> {
    let operators = server.client.operators(job)?;
    let source = find(&operators, "Source(").context("the plan has a source")?;
    let counts = Counts::of(aggregate(&operators)?, &server.client.metrics()?);
    Ok((source.sum(|task| task.rows_out), counts))
}

fn statements(options: &Options) -> String {
    let Options { keys, job, .. } = options;
    let settings = job.statements();
    format!(
        "{settings}
         CREATE TABLE changes (k INT, amount BIGINT) WITH ('connector' = 'datagen',
           'rows-per-second' = '0', 'fields.k.min' = '1', 'fields.k.max' = '{keys}',
           'fields.amount.min' = '1', 'fields.amount.max' = '1000');
         CREATE TABLE totals (k INT, changes BIGINT, total BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO totals SELECT k, COUNT(*), SUM(amount) FROM changes GROUP BY k;"
    )
}
