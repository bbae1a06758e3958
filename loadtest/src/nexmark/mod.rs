//! The Nexmark benchmark: queries as users write them, `loadtest/nexmark/*.sql`.

pub(crate) mod bench;
mod each;
pub(crate) mod growth;
mod machine;
mod table;
mod targets;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::{
    cluster::mebibytes,
    place::{Place, PlaceArgs},
    report::{JobReport, RunReport},
    server::Server,
    set_up, size,
};

/// Event-time rate of the public benchmark's profile, in events per second.
const PUBLIC_RATE: u64 = 10_000_000;

/// q13 takes the numbers of auctions modulo this.
const SIDE_INPUT_ROWS: u64 = 10_000;

const DDL: &str = include_str!("../../nexmark/ddl.sql");

/// Queries by name.
const QUERIES: &[(&str, &str)] = &[
    ("q0", include_str!("../../nexmark/q0.sql")),
    ("q1", include_str!("../../nexmark/q1.sql")),
    ("q2", include_str!("../../nexmark/q2.sql")),
    ("q3", include_str!("../../nexmark/q3.sql")),
    ("q4", include_str!("../../nexmark/q4.sql")),
    ("q5", include_str!("../../nexmark/q5.sql")),
    ("q6", include_str!("../../nexmark/q6.sql")),
    ("q7", include_str!("../../nexmark/q7.sql")),
    ("q8", include_str!("../../nexmark/q8.sql")),
    ("q9", include_str!("../../nexmark/q9.sql")),
    ("q10", include_str!("../../nexmark/q10.sql")),
    ("q11", include_str!("../../nexmark/q11.sql")),
    ("q12", include_str!("../../nexmark/q12.sql")),
    ("q13", include_str!("../../nexmark/q13.sql")),
    ("q14", include_str!("../../nexmark/q14.sql")),
    ("q15", include_str!("../../nexmark/q15.sql")),
    ("q16", include_str!("../../nexmark/q16.sql")),
    ("q17", include_str!("../../nexmark/q17.sql")),
    ("q18", include_str!("../../nexmark/q18.sql")),
    ("q19", include_str!("../../nexmark/q19.sql")),
    ("q20", include_str!("../../nexmark/q20.sql")),
    ("q21", include_str!("../../nexmark/q21.sql")),
    ("q22", include_str!("../../nexmark/q22.sql")),
    ("q23", include_str!("../../nexmark/q23.sql")),
];

/// A run of one query.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Query, q0 to q23.
    #[arg(long)]
    query: String,
    /// Events to generate: persons, auctions and bids in all.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Tasks per operator.
    #[arg(long, default_value_t = 2)]
    parallelism: u32,
    /// Event-time rate in events per second; generation is as fast as it goes.
    #[arg(long, default_value_t = PUBLIC_RATE)]
    rate: u64,
    /// Time between checkpoints.
    #[arg(long, default_value = "1s")]
    checkpoint_interval: String,
    /// Rows per batch, with state in memory; the default is the binary's.
    #[arg(long, conflicts_with_all = ["data_dir", "store"])]
    batch_rows: Option<usize>,
    /// Memory of the process, with durable state; the default is the binary's.
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    memory: Option<u64>,
    /// The `millstream` binary; by default the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What is printed.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    query: String,
    /// `memory`, or the URL of what state was kept in durably.
    store: String,
    events: u64,
    rate: u64,
    parallelism: u32,
    wall_seconds: f64,
    cpu_seconds: f64,
    cpu_seconds_per_million_events: f64,
    events_per_second: f64,
    events_per_cpu_second: f64,
    peak_rss_bytes: u64,
    /// Of working sets in the end, where a server can be asked.
    state_bytes: u64,
    output_rows: u64,
    checkpoints: u64,
    checkpoint_ms_p50: f64,
    checkpoint_ms_p99: f64,
    object_store_requests: BTreeMap<String, u64>,
}

/// Runs the query; its figures.
pub(crate) fn run(options: &Options) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&measure(options)?)?)
}

fn measure(options: &Options) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir().context("failed to make a folder for the script")?;
    let place = Place::make(&options.place, &format!("nexmark-{}-", options.query))?;
    let store = place.as_ref().map(Place::url);
    let report = match &store {
        Some(store) => run_durably(options, store, folder.path()),
        None => run_in_memory(options, folder.path()),
    };
    if let Some(place) = place {
        place.remove()?;
    }
    let report = report?;
    ensure!(
        report.jobs.len() == 1,
        "expected one job, ran {}",
        report.jobs.len()
    );
    let store = store.unwrap_or_else(|| "memory".to_owned());
    Ok(figures(options, store, &report, &report.jobs[0]))
}

/// The script by `millstream run`.
fn run_in_memory(options: &Options, folder: &Path) -> anyhow::Result<RunReport> {
    let (script, report) = (folder.join("query.sql"), folder.join("report.json"));
    fs::write(&script, sql(options, folder)?).context("failed to write the script")?;
    let binary = set_up::binary(options.binary.as_deref())?;
    let mut command = Command::new(&binary);
    command.arg("run").arg(&script).arg("--report").arg(&report);
    command.args(["--parallelism", &options.parallelism.to_string()]);
    command.args(["--checkpoint-interval", &options.checkpoint_interval]);
    if let Some(rows) = options.batch_rows {
        command.args(["--batch-rows", &rows.to_string()]);
    }
    let output = command
        .output()
        .with_context(|| format!("failed to run {}", binary.display()))?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let report = fs::read_to_string(&report).context("failed to read the report")?;
    serde_json::from_str(&report).context("failed to read the report")
}

/// The same script by a server whose state is in `store`.
fn run_durably(options: &Options, store: &str, folder: &Path) -> anyhow::Result<RunReport> {
    let script = format!(
        "SET 'parallelism.default' = '{}';\nSET 'execution.checkpointing.interval' = '{}';\n{}",
        options.parallelism,
        options.checkpoint_interval,
        sql(options, folder)?
    );
    let binary = set_up::binary(options.binary.as_deref())?;
    let more = options.memory.map_or_else(Vec::new, |bytes| {
        vec!["--memory".to_owned(), mebibytes(bytes)]
    });
    Server::start(&binary, store, folder, &more)?.run(&script)
}

fn figures(options: &Options, store: String, run: &RunReport, job: &JobReport) -> Figures {
    let events = options.events as f64;
    Figures {
        query: options.query.clone(),
        store,
        events: options.events,
        rate: options.rate,
        parallelism: options.parallelism,
        wall_seconds: run.wall_seconds,
        cpu_seconds: run.cpu_seconds,
        cpu_seconds_per_million_events: run.cpu_seconds / events * 1e6,
        events_per_second: events / run.wall_seconds,
        events_per_cpu_second: events / run.cpu_seconds,
        peak_rss_bytes: run.peak_rss_bytes,
        state_bytes: job.state_bytes,
        output_rows: job.output_rows,
        checkpoints: job.checkpoints,
        checkpoint_ms_p50: job.checkpoint_ms_p50,
        checkpoint_ms_p99: job.checkpoint_ms_p99,
        object_store_requests: job.object_store_requests.clone(),
    }
}

/// The script; what it writes into files goes below `folder`.
fn sql(options: &Options, folder: &Path) -> anyhow::Result<String> {
    let found = QUERIES.iter().find(|(name, _)| *name == options.query);
    let Some((_, query)) = found else {
        let names: Vec<&str> = QUERIES.iter().map(|(name, _)| *name).collect();
        bail!(
            "unknown query `{}`; there are {}",
            options.query,
            names.join(", ")
        );
    };
    let source = format!(
        "'connector' = 'nexmark', 'events.num' = '{}', 'first-event.rate' = '{rate}', \
         'next-event.rate' = '{rate}', 'base-time' = '1700000000000'",
        options.events,
        rate = options.rate,
    );
    let ddl = DDL.replace("{WITH}", &source);
    let sink = match options.query.as_str() {
        // What it is about is the files.
        "q10" => format!(
            "'connector' = 'filesystem', 'format' = 'csv', 'path' = '{}'",
            folder.join("log").display()
        ),
        _ => "'connector' = 'blackhole'".to_owned(),
    };
    let mut query = query.replace("{WITH}", &sink);
    if query.contains("{SIDE_INPUT}") {
        let file = folder.join("side_input.csv");
        fs::write(&file, side_input()).context("failed to write the side input")?;
        query = query.replace("{SIDE_INPUT}", &file.display().to_string());
    }
    Ok(format!("{ddl}\n{query}"))
}

/// The public benchmark's side input: a row for each rest that the number of an auction has.
fn side_input() -> String {
    (0..SIDE_INPUT_ROWS)
        .map(|key| format!("{key},{key}\n"))
        .collect()
}
