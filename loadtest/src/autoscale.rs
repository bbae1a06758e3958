//! `autoscale`: a source that doubles and halves its rate, a job that follows its load, and a control plane
//! that starts workers and lets them leave (`--capacity-process`), one for each task.
//!
//! A task's work is made of digests, so that the rates are low enough for one source on any machine: what
//! one task can do is measured first, by the same job, and the low rate is a part of it that one task can
//! bear and twice as much cannot be. Rows are due at fixed times, and late is what the watermark of the counting tasks is
//! behind the clock: it has all in it, also what waits before the source, and up to a second more, since
//! workers tell their figures once a second. The job is stopped in the end, and its exactly-once output
//! read.
//!
//! Pauses of key groups are not told here: what the output shows is epochs, so nothing in it is seen earlier
//! than a second later; and what workers print that the control plane has started nobody gets to read.
//! `rescale` has them.

use std::{collections::BTreeMap, path::Path, thread, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::Client,
    clock::wall_ms,
    cluster::{Cluster, ClusterSpec, children},
    counts::{Counts, Tasks, state},
    keyed::{aggregate, find},
    results,
    set_up::SetUp,
    target::{Target, outcome},
    workload::Outcome,
};

/// How late rows may be again after each change of the rate.
const LATE_TARGET_MS: i64 = 2_000;
/// Of what one task can do, the low rate in percent; the high one is twice that.
const LOW_PERCENT: u64 = 45;
/// Keys that rows are counted by: more than there are rows in a batch, or those of one key would be
/// counted together before they come to the task, and cost it less the more there are.
const KEYS: u64 = 16_384;
/// Digests per change, one of the other, each of so many times its text: the time of a change is theirs,
/// whatever the build is.
const DIGESTS: usize = 8;
const TIMES: usize = 160;
/// Times that this is measured: as fast as the job can, and then at the low rate that follows from the time
/// before, since rows cost more the fewer come together.
const PROBES: usize = 3;
/// Windows of the autoscaler in which it is measured each time; the last one counts.
const PROBE_WINDOWS: usize = 3;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long workers may take to leave, and rows to come in time, after the last change.
const END_MAX: Duration = Duration::from_secs(180);
/// How long the job may take to stop.
const STOP_MAX: Duration = Duration::from_secs(120);

/// A run of `autoscale`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    set_up: SetUp,
    /// Times that the rate doubles and halves.
    #[arg(long, default_value_t = 2)]
    cycles: u32,
    /// Seconds of each rate; the last one, which is low, goes on until the workers have left.
    #[arg(long, default_value_t = 45)]
    seconds: u64,
    /// Tasks, and workers, at most.
    #[arg(long, default_value_t = 4)]
    max: u32,
    /// Rows per second of the low rate [default: 45 % of what one task can do, which is measured].
    #[arg(long)]
    low_rate: Option<u64>,
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// After the job's creation.
    at_ms: i64,
    late_ms: Option<i64>,
    workers: usize,
    tasks: u32,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let folder = options.set_up.folder("loadtest-autoscale-")?;
    let mut cluster = start(options, folder.path())?;
    let (per_task, low) = match options.low_rate {
        Some(low) => (None, low.max(1)),
        None => {
            let per_task = probe(&mut cluster, &folder.path().join("probe"))?;
            (Some(per_task), low_of(per_task))
        }
    };
    let output = folder.path().join("output");
    let statements = statements(options.max, &schedule(options, low), &output);
    let before = Tasks::default().counts(&cluster.state_node_metrics()?);
    let job = cluster.client.execute(&statements)?;
    let mut watch = Watch {
        created_ms: cluster.client.until_running(&job)?.created_ms,
        job,
        looks: Vec::new(),
        tasks: Tasks::default(),
        peaks: BTreeMap::new(),
    };
    watch.follow(&mut cluster, options)?;
    let autoscaler: Value = cluster
        .client
        .get(&format!("/v1/jobs/{}/autoscaler", watch.job))?;
    let (state, counts) = watch.state(&cluster)?;
    stop(&cluster, &watch.job)?;
    let counting_ms = watch.counted_until_ms();
    let given = due(options, low, counting_ms.unwrap_or_default());
    let counted = results::count(&output, KEYS)?;
    let peaks = watch.peaks.iter();
    let mut peaks: BTreeMap<String, u64> = peaks
        .map(|(process, peak)| (format!("worker process {process}"), *peak))
        .collect();
    peaks.extend(cluster.peak_rss_bytes());
    let changes = watch.changes(options);
    let figures = json!({
        "workload": "autoscale",
        "rows_per_second_per_task": per_task,
        "low_rate": low,
        "high_rate": 2 * low,
        "seconds": options.seconds,
        "changes": changes.iter().map(Change::json).collect::<Vec<_>>(),
        "decisions": decisions(&autoscaler),
        "over_time": watch.over_time(),
        "rows_due": given,
        "results": counted,
        "state": state,
        "measured": counts.since(&before).json(),
        "peak_rss_bytes": peaks,
    });
    let missing = given.saturating_sub(counted.rows);
    let lost = missing + counted.wrong_keys as u64 + counted.misplaced_changes;
    let targets = [
        targets(&changes),
        vec![Target::at_most(
            "rows lost or doubled",
            0.0,
            Some(lost as f64),
        )],
    ];
    Ok(outcome(figures, &targets.concat(), options.set_up.check))
}

/// A cluster whose control plane has workers as jobs need them.
fn start(options: &Options, folder: &Path) -> anyhow::Result<Cluster> {
    let max = options.max.to_string();
    let control = [
        "--capacity-process",
        "--worker-slots",
        "1",
        "--workers-min",
        "1",
        "--workers-max",
        &max,
        "--workers-removal-delay",
        "3s",
    ];
    Cluster::start(&ClusterSpec {
        binary: options.set_up.binary()?,
        folder: folder.to_owned(),
        workers: 0,
        state_nodes: 1,
        worker_memory: None,
        state_node_memory: None,
        control_arguments: control.map(str::to_owned).to_vec(),
    })
}

fn low_of(per_task: u64) -> u64 {
    (per_task * LOW_PERCENT / 100).max(1)
}

/// Rows per second that one task does while it is at work, as the autoscaler has it.
fn probe(cluster: &mut Cluster, output: &Path) -> anyhow::Result<u64> {
    // Nothing holds the first one up.
    let (mut rate, mut per_task) = (0, 0);
    for probe in 0..PROBES {
        let rate_of = format!("'rows-per-second' = '{rate}'");
        let output = output.join(probe.to_string());
        per_task = measure(cluster, &statements(1, &rate_of, &output))?;
        rate = low_of(per_task);
    }
    Ok(per_task)
}

fn measure(cluster: &mut Cluster, statements: &str) -> anyhow::Result<u64> {
    let client = cluster.client.clone();
    let job = client.execute(statements)?;
    client.until_running(&job)?;
    let (deadline, mut windows) = (Instant::now() + END_MAX, BTreeMap::new());
    while windows.len() < PROBE_WINDOWS {
        thread::sleep(LOOK);
        cluster.check_up()?;
        let autoscaler: Value = client.get(&format!("/v1/jobs/{job}/autoscaler"))?;
        let observation = &autoscaler["observation"];
        let fragments = observation["fragments"].as_array();
        let counts = |fragment: &&Value| {
            let name = fragment["name"].as_str();
            name.is_some_and(|name| name.starts_with("GroupAggregate"))
        };
        let counting = fragments.and_then(|fragments| fragments.iter().find(counts));
        let rate = counting.and_then(|fragment| fragment["per_task_per_s"].as_f64());
        if let (Some(window), Some(rate)) = (observation["after_ms"].as_u64(), rate) {
            windows.insert(window, rate);
        }
        ensure!(
            Instant::now() < deadline,
            "a task does no work: {autoscaler}"
        );
    }
    let _view: Value = client.post(&format!("/v1/jobs/{job}/cancel"), &json!({}))?;
    client.until(
        &job,
        "CANCELED",
        STOP_MAX,
        |job| Ok(job.state == "CANCELED"),
    )?;
    let last = windows.pop_last().context("a window")?.1;
    Ok(last.max(1.0) as u64)
}

/// Stops the job with all that it has read written.
fn stop(cluster: &Cluster, job: &str) -> anyhow::Result<()> {
    let client = &cluster.client;
    let _view: Value = client.post(&format!("/v1/jobs/{job}/stop"), &json!({}))?;
    client.until(job, "FINISHED", STOP_MAX, |job| {
        ensure!(
            job.generation <= 1,
            "the job was restarted: {:?}",
            job.error
        );
        Ok(job.state == "FINISHED")
    })?;
    Ok(())
}

/// Rows that are due so long after the job's creation.
fn due(options: &Options, low: u64, elapsed_ms: i64) -> u64 {
    let (mut left_ms, mut thousandths) = (elapsed_ms.max(0).unsigned_abs(), 0);
    for step in 0..2 * options.cycles {
        let rate = if step % 2 == 0 { low } else { 2 * low };
        let here_ms = left_ms.min(1_000 * options.seconds);
        thousandths += here_ms * rate;
        left_ms -= here_ms;
    }
    (thousandths + left_ms * low) / 1_000
}

/// Looks at a job again and again.
struct Watch {
    job: String,
    created_ms: i64,
    looks: Vec<Look>,
    /// Those that count.
    tasks: Tasks,
    /// The most memory of each worker process.
    peaks: BTreeMap<u32, u64>,
}

impl Watch {
    /// Until the last change of the rate, and until what it leads to has happened or takes too long.
    fn follow(&mut self, cluster: &mut Cluster, options: &Options) -> anyhow::Result<()> {
        let last_ms = i64::try_from(2_000 * options.seconds * u64::from(options.cycles))?;
        let end_ms = last_ms + i64::try_from(END_MAX.as_millis())?;
        loop {
            thread::sleep(LOOK);
            cluster.check_up()?;
            let look = self.look(&cluster.client)?;
            for (process, peak) in children(cluster.control_process()) {
                let known = self.peaks.entry(process).or_default();
                *known = peak.max(*known);
            }
            self.looks.push(look);
            let calm = look.workers == 1 && look.late_ms.is_some_and(|late| late <= LATE_TARGET_MS);
            if look.at_ms >= end_ms || look.at_ms > last_ms + 10_000 && calm {
                return Ok(());
            }
        }
    }

    /// How much state there is, and what was read of it and asked of the object store.
    fn state(&self, cluster: &Cluster) -> anyhow::Result<(Value, Counts)> {
        let operators = cluster.client.operators(&self.job)?;
        let metrics = cluster.state_node_metrics()?;
        let counts = self.tasks.counts(&metrics);
        let state = state(&cluster.client, &self.job, aggregate(&operators)?, &metrics)?;
        Ok((state, counts))
    }

    fn look(&mut self, client: &Client) -> anyhow::Result<Look> {
        let job = client.job(&self.job)?;
        ensure!(
            job.generation <= 1,
            "the job was restarted: {:?}",
            job.error
        );
        let operators = client.operators(&self.job)?;
        let counts = find(&operators, "GroupAggregate(");
        counts
            .into_iter()
            .for_each(|counts| self.tasks.look(counts));
        let watermark = counts.and_then(|counts| {
            let watermarks = counts.tasks.iter().filter_map(|task| task.watermark_ms);
            watermarks.min()
        });
        let workers: Value = client.get("/v1/workers")?;
        let now_ms = wall_ms();
        Ok(Look {
            at_ms: now_ms - self.created_ms,
            late_ms: watermark.map(|watermark| now_ms - watermark),
            workers: workers["workers"].as_array().map_or(0, Vec::len),
            tasks: job.parallelism,
        })
    }

    /// Until when, after the job's creation, rows had been counted before it was stopped: those that were
    /// due by then must be in the results.
    fn counted_until_ms(&self) -> Option<i64> {
        let mut newest_first = self.looks.iter().rev();
        newest_first.find_map(|look| Some(look.at_ms - look.late_ms?))
    }

    /// What each change of the rate led to.
    fn changes(&self, options: &Options) -> Vec<Change> {
        let step_ms = i64::try_from(1000 * options.seconds).unwrap_or(i64::MAX);
        let end_ms = self.looks.last().map_or(0, |look| look.at_ms);
        let changes = 1..=i64::from(2 * options.cycles);
        let last = i64::from(2 * options.cycles);
        let change = |number: i64| {
            let from_ms = number * step_ms;
            let to_ms = if number == last {
                end_ms
            } else {
                from_ms + step_ms
            };
            let within = |look: &&Look| (from_ms..=to_ms).contains(&look.at_ms);
            Change::of(
                number % 2 == 1,
                from_ms,
                self.looks.iter().filter(within).copied(),
            )
        };
        changes.map(change).collect()
    }

    /// One look of each second: seconds, ms late, workers, tasks.
    fn over_time(&self) -> Vec<Value> {
        let mut seconds = BTreeMap::new();
        for look in &self.looks {
            seconds.entry(look.at_ms / 1000).or_insert(look);
        }
        let row =
            |(second, look): (i64, &Look)| json!([second, look.late_ms, look.workers, look.tasks]);
        seconds.into_iter().map(row).collect()
    }
}

/// What a change of the rate led to.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Change {
    doubled: bool,
    at_ms: i64,
    workers: Option<(usize, usize)>,
    most_late_ms: i64,
    /// How long after the change rows came in time for good.
    in_time_after_ms: Option<i64>,
}

impl Change {
    fn of(doubled: bool, at_ms: i64, looks: impl Iterator<Item = Look>) -> Change {
        let looks: Vec<Look> = looks.collect();
        let workers = looks.first().zip(looks.last());
        let is_late = |look: &Look| look.late_ms.is_none_or(|late| late > LATE_TARGET_MS);
        let in_time = match looks.iter().rposition(is_late) {
            None => looks.first().map(|_| at_ms),
            Some(last) => looks.get(last + 1).map(|look| look.at_ms),
        };
        Change {
            doubled,
            at_ms,
            workers: workers.map(|(first, last)| (first.workers, last.workers)),
            most_late_ms: looks
                .iter()
                .filter_map(|look| look.late_ms)
                .max()
                .unwrap_or_default(),
            in_time_after_ms: in_time.map(|in_time| in_time - at_ms),
        }
    }

    fn json(&self) -> Value {
        json!({
            "rate": if self.doubled { "doubled" } else { "halved" },
            "at_ms": self.at_ms,
            "workers_from": self.workers.map(|(from, _)| from),
            "workers_to": self.workers.map(|(_, to)| to),
            "most_late_ms": self.most_late_ms,
            "in_time_after_ms": self.in_time_after_ms,
        })
    }
}

fn targets(changes: &[Change]) -> Vec<Target> {
    let more = |change: &&Change| match (change.doubled, change.workers) {
        (true, Some((from, to))) => to > from,
        (false, Some((from, to))) => to < from,
        (_, None) => false,
    };
    let number = changes.len() as f64;
    let followed = changes.iter().filter(more).count() as f64;
    let in_time = changes
        .iter()
        .filter(|change| change.in_time_after_ms.is_some())
        .count();
    vec![
        Target::at_least(
            "changes of the rate that workers followed",
            number,
            Some(followed),
        ),
        Target::at_least(
            "changes after which rows were late by 2 s at most again",
            number,
            Some(in_time as f64),
        ),
    ]
}

/// The decisions, oldest first, without what they were made from.
fn decisions(autoscaler: &Value) -> Vec<Value> {
    let all = autoscaler["decisions"].as_array();
    let short = |decision: &Value| {
        let fields = ["after_ms", "kind", "reason", "changes", "outcome", "error"];
        let fields = fields.map(|field| (field.to_owned(), decision[field].clone()));
        Value::Object(fields.into_iter().collect())
    };
    all.into_iter().flatten().rev().map(short).collect()
}

/// Rows by key, in a query that costs the task that counts them some time for each change.
fn counting() -> String {
    let digests = "SHA256(REPEAT(".repeat(DIGESTS);
    let ends = format!(", {TIMES}))").repeat(DIGESTS);
    format!(
        "SELECT k, c FROM (SELECT id % {KEYS} AS k, COUNT(*) AS c FROM numbers GROUP BY id % {KEYS})
         WHERE {digests}CAST(c AS STRING){ends} <> 'none'"
    )
}

/// The rates of a run, as options of its source.
fn schedule(options: &Options, low: u64) -> String {
    let (seconds, high) = (options.seconds, 2 * low);
    let cycle = format!("{low} for {seconds} s, {high} for {seconds} s, ");
    let cycles = cycle.repeat(usize::try_from(options.cycles).unwrap_or(1));
    format!("'rate.schedule' = '{cycles}{low} for 1 h', 'rate.catch-up' = 'true'")
}

/// State that ends in event time, though not in this run, has time go to where rows are counted. The tables
/// may be there from the run before, which has ended.
fn statements(max: u32, rate: &str, output: &Path) -> String {
    let (output, query) = (output.display(), counting());
    format!(
        "SET 'execution.checkpointing.interval' = '1s';
         SET 'parallelism.default' = '1';
         SET 'table.exec.state.ttl' = '1 d';
         SET 'millstream.state.ttl.time-domain' = 'event-time';
         SET 'job.autoscaler.enabled' = 'true';
         SET 'job.autoscaler.vertex.max-parallelism' = '{max}';
         SET 'job.autoscaler.catch-up.duration' = '10 s';
         DROP TABLE IF EXISTS numbers;
         DROP TABLE IF EXISTS counts;
         CREATE TABLE numbers (id BIGINT, t TIMESTAMP_LTZ(3), WATERMARK FOR t AS t)
           WITH ('connector' = 'datagen', {rate}, 'fields.id.kind' = 'sequence',
           'fields.id.start' = '0', 'fields.id.end' = '1000000000000');
         CREATE TABLE counts (k BIGINT, c BIGINT) WITH ('connector' = 'filesystem',
           'path' = '{output}', 'format' = 'debezium-json');
         INSERT INTO counts {query};"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        let arguments = std::iter::once(&"autoscale").chain(arguments);
        <Alone as clap::Parser>::parse_from(arguments).options
    }

    fn look(at_ms: i64, late_ms: i64, workers: usize) -> Look {
        Look {
            at_ms,
            late_ms: Some(late_ms),
            workers,
            tasks: 1,
        }
    }

    #[test]
    fn rows_are_due_by_the_rates() {
        let options = options(&["--cycles", "1", "--seconds", "10"]);
        let due = |seconds: i64| due(&options, 100, seconds * 1_000);
        assert_eq!(
            [0, 5, 10, 15, 20, 30].map(due),
            [0, 500, 1_000, 2_000, 3_000, 4_000]
        );
    }

    #[test]
    fn a_change_is_over_when_rows_come_in_time_for_good() {
        let looks = [
            look(1_000, 100, 1),
            look(2_000, 2_500, 1),
            look(3_000, 1_900, 2),
            look(4_000, 2_100, 2),
            look(5_000, 300, 2),
        ];
        let change = Change::of(true, 900, looks.into_iter());
        assert_eq!(change.workers, Some((1, 2)));
        assert_eq!(
            (change.most_late_ms, change.in_time_after_ms),
            (2_500, Some(4_100))
        );
        let late = Change::of(true, 900, looks[..4].iter().copied());
        assert_eq!(late.in_time_after_ms, None);
        let never = Change::of(false, 900, looks[..1].iter().copied());
        assert_eq!(never.in_time_after_ms, Some(0));
        assert_eq!(
            Change::of(false, 900, std::iter::empty()).in_time_after_ms,
            None
        );
        let missed = crate::target::outcome(json!({}), &targets(&[change, late, never]), true);
        assert_eq!(missed.missed.len(), 2, "{:?}", missed.missed);
    }
}
