//! What all runs of a workload of many runs have in common.

use std::path::PathBuf;

use clap::Args;

use super::Options;
use crate::place::PlaceArgs;

/// How each query runs: in a process of its own over a local directory.
#[derive(Args, Debug)]
pub(super) struct EachRun {
    /// Tasks per operator.
    #[arg(long, default_value_t = 2)]
    parallelism: u32,
    /// Time between checkpoints.
    #[arg(long, default_value = "1s")]
    checkpoint_interval: String,
    /// The `millstream` binary; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Keep state in new directories within this one [default: that for temporary files].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl EachRun {
    /// One run: so many events at this rate of event time, with so many bytes of memory or as many as the
    /// binary takes.
    pub(super) fn of(&self, query: &str, events: u64, rate: u64, memory: Option<u64>) -> Options {
        Options {
            query: query.to_owned(),
            events,
            parallelism: self.parallelism,
            rate,
            checkpoint_interval: self.checkpoint_interval.clone(),
            batch_rows: None,
            memory,
            binary: self.binary.clone(),
            place: PlaceArgs::within(self.data_dir.clone()),
        }
    }
}
