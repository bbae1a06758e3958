//! What the test binaries share: the whole system in one process, faults, data, comparison.

mod changelog;
mod cluster;
pub mod collector;
mod dev_process;
pub mod exposition;
pub mod faults;
mod member;
pub mod minio;
mod netns;
pub mod rows;
mod run;
mod store;
mod tool;
mod toxiproxy;
mod wait;

pub use changelog::{
    file_lines, fold_changelog, fold_changes, fold_column, table_files, table_lines,
};
pub use cluster::{Cluster, ClusterConfig, JobStatus, Pass};
pub use dev_process::DevProcess;
pub use member::Member;
pub use netns::Network;
pub use run::{RunConfig, RunOutput, run};
pub use store::{StartedStore, Store};
pub use tool::lasting_ports as ports;
pub use toxiproxy::Toxiproxy;
pub use wait::wait_until;

use std::path::{Path, PathBuf};

/// The project's root folder.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A file or folder of the test data.
#[must_use]
pub fn data(path: &str) -> PathBuf {
    root().join("tests/data").join(path)
}
