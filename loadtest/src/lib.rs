//! Workloads with figures, one JSON object per run. All but `state` run the `millstream` binary as a
//! user would, over REST, and know nothing of its insides but how keys fall into key groups; `state`
//! drives the state path alone.

mod autoscale;
mod bigstate;
mod checkpoint;
mod client;
mod clock;
mod cluster;
mod counts;
mod figures;
mod fork;
mod gaps;
mod job_settings;
mod keyed;
mod listen;
mod nexmark;
mod place;
mod recovery;
mod report;
mod rescale;
mod results;
mod scrape;
mod server;
mod set_up;
mod size;
mod state;
mod target;
mod workload;

pub use workload::{Arguments, Outcome, run};
