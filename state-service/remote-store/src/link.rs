//! The way to one state node: one connection, and bounds of what is under way on it. It is closed when
//! no route names the node and nothing is under way any more.

use std::sync::{Arc, OnceLock};

use rpc::{Channel, Timeouts, connect, state::state_client::StateClient, state_client};
use state_client::StateError;
use state_wire::Failure;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    Owner, RemoteConfig,
    caps::{ANNOUNCEMENTS_PER_NODE_MAX, CALL_MAX, READS_PER_NODE_MAX, STAGES_PER_NODE_MAX},
};

/// The way to one state node.
#[derive(Debug)]
pub(crate) struct NodeLink {
    pub(crate) owner: Owner,
    channel: OnceLock<Channel>,
    reads: Semaphore,
    stages: Semaphore,
    pub(crate) announcements: Arc<Semaphore>,
}

impl NodeLink {
    pub(crate) fn new(owner: Owner) -> Self {
        NodeLink {
            owner,
            channel: OnceLock::new(),
            reads: Semaphore::new(READS_PER_NODE_MAX),
            stages: Semaphore::new(STAGES_PER_NODE_MAX),
            announcements: Arc::new(Semaphore::new(ANNOUNCEMENTS_PER_NODE_MAX)),
        }
    }

    /// A client of the node. Connects when it is first used.
    pub(crate) fn client(&self, config: &RemoteConfig) -> Result<StateClient<Channel>, Failure> {
        if let Some(channel) = self.channel.get() {
            return Ok(state_client(channel.clone()));
        }
        let timeouts = Timeouts {
            connect: config.limits.connect,
            call: CALL_MAX,
        };
        let channel = connect(&self.owner.address, &config.tls, timeouts)
            .map_err(|error| Failure::Passing(StateError::Unavailable(error.to_string())))?;
        Ok(state_client(self.channel.get_or_init(|| channel).clone()))
    }

    /// Room for a read.
    pub(crate) async fn read_permit(&self) -> SemaphorePermit<'_> {
        self.reads.acquire().await.expect("never closed")
    }

    /// Room for a delta.
    pub(crate) async fn stage_permit(&self) -> SemaphorePermit<'_> {
        self.stages.acquire().await.expect("never closed")
    }
}
