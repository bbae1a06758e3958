//! Figures of a run: what `--report` writes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use control_plane::{JobEntry, Jobs};
use proto::plan::node::Operator;
use serde::Serialize;
use tokio::time::Instant;

/// Figures of a whole run.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct RunReport {
    /// Its jobs in the order in which they ran.
    pub jobs: Vec<JobReport>,
    /// From start to end of the script.
    pub wall_seconds: f64,
    /// User and system time of the process; 0 where the system does not tell.
    pub cpu_seconds: f64,
    /// Largest resident set of the process; 0 where the system does not tell.
    pub peak_rss_bytes: u64,
}

/// Figures of one job.
#[derive(Serialize, Clone, PartialEq, Debug)]
pub struct JobReport {
    /// Its statement.
    pub sql: String,
    /// How it ended.
    pub state: String,
    /// Rows that reached sinks.
    pub output_rows: u64,
    /// Committed epochs.
    pub checkpoints: u64,
    /// Barrier to commit: half took at most this long.
    pub checkpoint_ms_p50: f64,
    /// Barrier to commit: 99 of 100 took at most this long.
    pub checkpoint_ms_p99: f64,
    /// Records that sources could not read.
    pub dead_letters: u64,
}

impl JobReport {
    pub(super) fn of(jobs: &Jobs, entry: &JobEntry) -> JobReport {
        let summary = entry.checkpoint_summary();
        let ms = |us: u64| us as f64 / 1000.0;
        JobReport {
            sql: entry.spec.sql.clone(),
            state: entry.state().to_string(),
            output_rows: output_rows(jobs, entry),
            checkpoints: summary.count,
            checkpoint_ms_p50: ms(summary.p50_us),
            checkpoint_ms_p99: ms(summary.p99_us),
            dead_letters: entry.dead_letters().0,
        }
    }
}

/// Rows that the job's sinks took in.
fn output_rows(jobs: &Jobs, entry: &JobEntry) -> u64 {
    rows(jobs, entry, |operator| {
        matches!(operator, Operator::Sink(_))
    })
    .0
}

/// Rows that went into and came out of the operators that are `wanted`.
pub(super) fn rows(
    jobs: &Jobs,
    entry: &JobEntry,
    wanted: impl Fn(&Operator) -> bool,
) -> (u64, u64) {
    let metrics = jobs.metrics(entry.id).unwrap_or_default();
    let fragments = entry.spec.plan.fragments.iter();
    let nodes = fragments.flat_map(|fragment| &fragment.nodes);
    let wanted = nodes.filter(|node| node.operator.as_ref().is_some_and(&wanted));
    let tasks = wanted
        .filter_map(|node| metrics.get(&node.id))
        .flat_map(BTreeMap::values);
    tasks.fold((0, 0), |(rows_in, rows_out), task| {
        (rows_in + task.rows_in, rows_out + task.rows_out)
    })
}

/// The file of a report. It is opened before the run, and what it held is kept until the report is
/// there.
pub(super) struct ReportFile {
    path: PathBuf,
    file: File,
}

impl ReportFile {
    pub(super) fn open(path: &Path) -> anyhow::Result<ReportFile> {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(path);
        Ok(ReportFile {
            file: file.with_context(|| format!("failed to write {}", path.display()))?,
            path: path.to_owned(),
        })
    }

    pub(super) fn write(mut self, report: &RunReport) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(report).context("failed to write the report")?;
        // What is no file (a pipe, /dev/stdout) has no length to cut.
        let cut = match self.file.metadata() {
            Ok(metadata) if metadata.is_file() => self.file.set_len(0),
            _ => Ok(()),
        };
        cut.and_then(|()| self.file.write_all(json.as_bytes()))
            .with_context(|| format!("failed to write {}", self.path.display()))
    }
}

/// When the run began.
pub(super) struct RunClock(Instant);

impl RunClock {
    pub(super) fn start() -> RunClock {
        RunClock(Instant::now())
    }

    pub(super) fn report(&self, jobs: Vec<JobReport>) -> RunReport {
        RunReport {
            jobs,
            wall_seconds: self.0.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds().unwrap_or_default(),
            peak_rss_bytes: peak_rss_bytes().unwrap_or_default(),
        }
    }
}

/// From `/proc/self/stat`: the 14th and 15th field are user and system time in ticks of 10 ms,
/// counted after the command's name in brackets.
fn cpu_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
