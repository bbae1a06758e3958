//! `recovery`: a worker is killed under load. Its key groups run on, on those that are left, from the
//! last checkpoint; what was put out after that comes again, and counts for nothing here.
//!
//! A pause is from the last row of a key group before the kill to the first one after it that has
//! something new in it (`gaps`); so it includes that the death is noticed, the roll-back, up to a
//! checkpoint interval of rows that are read again, and the first reads of state that is nowhere in
//! memory. When the death was noticed, which is when the job is seen to be no longer what it was, is told
//! beside it.
//!
//! With `--hang` the worker is stopped instead, and stays so: it holds its connections and says nothing, as
//! one does whose machine has died. Then it is silence that must be noticed.

use std::{thread, time::Duration};

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::PAUSE,
    clock::wall_ms,
    gaps::{self, Spread},
    keyed::{Keyed, KeyedOptions},
    listen::Row,
    target::{Target, outcome},
    workload::Outcome,
};

/// A pause of a key group after detection is at most this.
pub(crate) const PAUSE_TARGET_MS: f64 = 1_000.0;
/// A worker that hangs is noticed after at most this.
const NOTICED_TARGET_MS: f64 = 3_000.0;
/// Pauses at all sizes of state are within this factor of each other.
pub(crate) const FLAT_TARGET: f64 = 1.5;
/// How long it may take until rows come in time again.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

/// A run of `recovery`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    keyed: KeyedOptions,
    /// Stop the worker (SIGSTOP) instead of killing it.
    #[arg(long)]
    hang: bool,
}

/// When things were seen, in ms since 1970.
struct Times {
    begun_ms: i64,
    killed_ms: i64,
    noticed_ms: i64,
    /// It ran again.
    running_ms: i64,
    ended_ms: i64,
}

/// Runs it for each size of state.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (mut runs, mut targets, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for state_bytes in &options.keyed.state_bytes {
        let run = run_one(options, *state_bytes)?;
        let what =
            format!("longest pause after the death is noticed, ms, state of {state_bytes} bytes");
        targets.push(Target::at_most(what, PAUSE_TARGET_MS, run.pause_ms));
        if options.hang {
            let what = format!("until a hung worker is noticed, ms, state of {state_bytes} bytes");
            let noticed = Some(run.noticed_after_ms);
            targets.push(Target::at_most(what, NOTICED_TARGET_MS, noticed));
        }
        runs.push(run.figures);
        pauses.extend(run.pause_ms);
    }
    targets.extend(flat(&pauses));
    let figures = json!({ "workload": "recovery", "hang": options.hang, "runs": runs });
    Ok(outcome(figures, &targets, options.keyed.set_up.check))
}

/// That pauses do not depend on the size of state, if there are several.
pub(crate) fn flat(pauses: &[f64]) -> Option<Target> {
    let most = pauses.iter().copied().reduce(f64::max)?;
    let least = pauses.iter().copied().reduce(f64::min)?;
    let what = "longest by shortest of the pauses at all sizes of state";
    (pauses.len() > 1).then(|| Target::at_most(what, FLAT_TARGET, Some(most / least.max(1.0))))
}

/// A run at one size of state.
struct Run {
    figures: Value,
    noticed_after_ms: f64,
    /// The longest one, from when the death was noticed.
    pause_ms: Option<f64>,
}

fn run_one(options: &Options, state_bytes: u64) -> anyhow::Result<Run> {
    let mut keyed = Keyed::start(&options.keyed, state_bytes)?;
    let time = options.keyed.time();
    keyed.cluster.printed.record();
    let begun_ms = wall_ms();
    keyed.pass(time)?;

    let generation = keyed.cluster.client.job(&keyed.job)?.generation;
    let counts = keyed.counts()?;
    let victim = keyed.cluster.workers.len() - 1;
    let worker = &mut keyed.cluster.workers[victim];
    let killed_ms = wall_ms();
    if options.hang {
        worker.stop()?;
    } else {
        worker.kill()?;
        worker.reap()?;
    }
    let (noticed_ms, running_ms) = until_restarted(&keyed, generation)?;
    keyed.until_in_time(CATCH_UP_MAX)?;
    keyed.pass(time)?;
    let times = Times {
        begun_ms,
        killed_ms,
        noticed_ms,
        running_ms,
        ended_ms: wall_ms(),
    };
    let counts = keyed.counts()?.since(&counts);
    let rows = keyed.cluster.printed.take();
    let (measured, worst) = pauses(&rows, &keyed, &times, u16::try_from(victim)?);
    let noticed_after_ms = (times.noticed_ms - killed_ms) as f64;
    Ok(Run {
        figures: json!({
            "noticed_after_ms": noticed_after_ms,
            "running_after_ms": times.running_ms - killed_ms,
            "measured": measured,
            "counts": counts.json(),
            "keyed": keyed.figures()?,
        }),
        noticed_after_ms,
        pause_ms: worst.map(|pause| pause.max_ms - noticed_after_ms),
    })
}

/// When the job was no longer what it was, and when it ran again, as who asks sees it.
fn until_restarted(keyed: &Keyed, generation: u64) -> anyhow::Result<(i64, i64)> {
    let deadline = Instant::now() + CATCH_UP_MAX;
    let mut noticed_ms = None;
    loop {
        let job = keyed.cluster.client.job(&keyed.job)?;
        let now_ms = wall_ms();
        if job.generation > generation || job.state != "RUNNING" {
            noticed_ms.get_or_insert(now_ms);
        }
        if let Some(noticed_ms) = noticed_ms
            && job.generation > generation
            && job.state == "RUNNING"
        {
            return Ok((noticed_ms, now_ms));
        }
        let late = Instant::now() >= deadline;
        ensure!(!late, "the job does not run again: {job:?}");
        thread::sleep(PAUSE / 10);
    }
}

/// Pauses of the dead worker's key groups and of the others, and how late rows were; the spread of the
/// longer pauses.
fn pauses(rows: &[Row], keyed: &Keyed, times: &Times, victim: u16) -> (Value, Option<Spread>) {
    let (killed_ms, ended_ms) = (times.killed_ms, times.ended_ms);
    let until_ms = times.running_ms + gaps::AFTER_MS;
    let owners = gaps::owners(rows, killed_ms);
    let was_dead = |group: &u16| {
        owners
            .get(group)
            .is_some_and(|owner| owner.worker == victim)
    };
    let after = gaps::longest(rows, (killed_ms, until_ms, ended_ms));
    let of = |dead: bool| {
        let groups = after.iter().filter(|(group, _)| was_dead(group) == dead);
        Spread::of(groups.map(|(_, gap_ms)| *gap_ms as f64))
    };
    let (of_dead, of_others) = (of(true), of(false));
    let before = gaps::lateness(rows, keyed.due, times.begun_ms, killed_ms);
    let bound_ms = gaps::late_bound_ms(before);
    let taken_over = |row: &&Row| was_dead(&row.group) && row.owner.worker != victim;
    let first = rows
        .iter()
        .filter(|row| row.at_ms >= killed_ms)
        .find(taken_over);
    let figures = json!({
        "pauses_of_dead_workers_key_groups": of_dead,
        "pauses_of_other_key_groups": of_others,
        "gaps_before": gaps::usual(rows, (killed_ms, until_ms)),
        "late_before": before,
        "late_after": gaps::lateness(rows, keyed.due, killed_ms, ended_ms),
        "caught_up_after_ms": gaps::caught_up(rows, keyed.due, (killed_ms, ended_ms), bound_ms),
        "first_output_of_dead_workers_key_groups_after_ms": first.map(|row| row.at_ms - killed_ms),
    });
    let both = [of_dead, of_others].into_iter().flatten();
    (figures, both.max_by(|a, b| a.max_ms.total_cmp(&b.max_ms)))
}
