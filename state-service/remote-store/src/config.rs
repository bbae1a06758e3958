//! What a remote store is given.

use std::time::Duration;

use rpc::Tls;

/// What a remote store is given.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// How nodes are talked to.
    pub tls: Tls,
    /// Of the pauses between attempts; another one in each process.
    pub seed: u64,
    /// Limits.
    pub limits: RemoteLimits,
}

/// How long a remote store waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteLimits {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to a read or a scan: more than a node lets it wait for an epoch to be applied.
    pub read_deadline: Duration,
    /// For a delta to be written, beside the time that its bytes take, and for committed output: more
    /// than a node waits for the object store.
    pub stage_deadline: Duration,
    /// For a node to hear that a task has nothing for it.
    pub announce_deadline: Duration,
    /// For reads and scans altogether, before the task is told that its state is out of reach.
    pub patience: Duration,
    /// First pause before a failed call is repeated; it doubles each time.
    pub pause_min: Duration,
    /// Longest of these pauses.
    pub pause_max: Duration,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        RemoteLimits {
            connect: Duration::from_secs(2),
            read_deadline: Duration::from_secs(15),
            stage_deadline: Duration::from_secs(60),
            announce_deadline: Duration::from_secs(2),
            patience: Duration::from_secs(60),
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(2),
        }
    }
}
