//! `rescale`: a job gets other numbers of tasks while it runs, one after the other.
//!
//! Which key groups have moved is seen in the output: another task prints their rows. A pause is from a
//! key group's last row before the change to the next one with something new in it, and the longest such
//! gap that begins until a second after the change is done (`gaps`). It includes the first reads of what is
//! nowhere in memory, where the key group has moved. Key groups that stay are to pause no longer. What was
//! read and asked of the object store is told from the request until rows have come in time again for a while.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::Job,
    clock::wall_ms,
    gaps::{self, Spread},
    keyed::{Keyed, KeyedOptions},
    recovery::{PAUSE_TARGET_MS, flat},
    target::{Target, outcome},
    workload::Outcome,
};

/// How long a change may take.
const RESCALE_MAX: Duration = Duration::from_secs(120);
/// How long it may take until rows come in time again.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

/// A run of `rescale`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    keyed: KeyedOptions,
    /// Numbers of tasks, one after the other.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "4,1,3")]
    to: Vec<u32>,
}

/// Runs it for each size of state.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (mut runs, mut targets, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for state_bytes in &options.keyed.state_bytes {
        let mut keyed = Keyed::start(&options.keyed, *state_bytes)?;
        let mut steps = Vec::new();
        let mut of_steps = Vec::new();
        for tasks in &options.to {
            let (figures, both) = step(&mut keyed, &options.keyed, *tasks)?;
            steps.push(figures);
            of_steps.push(both);
        }
        let longest = |of: fn(&Pauses) -> Option<Spread>| {
            let spreads = of_steps.iter().filter_map(of);
            spreads.map(|spread| spread.max_ms).reduce(f64::max)
        };
        let (moved, others) = (longest(|both| both.moved), longest(|both| both.others));
        for (which, longest) in [("a moved", moved), ("another", others)] {
            let what =
                format!("longest pause of {which} key group, ms, state of {state_bytes} bytes");
            targets.push(Target::at_most(what, PAUSE_TARGET_MS, longest));
        }
        pauses.extend(moved);
        runs.push(json!({ "keyed": keyed.figures()?, "steps": steps }));
    }
    targets.extend(flat(&pauses));
    let figures = json!({ "workload": "rescale", "runs": runs });
    Ok(outcome(figures, &targets, options.keyed.set_up.check))
}

/// Pauses of key groups that moved, and of those that did not.
struct Pauses {
    moved: Option<Spread>,
    others: Option<Spread>,
}

/// One change: figures, and pauses.
fn step(keyed: &mut Keyed, options: &KeyedOptions, tasks: u32) -> anyhow::Result<(Value, Pauses)> {
    let time = options.time();
    keyed.cluster.printed.record();
    let begun_ms = wall_ms();
    keyed.pass(time)?;
    let (before, counts) = (keyed.cluster.client.job(&keyed.job)?, keyed.counts()?);
    let asked_ms = wall_ms();
    let path = format!("/v1/jobs/{}", keyed.job);
    let change = json!({ "parallelism": tasks });
    keyed.cluster.client.patch(&path, &change)?;
    let is = |job: &Job| {
        let given_up = job.rescale_error.as_deref().unwrap_or_default();
        ensure!(given_up.is_empty(), "the rescale was given up: {given_up}");
        ensure!(
            job.generation == before.generation,
            "the job was restarted: {:?}",
            job.error
        );
        Ok(job.parallelism == tasks && job.rescale.is_none())
    };
    let client = &keyed.cluster.client;
    client.until(&keyed.job, "rescaled", RESCALE_MAX, is)?;
    let done_ms = wall_ms();
    keyed.until_in_time(CATCH_UP_MAX)?;
    keyed.pass(time)?;
    let ended_ms = wall_ms();
    let counts = keyed.counts()?.since(&counts);

    let rows = keyed.cluster.printed.take();
    let (was, is) = (gaps::owners(&rows, asked_ms), gaps::owners(&rows, ended_ms));
    let until_ms = done_ms + gaps::AFTER_MS;
    let gaps_after = gaps::longest(&rows, (asked_ms, until_ms, ended_ms));
    let of = |moved: bool| {
        let groups = gaps_after.iter();
        let groups = groups.filter(|(group, _)| (was.get(group) != is.get(group)) == moved);
        Spread::of(groups.map(|(_, gap_ms)| *gap_ms as f64))
    };
    let late = gaps::lateness(&rows, keyed.due, begun_ms, asked_ms);
    let bound_ms = gaps::late_bound_ms(late);
    let pauses = Pauses {
        moved: of(true),
        others: of(false),
    };
    let first = gaps::first_outputs(&rows, asked_ms, &was);
    let figures = json!({
        "from": before.parallelism,
        "to": tasks,
        "done_after_ms": done_ms - asked_ms,
        "pauses_of_moved_key_groups": pauses.moved,
        "pauses_of_other_key_groups": pauses.others,
        "gaps_before": gaps::usual(&rows, (asked_ms, until_ms)),
        "first_output_of_moved_key_groups_after_ms": first.values().min(),
        "first_outputs_of_moved_key_groups":
            Spread::of(first.into_values().map(|after_ms| after_ms as f64)),
        "late_before": late,
        "late_after": gaps::lateness(&rows, keyed.due, asked_ms, ended_ms),
        "caught_up_after_ms": gaps::caught_up(&rows, keyed.due, (asked_ms, ended_ms), bound_ms),
        "counts": counts.json(),
    });
    Ok((figures, pauses))
}
