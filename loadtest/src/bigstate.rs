//! `bigstate`: a job whose keys come by a Zipf distribution, with memory for a part of its state, against
//! the same job with memory for all of it; each in one process over a local directory.
//!
//! The state is built first, each key once; then rows come as fast as they go, and those are counted. The
//! first run says how much memory the state takes at work; of that, the share is what working sets get in
//! the second one, by `--memory`, with which caches and all else get their usual parts. Files on a local
//! directory are in the system's memory besides, which no process is charged for.

use std::{thread, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    cluster::mebibytes,
    counts::{Counts, state},
    job_settings::JobSettings,
    keyed::{aggregate, filled_table, find, keys_of},
    server::Server,
    set_up::SetUp,
    size,
    target::{Target, outcome},
    workload::Outcome,
};

/// Rows per second with a part of the state in memory, by those with all of it.
const RATIO_TARGET: f64 = 0.5;
/// The most memory that was in use, by what was allowed: within a tenth of it, which is a bound from above.
/// Who needs less has not missed anything; `share` says whether the state was as scarce as was asked for.
const MEMORY_TARGET: f64 = 1.1;
/// What a process takes that holds no state, and the part of the rest that is for working sets, in
/// percent, as `millstream dev --memory` divides it.
const CODE_BYTES: u64 = 96 << 20;
const WORKING_SETS_PERCENT: u64 = 55;
/// No process takes less.
const MEMORY_MIN: u64 = 256 << 20;
/// How long the state may take to be built.
const FILL_MAX: Duration = Duration::from_secs(3600);
/// Figures are made once a second: between two looks whether there are new ones.
const LOOK: Duration = Duration::from_millis(20);

/// A run of `bigstate`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    set_up: SetUp,
    /// State to build, as it is stored.
    #[arg(long, value_name = "SIZE", value_parser = size::bytes, default_value = "1GB")]
    state_bytes: u64,
    /// Percent of the state's memory that working sets get in the second run.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    share: u64,
    /// Exponent of the distribution: the n-th key comes with a probability as 1 / n^exponent.
    #[arg(long, default_value_t = 0.99)]
    exponent: f64,
    #[command(flatten)]
    job: JobSettings,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds of load before.
    #[arg(long, default_value_t = 20)]
    warm_up: u64,
}

/// What one of the two runs gave.
struct Half {
    figures: Value,
    rows_per_second: f64,
    /// Memory of the operator's state in the end.
    state_memory: u64,
    peak_rss: u64,
}

/// Counts at a moment when there were new ones.
struct Moment {
    at: Instant,
    rows: u64,
    counts: Counts,
}

/// What `--memory` gives working sets this share, in percent, of so much state; `None`: no process takes
/// as little.
pub(crate) fn memory_for(state_memory: u64, share: u64) -> Option<u64> {
    let working_sets = state_memory / 100 * share;
    let memory = CODE_BYTES + working_sets / WORKING_SETS_PERCENT * 100;
    (memory >= MEMORY_MIN).then_some(memory)
}

/// Runs both.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let all = half(options, None)?;
    let memory = memory_for(all.state_memory, options.share).unwrap_or(MEMORY_MIN);
    let part = half(options, Some(memory))?;
    let ratio = part.rows_per_second / all.rows_per_second;
    let used = part.peak_rss as f64 / memory as f64;
    let given = (memory - CODE_BYTES) / 100 * WORKING_SETS_PERCENT;
    let figures = json!({
        "workload": "bigstate",
        "state_bytes": options.state_bytes,
        "exponent": options.exponent,
        "parallelism": options.job.parallelism,
        "share_asked": options.share as f64 / 100.0,
        // Above what was asked for where that is less than a process takes.
        "share": given as f64 / all.state_memory.max(1) as f64,
        "memory_bytes": memory,
        "throughput_ratio": ratio,
        "peak_rss_by_memory": used,
        "all_in_memory": all.figures,
        "part_in_memory": part.figures,
    });
    let targets = [
        Target::at_least(
            "throughput by that with all in memory",
            RATIO_TARGET,
            Some(ratio),
        ),
        Target::at_most(
            "peak memory by what was allowed, of which less may be used",
            MEMORY_TARGET,
            Some(used),
        ),
    ];
    Ok(outcome(figures, &targets, options.set_up.check))
}

/// One run, with so much memory or as much as the binary takes.
fn half(options: &Options, memory: Option<u64>) -> anyhow::Result<Half> {
    let folder = options.set_up.folder("loadtest-bigstate-")?;
    let store = format!("file://{}", folder.path().join("store").display());
    let more = memory.map_or_else(Vec::new, |bytes| {
        vec!["--memory".to_owned(), mebibytes(bytes)]
    });
    let binary = options.set_up.binary()?;
    let mut server = Server::start(&binary, &store, folder.path(), &more)?;
    let keys = keys_of(options.state_bytes);
    ensure!(
        i32::try_from(keys).is_ok(),
        "so much state has too many keys"
    );
    let begun = Instant::now();
    let job = server.client.execute(&statements(options, keys))?;
    server.client.until_running(&job)?;
    until_filled(&mut server, &job, keys)?;
    let fill_seconds = begun.elapsed().as_secs_f64();
    pass(&mut server, options.warm_up)?;
    let (from, cpu) = (moment(&server, &job)?, server.cpu_seconds());
    pass(&mut server, options.seconds.max(2))?;
    let (to, cpu) = (moment(&server, &job)?, server.cpu_seconds() - cpu);

    let seconds = to.at.duration_since(from.at).as_secs_f64();
    let rows_per_second = to.rows.saturating_sub(from.rows) as f64 / seconds;
    let measured = to.counts.since(&from.counts);
    let (operators, metrics) = (server.client.operators(&job)?, server.client.metrics()?);
    let aggregate = aggregate(&operators)?;
    let state_memory = aggregate.sum(|task| task.state_bytes);
    // Before all of the state is read to be counted.
    let peak_rss = server.peak_rss_bytes();
    let figures = json!({
        "fill_seconds": fill_seconds,
        "rows_per_second": rows_per_second,
        "cpu_seconds": cpu,
        "hit_rate": measured.hit_rate(),
        "measured": measured.json(),
        "since_start": Counts::of(aggregate, &metrics).json(),
        "state": state(&server.client, &job, aggregate, &metrics)?,
        "peak_rss_bytes": peak_rss,
    });
    Ok(Half {
        figures,
        rows_per_second,
        state_memory,
        peak_rss,
    })
}

fn until_filled(server: &mut Server, job: &str, keys: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + FILL_MAX;
    loop {
        server.check_up()?;
        let operators = server.client.operators(job)?;
        let filled = find(&operators, "Source(table=[filled]");
        let rows = filled.map_or(0, |source| source.sum(|task| task.rows_out));
        if rows >= keys {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "only {rows} of {keys} keys are there in time"
        );
        thread::sleep(10 * LOOK);
    }
}

fn pass(server: &mut Server, seconds: u64) -> anyhow::Result<()> {
    thread::sleep(Duration::from_secs(seconds));
    server.check_up()
}

/// Waits for new counts.
fn moment(server: &Server, job: &str) -> anyhow::Result<Moment> {
    let look = || {
        let operators = server.client.operators(job)?;
        let at = Instant::now();
        let live = find(&operators, "Source(table=[live]").context("the plan has a source")?;
        let rows = live.sum(|task| task.rows_out);
        anyhow::Ok((at, rows, operators))
    };
    let (begun, before, _) = look()?;
    let deadline = begun + Duration::from_secs(60);
    loop {
        let (at, rows, operators) = look()?;
        if rows != before {
            let counts = Counts::of(aggregate(&operators)?, &server.client.metrics()?);
            return Ok(Moment { at, rows, counts });
        }
        ensure!(at < deadline, "no rows come");
        thread::sleep(LOOK);
    }
}

fn statements(options: &Options, keys: u64) -> String {
    let Options { exponent, job, .. } = options;
    let settings = job.statements();
    let (filled, last) = (filled_table(keys), keys - 1);
    format!(
        "{settings}
         {filled}
         CREATE TABLE live (k INT, id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '0',
           'fields.k.kind' = 'zipf', 'fields.k.min' = '0', 'fields.k.max' = '{last}',
           'fields.k.exponent' = '{exponent}', 'fields.id.min' = '0', 'fields.id.max' = '1000000');
         CREATE TABLE seen (k INT, changes BIGINT, newest BIGINT, note STRING)
           WITH ('connector' = 'blackhole');
         INSERT INTO seen SELECT k, COUNT(*), MAX(id), MAX(note) FROM (
           SELECT k, id, CAST(NULL AS STRING) AS note FROM live
           UNION ALL SELECT k, CAST(NULL AS BIGINT), note FROM filled)
         GROUP BY k;"
    )
}
