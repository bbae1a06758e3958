//! What `millstream run --report` writes, as far as it is used here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Figures of a whole `millstream run`.
#[derive(Debug, Deserialize)]
pub(crate) struct RunReport {
    /// Jobs in the order in which they ran.
    pub(crate) jobs: Vec<JobReport>,
    /// From start to end of the process.
    pub(crate) wall_seconds: f64,
    /// User and system time of the whole process.
    pub(crate) cpu_seconds: f64,
    /// Largest resident set.
    pub(crate) peak_rss_bytes: u64,
}

/// Figures of one job.
#[derive(Debug, Deserialize)]
pub(crate) struct JobReport {
    /// Rows that reached sinks.
    pub(crate) output_rows: u64,
    /// Committed epochs.
    pub(crate) checkpoints: u64,
    /// From barrier to commit.
    pub(crate) checkpoint_ms_p50: f64,
    /// From barrier to commit.
    pub(crate) checkpoint_ms_p99: f64,
    /// Memory of working sets in the end, where a server tells.
    #[serde(default)]
    pub(crate) state_bytes: u64,
    /// Requests to the object store by kind; none where state is in memory.
    #[serde(default)]
    pub(crate) object_store_requests: BTreeMap<String, u64>,
}
