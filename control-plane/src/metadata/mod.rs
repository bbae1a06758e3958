//! The cluster's metadata and the one way to change it. What it is and which changes fit is
//! `coordinator::meta`'s business; here is where its log lives.

mod bucket;
mod local;
mod propose;
mod raft;

use coordinator::meta::{Answer, Command, MetaState};
use futures::future::BoxFuture;

pub use bucket::{BucketConfig, BucketError, BucketLimits, BucketMetadata, Explain};
pub use local::LocalMetadata;
pub use propose::propose;
pub use raft::{MetaMachine, RaftMetadata, leader_of};

/// A look at the metadata.
pub type Look = Box<dyn FnOnce(&MetaState) + Send>;

/// A log of changes and the state that they give.
pub trait Metadata: Send + Sync {
    /// Adds a change to the log and applies it. A command whose fate is unknown may be proposed
    /// again: it is applied once.
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Answer, MetadataError>>;

    /// Looks at the state as it is now: every change that was answered before the call is in it.
    fn read(&self, look: Look) -> BoxFuture<'static, Result<(), MetadataError>>;
}

/// Why the log did not take a change, or could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MetadataError {
    /// Another node is the leader: it takes changes. This one did nothing.
    #[error("{}", not_leader(leader.as_deref()))]
    NotLeader {
        /// Where the leader is, if that is known.
        leader: Option<String>,
    },
    /// Not now; worth another try.
    #[error("metadata is unavailable: {why}")]
    Unavailable {
        /// Why, for people.
        why: String,
        /// Whether the change may have happened, or may happen yet.
        indeterminate: bool,
    },
    /// Never again in this process.
    #[error("metadata is closed: {why}")]
    Closed {
        /// Why, for people.
        why: String,
    },
}

fn not_leader(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("the leader is another node, at {leader}"),
        None => "there is no leader at the moment".to_owned(),
    }
}

/// What `look` sees.
///
/// # Errors
/// As [`Metadata::read`].
pub async fn look<T: Send + 'static>(
    metadata: &dyn Metadata,
    look: impl FnOnce(&MetaState) -> T + Send + 'static,
) -> Result<T, MetadataError> {
    let (sender, receiver) = futures::channel::oneshot::channel();
    let look: Look = Box::new(move |state| {
        // Nobody waits any more.
        let _ = sender.send(look(state));
    });
    metadata.read(look).await?;
    receiver.await.map_err(|_| MetadataError::Closed {
        why: "the look was dropped".to_owned(),
    })
}
