//! Workloads with figures. Runs the `millstream` binary as a user would and prints one JSON
//! object per run; knows nothing of its insides.

mod nexmark;
mod report;

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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().workload {
        Workload::Nexmark(options) => nexmark::run(&options),
    }
}
