//! `fork`: a copy of a running job, from its newest checkpoint, printing under a name of its own. Times are
//! from the request to when the copy runs, to its first row, and to when it is no later than the job itself
//! was before; each copy is cancelled before the next. The job should not notice: pauses of its key groups
//! are told, of which the gap begins until a second after the copy's first row (`gaps`).

use std::{thread, time::Duration};

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::{Job, PAUSE},
    clock::wall_ms,
    gaps::{self, Spread},
    keyed::{Keyed, KeyedOptions},
    listen::{IDENTIFIERS, Row},
    target::{Target, outcome},
    workload::Outcome,
};

/// A copy is there, and has put its first row out, after at most this.
const FORK_TARGET_MS: f64 = 1_000.0;
/// How long one may take.
const FORK_MAX: Duration = Duration::from_secs(120);
/// How long it may take until its rows come in time.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);
/// The copy among the identifiers.
const COPY: u8 = 1;

/// A run of `fork`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    keyed: KeyedOptions,
    /// Copies, one after the other.
    #[arg(long, default_value_t = 5)]
    forks: u32,
}

/// What a copy took, in ms after the request.
struct Fork {
    answered: f64,
    running: f64,
    first_row: f64,
    /// Its rows come as early as the job's own did before.
    caught_up: Option<f64>,
    /// What it meant for the job that was copied.
    figures: Value,
}

/// Runs it for each size of state.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (mut runs, mut targets) = (Vec::new(), Vec::new());
    for state_bytes in &options.keyed.state_bytes {
        let mut keyed = Keyed::start(&options.keyed, *state_bytes)?;
        let mut forks = Vec::new();
        for _ in 0..options.forks.max(1) {
            forks.push(fork(&mut keyed, options.keyed.time())?);
            keyed.until_in_time(FORK_MAX)?;
        }
        let spread = |of: fn(&Fork) -> f64| Spread::of(forks.iter().map(of));
        let (running, first_row) = (spread(|f| f.running), spread(|f| f.first_row));
        for (what, spread) in [("runs", running), ("has put out a row", first_row)] {
            let what = format!("longest until a copy {what}, ms, state of {state_bytes} bytes");
            let longest = spread.map(|spread| spread.max_ms);
            targets.push(Target::at_most(what, FORK_TARGET_MS, longest));
        }
        runs.push(json!({
            "keyed": keyed.figures()?,
            "answered": spread(|f| f.answered),
            "running": running,
            "first_row": first_row,
            "caught_up": Spread::of(forks.iter().filter_map(|f| f.caught_up)),
            "forks": forks.iter().map(|f| &f.figures).collect::<Vec<_>>(),
        }));
    }
    let figures = json!({ "workload": "fork", "runs": runs });
    Ok(outcome(figures, &targets, options.keyed.set_up.check))
}

fn fork(keyed: &mut Keyed, time: Duration) -> anyhow::Result<Fork> {
    let client = keyed.cluster.client.clone();
    keyed.cluster.printed.record();
    let begun_ms = wall_ms();
    keyed.pass(time)?;
    let counts = keyed.counts()?;
    let asked_ms = wall_ms();
    let since = || (wall_ms() - asked_ms) as f64;
    let sinks = json!({ "seen": { "print-identifier": IDENTIFIERS[1] } });
    let path = format!("/v1/jobs/{}/forks", keyed.job);
    let copy = client.post(&path, &json!({ "sinks": sinks }))?;
    let answered = since();
    let copy: Job = serde_json::from_value(copy)?;
    client.until_running(&copy.id)?;
    let running = since();
    let first_ms = first_row(keyed)?;
    let until_ms = wall_ms() + gaps::AFTER_MS;
    keyed.until_job_in_time(COPY, CATCH_UP_MAX)?;
    keyed.pass(time)?;
    let ended_ms = wall_ms();
    let counts = keyed.counts()?.since(&counts);
    let rows = keyed.cluster.printed.take();
    end(keyed, &copy.id)?;

    let (of_copy, rows): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.job == COPY);
    let late = gaps::lateness(&rows, keyed.due, begun_ms, asked_ms);
    let bound_ms = gaps::late_bound_ms(late);
    let caught_up = gaps::caught_up(&of_copy, keyed.due, (asked_ms, ended_ms), bound_ms);
    let pauses = gaps::longest(&rows, (asked_ms, until_ms, ended_ms));
    Ok(Fork {
        answered,
        running,
        first_row: (first_ms - asked_ms) as f64,
        caught_up: caught_up.map(|after_ms| after_ms as f64),
        figures: json!({
            "pauses_of_the_jobs_key_groups":
                Spread::of(pauses.into_values().map(|gap_ms| gap_ms as f64)),
            "gaps_before": gaps::usual(&rows, (asked_ms, until_ms)),
            "late_before": late,
            "late_after": gaps::lateness(&rows, keyed.due, asked_ms, ended_ms),
            "copy_caught_up_after_ms": caught_up,
            "counts": counts.json(),
        }),
    })
}

/// Waits for the copy's first row: when it came.
fn first_row(keyed: &mut Keyed) -> anyhow::Result<i64> {
    let deadline = Instant::now() + FORK_MAX;
    loop {
        if let Some(first_ms) = keyed.cluster.printed.first_ms(COPY) {
            return Ok(first_ms);
        }
        keyed.cluster.check_up()?;
        ensure!(Instant::now() < deadline, "the copy puts out no row");
        thread::sleep(PAUSE / 4);
    }
}

/// Cancels a copy, and waits until it has ended.
fn end(keyed: &Keyed, copy: &str) -> anyhow::Result<()> {
    let client = &keyed.cluster.client;
    let _view: Value = client.post(&format!("/v1/jobs/{copy}/cancel"), &json!({}))?;
    client.until(
        copy,
        "CANCELED",
        FORK_MAX,
        |job| Ok(job.state == "CANCELED"),
    )?;
    Ok(())
}
