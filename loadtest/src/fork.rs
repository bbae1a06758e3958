//! `fork`: a copy of a running job, from its newest checkpoint, printing under a name of its own. Times are
//! from the request to when the copy runs, and to its first row; each copy is cancelled before the next.

use std::{thread, time::Duration};

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    client::{Job, PAUSE},
    clock::wall_ms,
    gaps::Spread,
    keyed::{Keyed, KeyedOptions},
    listen::IDENTIFIERS,
    target::{Target, outcome},
    workload::Outcome,
};

/// A copy is there, and has put its first row out, after at most this.
const FORK_TARGET_MS: f64 = 1_000.0;
/// How long one may take.
const FORK_MAX: Duration = Duration::from_secs(120);

/// A run of `fork`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    keyed: KeyedOptions,
    /// Copies, one after the other.
    #[arg(long, default_value_t = 5)]
    forks: u32,
}

/// When things were, in ms after the request.
struct Times {
    answered: f64,
    running: f64,
    first_row: f64,
}

/// Runs it for each size of state.
pub(crate) fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (mut runs, mut targets) = (Vec::new(), Vec::new());
    for state_bytes in &options.keyed.state_bytes {
        let mut keyed = Keyed::start(&options.keyed, *state_bytes)?;
        let mut times = Vec::new();
        for _ in 0..options.forks.max(1) {
            times.push(fork(&mut keyed)?);
            keyed.until_in_time(FORK_MAX)?;
        }
        let spread = |of: fn(&Times) -> f64| Spread::of(times.iter().map(of));
        let (running, first_row) = (spread(|t| t.running), spread(|t| t.first_row));
        for (what, spread) in [("runs", running), ("has put out a row", first_row)] {
            let what = format!("longest until a copy {what}, ms, state of {state_bytes} bytes");
            let longest = spread.map(|spread| spread.max_ms);
            targets.push(Target::at_most(what, FORK_TARGET_MS, longest));
        }
        runs.push(json!({
            "keyed": keyed.figures()?,
            "answered": spread(|t| t.answered),
            "running": running,
            "first_row": first_row,
        }));
    }
    let figures = json!({ "workload": "fork", "runs": runs });
    Ok(outcome(figures, &targets, options.keyed.set_up.check))
}

fn fork(keyed: &mut Keyed) -> anyhow::Result<Times> {
    let client = keyed.cluster.client.clone();
    keyed.cluster.printed.record();
    let asked_ms = wall_ms();
    let since = || (wall_ms() - asked_ms) as f64;
    let sinks = json!({ "seen": { "print-identifier": IDENTIFIERS[1] } });
    let path = format!("/v1/jobs/{}/forks", keyed.job);
    let copy = client.post(&path, &json!({ "sinks": sinks }))?;
    let answered = since();
    let copy: Job = serde_json::from_value(copy)?;
    client.until_running(&copy.id)?;
    let running = since();
    let deadline = Instant::now() + FORK_MAX;
    let first_ms = loop {
        if let Some(first_ms) = keyed.cluster.printed.first_ms(1) {
            break first_ms;
        }
        keyed.cluster.check_up()?;
        ensure!(Instant::now() < deadline, "the copy puts out no row");
        thread::sleep(PAUSE / 4);
    };
    let _rows = keyed.cluster.printed.take();
    end(keyed, &copy.id)?;
    Ok(Times {
        answered,
        running,
        first_row: (first_ms - asked_ms) as f64,
    })
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
