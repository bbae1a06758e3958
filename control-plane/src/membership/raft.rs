//! The members of the replicated log.

use consensus::{ChangeError, Consensus, Leadership, Machine, Member, NodeId, Peer};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use super::{ControlNode, Membership, MembershipError};
use crate::caps::MEMBERSHIP_PATIENCE;

/// The members, as a node of the log knows them.
#[derive(Clone)]
pub struct RaftMembership<M: Machine> {
    consensus: Consensus<M>,
}

impl<M: Machine> RaftMembership<M> {
    /// On a node that has been started.
    #[must_use]
    pub fn new(consensus: Consensus<M>) -> RaftMembership<M> {
        RaftMembership { consensus }
    }

    fn leader(&self) -> Option<NodeId> {
        match &*self.consensus.leadership().borrow() {
            Leadership::Leader { .. } => Some(self.consensus.node()),
            Leadership::Follower { leader } => Some(leader.id),
            Leadership::NoLeader => None,
        }
    }
}

impl<M: Machine> Membership for RaftMembership<M> {
    fn nodes(&self) -> Vec<ControlNode> {
        let leader = self.leader();
        let node = |member: Member| ControlNode {
            id: member.peer.id.0,
            leader: leader == Some(member.peer.id),
            address: member.peer.address,
            voter: member.is_voter,
        };
        let mut nodes: Vec<ControlNode> = self.consensus.members().into_iter().map(node).collect();
        nodes.sort_by_key(|node| node.id);
        nodes
    }

    fn add(&self, id: u64, address: String) -> BoxFuture<'static, Result<(), MembershipError>> {
        let consensus = self.consensus.clone();
        let id = NodeId(id);
        async move {
            let deadline = Instant::now() + MEMBERSHIP_PATIENCE;
            let added = consensus.add_node(Peer { id, address }, deadline).await;
            added.map_err(membership_error)
        }
        .boxed()
    }

    fn remove(&self, id: u64) -> BoxFuture<'static, Result<(), MembershipError>> {
        let consensus = self.consensus.clone();
        async move {
            let deadline = Instant::now() + MEMBERSHIP_PATIENCE;
            let removed = consensus.remove_node(NodeId(id), deadline).await;
            removed.map_err(membership_error)
        }
        .boxed()
    }
}

fn membership_error(error: ChangeError) -> MembershipError {
    match error {
        ChangeError::NotMember(id) => MembershipError::NotMember(id.0),
        ChangeError::Refused(why) => MembershipError::Refused(why),
        ChangeError::InProgress => MembershipError::InProgress,
        ChangeError::Timeout(what) => MembershipError::Unfinished(what),
        ChangeError::NotLeader { .. } | ChangeError::Stopped(_) => {
            MembershipError::Unavailable(error.to_string())
        }
    }
}
