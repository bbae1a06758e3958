//! Clusters of real processes: whatever is killed or held up, results are outside exactly once, and
//! what was acknowledged is there.

mod kills;
mod load;
mod quorum;
mod raft;
mod select;
mod storm;
mod tls;
mod zombies;

use std::path::Path;

use tests::{Cluster, ClusterConfig};

fn start() -> Cluster {
    start_over(None, Vec::new())
}

fn start_over(store: Option<String>, variables: Vec<(String, String)>) -> Cluster {
    let program = Path::new(env!("CARGO_BIN_EXE_millstream-under-test"));
    Cluster::start(&ClusterConfig {
        program: program.to_owned(),
        store,
        variables,
    })
}
