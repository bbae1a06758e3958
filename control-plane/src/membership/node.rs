//! What is known of control-plane nodes, and the door to changing it.

use futures::future::BoxFuture;

/// A node of the control plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlNode {
    /// Number.
    pub id: u64,
    /// Where other nodes reach it; for a process that is alone, where clients do.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it counts for quorums; if not, it is still catching up.
    pub voter: bool,
}

/// The members, as this process knows them.
pub trait Membership: Send + Sync {
    /// All of them, by number.
    fn nodes(&self) -> Vec<ControlNode>;

    /// Lets a running node join. Asked again, it goes on where it stopped.
    fn add(&self, id: u64, address: String) -> BoxFuture<'static, Result<(), MembershipError>>;

    /// Removes a node, dead or alive. It may never return under its number.
    fn remove(&self, id: u64) -> BoxFuture<'static, Result<(), MembershipError>>;
}

/// Why the members were not, or not certainly, changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    /// This process has everything in it.
    #[error("this server is one process for everything: nodes cannot join or leave it")]
    Alone,
    /// There is no such node.
    #[error("node {0} is not a member")]
    NotMember(u64),
    /// The change makes no sense. Nothing has changed.
    #[error("{0}")]
    Refused(String),
    /// Changes are made one after the other. Nothing has changed.
    #[error("another change of members is under way")]
    InProgress,
    /// Not done in time.
    #[error("{0}")]
    Unfinished(String),
    /// This process does not lead, or not any more. Nothing has changed.
    #[error("{0}")]
    Unavailable(String),
}
