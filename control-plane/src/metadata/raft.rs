//! Metadata on the replicated log: every control-plane node applies the same changes.

use std::time::Duration;

use bytes::Bytes;
use consensus::{Consensus, Leadership, Machine, ProposeError, ReadError};
use coordinator::meta::{Answer, Command, MetaState};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use super::{Look, Metadata, MetadataError};

/// How long one attempt to write or read may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The metadata as the log's state machine. Entries and snapshots are JSON: small, rare, and
/// readable for whoever has to look at them.
#[derive(Clone, Debug, Default)]
pub struct MetaMachine(MetaState);

impl MetaMachine {
    /// The state.
    #[must_use]
    pub fn state(&self) -> &MetaState {
        &self.0
    }
}

impl Machine for MetaMachine {
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8> {
        let answer = match serde_json::from_slice::<Command>(command) {
            Ok(command) => Ok(self.0.apply(command)),
            // All nodes of one version agree; one that is older must not go on as if nothing were.
            Err(error) => Err(format!("entry {index} is not one of this version: {error}")),
        };
        serde_json::to_vec(&answer).expect("answers are plain data")
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("metadata is plain data")
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let state = serde_json::from_slice(snapshot);
        self.0 = state.map_err(|error| format!("not metadata of this version: {error}"))?;
        Ok(())
    }
}

/// Metadata on a node of the control plane.
#[derive(Clone)]
pub struct RaftMetadata {
    consensus: Consensus<MetaMachine>,
}

impl RaftMetadata {
    /// On a node that has been started.
    #[must_use]
    pub fn new(consensus: Consensus<MetaMachine>) -> RaftMetadata {
        RaftMetadata { consensus }
    }
}

impl Metadata for RaftMetadata {
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Answer, MetadataError>> {
        let consensus = self.consensus.clone();
        async move {
            let bytes = serde_json::to_vec(&command).expect("commands are plain data");
            let deadline = Instant::now() + ATTEMPT;
            let applied = consensus.propose(Bytes::from(bytes), deadline).await;
            let applied = applied.map_err(|error| propose_error(&error))?;
            let answer: Result<Answer, String> = serde_json::from_slice(&applied.response)
                .map_err(|error| closed(format!("it answered something odd: {error}")))?;
            answer.map_err(closed)
        }
        .boxed()
    }

    fn read(&self, look: Look) -> BoxFuture<'static, Result<(), MetadataError>> {
        let consensus = self.consensus.clone();
        async move {
            let barrier = consensus.read_barrier(Instant::now() + ATTEMPT).await;
            barrier.map_err(|error| match error {
                ReadError::NoQuorum => MetadataError::Unavailable {
                    why: error.to_string(),
                    indeterminate: false,
                },
                ReadError::Stopped(reason) => closed(reason.to_string()),
            })?;
            consensus.with_machine(|machine| look(machine.state()));
            Ok(())
        }
        .boxed()
    }
}

/// Where the leader is, as far as this node knows.
#[must_use]
pub fn leader_of(leadership: &Leadership) -> Option<String> {
    match leadership {
        Leadership::Follower { leader } => Some(leader.address.clone()),
        Leadership::Leader { .. } | Leadership::NoLeader => None,
    }
}

fn propose_error(error: &ProposeError) -> MetadataError {
    match error {
        ProposeError::NotLeader { leader } => MetadataError::NotLeader {
            leader: leader.as_ref().map(|leader| leader.address.clone()),
        },
        ProposeError::TooLarge { .. }
        | ProposeError::Stopped {
            indeterminate: false,
            ..
        } => closed(error.to_string()),
        ProposeError::NoQuorum { .. }
        | ProposeError::Timeout { .. }
        | ProposeError::Stopped { .. } => MetadataError::Unavailable {
            why: error.to_string(),
            indeterminate: error.is_indeterminate(),
        },
    }
}

fn closed(why: String) -> MetadataError {
    MetadataError::Closed { why }
}
