//! Clusters of real processes: whatever is killed or held up, results are outside exactly once, and
//! what was acknowledged is there.

mod capacity;
mod chaos;
mod drops;
mod kills;
mod load;
mod memory;
mod partition;
mod quarantine;
mod queries;
mod quorum;
mod raft;
mod rescale;
mod select;
mod storm;
mod suites;
mod tls;
mod trace;
mod zombies;

use std::path::Path;

use tests::{Cluster, ClusterConfig};

fn start() -> Cluster {
    start_over(None, Vec::new())
}

fn start_over(store: Option<String>, variables: Vec<(String, String)>) -> Cluster {
    Cluster::start(&ClusterConfig {
        store,
        variables,
        ..config()
    })
}

/// Three nodes of the control plane, two workers, two state nodes, over a directory.
pub(super) fn config() -> ClusterConfig {
    let program = Path::new(env!("CARGO_BIN_EXE_millstream-under-test"));
    ClusterConfig {
        program: program.to_owned(),
        nodes: 3,
        per_tier: 2,
        store: None,
        variables: Vec::new(),
        node_arguments: Vec::new(),
        worker_arguments: Vec::new(),
    }
}
