//! Workloads with figures, one JSON object per run. `nexmark` runs the `millstream` binary as a user
//! would and knows nothing of its insides; `state` drives the state path alone.

mod figures;
mod nexmark;
mod place;
mod report;
mod server;
mod state;

use clap::{Parser, Subcommand};

/// Load tests of Millstream; each prints one JSON object.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// A query of the Nexmark benchmark over its generator into a `blackhole` sink, with
    /// exactly-once checkpoints.
    Nexmark(nexmark::Options),
    /// Changed rows through the state path: freeze, stage, epoch log, commit, flush, compaction.
    State(state::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().workload {
        Workload::Nexmark(options) => nexmark::run(&options),
        Workload::State(options) => state::run(&options),
    }
}
