//! Which workloads there are, and what a run of one gives.

use clap::{Parser, Subcommand};

use crate::{
    autoscale, bigstate, checkpoint, fork,
    nexmark::{self, bench, growth},
    recovery, rescale, state,
};

/// Load tests of Millstream; each prints one JSON object.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand, Debug)]
enum Workload {
    /// A query of the Nexmark benchmark over its generator into a `blackhole` sink, with
    /// exactly-once checkpoints.
    Nexmark(nexmark::Options),
    /// All queries of the Nexmark benchmark, in the public profile and in one in which windows open and
    /// close all the time, with all state in memory and with a fifth of it; writes a table.
    Bench(bench::Options),
    /// Queries of the Nexmark benchmark over more and more events: whether an event costs more, the more
    /// there have been; writes a table.
    Growth(growth::Options),
    /// Changed rows through the state path: freeze, stage, epoch log, commit, flush, compaction.
    State(state::Options),
    /// Kills a worker under load: how long key groups of the dead worker and of the others pause, and
    /// how long it takes until nothing is late any more.
    Recovery(recovery::Options),
    /// Changes the parallelism of a job under load: how long key groups that move and those that stay
    /// pause.
    Rescale(rescale::Options),
    /// Keys by a Zipf distribution, with memory for a part of the state, against the same with memory
    /// for all of it: throughput, hit rates, memory.
    Bigstate(bigstate::Options),
    /// Copies a running job: how long until the copy runs and has put its first row out.
    Fork(fork::Options),
    /// Checkpoints under full load on a local directory: how long they take.
    Checkpoint(checkpoint::Options),
    /// A source that doubles and halves its rate: how parallelism and workers follow it, how late rows
    /// are meanwhile, and whether a result is lost.
    Autoscale(autoscale::Options),
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// A JSON object.
    pub text: String,
    /// Targets that were missed, for people.
    pub missed: Vec<String>,
    /// Whether that is a failure: with `--check`.
    pub failed: bool,
}

impl Outcome {
    fn of(text: String) -> Outcome {
        Outcome {
            text,
            missed: Vec::new(),
            failed: false,
        }
    }
}

/// Runs a load test.
///
/// # Errors
/// When it cannot be run, or what it runs fails.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    match &arguments.workload {
        Workload::Nexmark(options) => nexmark::run(options).map(Outcome::of),
        Workload::Bench(options) => bench::run(options),
        Workload::Growth(options) => growth::run(options),
        Workload::State(options) => state::run(options).map(Outcome::of),
        Workload::Recovery(options) => recovery::run(options),
        Workload::Rescale(options) => rescale::run(options),
        Workload::Bigstate(options) => bigstate::run(options),
        Workload::Fork(options) => fork::run(options),
        Workload::Checkpoint(options) => checkpoint::run(options),
        Workload::Autoscale(options) => autoscale::run(options),
    }
}
