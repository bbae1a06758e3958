//! Changes of members: one at a time, each through the leader.

use openraft::{
    ChangeMembers,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    ChangeError, Consensus, Machine, NodeId, Peer, PeerRequestKind,
    caps::RETRY,
    consensus::Inner,
    local::Target,
    types::{Metrics, Node},
    wire::{self, Hello, HelloReply},
};

type Changed<T> = Result<T, RaftError<u64, ClientWriteError<u64, Node>>>;

impl<M: Machine> Consensus<M> {
    /// Lets a running node join: first it learns the log, then it votes. Its id must never have been used, its disk
    /// belong to no other cluster. Repeating it goes on where it stopped, and tells the cluster a new address.
    pub async fn add_node(&self, peer: Peer, deadline: Instant) -> Result<(), ChangeError> {
        let inner = &self.inner;
        let Ok(_permit) = inner.change.try_acquire() else {
            return Err(ChangeError::InProgress);
        };
        inner.must_lead()?;
        let node = inner.ask_to_join(&peer, deadline).await?;
        let known = inner.member(peer.id.0);
        if known.as_ref() != Some(&node) {
            let nodes = [(peer.id.0, node)].into();
            let change = if known.is_some() {
                ChangeMembers::SetNodes(nodes)
            } else {
                ChangeMembers::AddNodes(nodes)
            };
            inner
                .change(change, deadline, "the node is not a member yet")
                .await?;
        }
        inner.catch_up(peer.id, deadline).await?;
        let vote = ChangeMembers::AddVoterIds([peer.id.0].into());
        inner
            .change(
                vote,
                deadline,
                "the node has the log, but does not vote yet",
            )
            .await
    }

    /// Removes a node, dead or alive, this one included. It may never return under its id.
    pub async fn remove_node(&self, id: NodeId, deadline: Instant) -> Result<(), ChangeError> {
        let inner = &self.inner;
        let Ok(_permit) = inner.change.try_acquire() else {
            return Err(ChangeError::InProgress);
        };
        inner.must_lead()?;
        if inner.member(id.0).is_none() {
            if inner.shared.roster().is_removed(id.0) {
                return Ok(());
            }
            return Err(ChangeError::NotMember(id));
        }
        let voters: Vec<u64> = inner
            .raft
            .metrics()
            .borrow()
            .membership_config
            .membership()
            .voter_ids()
            .collect();
        if voters == [id.0] {
            return Err(ChangeError::Refused(format!(
                "node {id} is the last one that votes: it cannot be removed"
            )));
        }
        let ids = [id.0].into();
        let change = if voters.contains(&id.0) {
            ChangeMembers::RemoveVoters(ids)
        } else {
            ChangeMembers::RemoveNodes(ids)
        };
        inner
            .change(change, deadline, "the node is still a member")
            .await
    }
}

impl<M: Machine> Inner<M> {
    fn member(&self, id: u64) -> Option<Node> {
        self.raft
            .metrics()
            .borrow()
            .membership_config
            .membership()
            .get_node(&id)
            .cloned()
    }

    fn must_lead(&self) -> Result<(), ChangeError> {
        if let Some(reason) = self.local.stop_reason() {
            return Err(ChangeError::Stopped(reason));
        }
        match &*self.leadership.borrow() {
            crate::Leadership::Leader { .. } => Ok(()),
            crate::Leadership::Follower { leader } => Err(ChangeError::NotLeader {
                leader: Some(leader.clone()),
            }),
            crate::Leadership::NoLeader => Err(ChangeError::NotLeader { leader: None }),
        }
    }

    /// Asks a node who it is, and whether it may join.
    async fn ask_to_join(&self, peer: &Peer, deadline: Instant) -> Result<Node, ChangeError> {
        let id = peer.id;
        let target = Target {
            id: id.0,
            address: peer.address.clone(),
            disk: None,
        };
        let hello = wire::encode(&Hello {
            founders: Vec::new(),
        });
        let reply: HelloReply = loop {
            let left = deadline
                .saturating_duration_since(Instant::now())
                .min(RETRY * 4);
            if left.is_zero() {
                return Err(ChangeError::Timeout(format!(
                    "node {id} does not answer at {}",
                    peer.address
                )));
            }
            match self
                .local
                .call(PeerRequestKind::Hello, &target, &hello, left)
                .await
            {
                Ok(answer) => {
                    let malformed =
                        |error: wire::Damaged| ChangeError::Refused(format!("node {id}: {error}"));
                    break wire::decode(&answer).map_err(malformed)?;
                }
                Err(crate::local::CallError::Refused(refusal)) => {
                    return Err(ChangeError::Refused(format!(
                        "{} does not join: {refusal}",
                        peer.address
                    )));
                }
                Err(_) => tokio::time::sleep(self.local.pause()).await,
            }
        };
        let me = self.local.identity();
        let roster = self.shared.roster();
        if roster.is_removed(id.0) || roster.disk(id.0).is_some_and(|disk| disk != reply.disk) {
            let why = format!(
                "node {id} was a member with another disk or was removed: ids are never used again"
            );
            return Err(ChangeError::Refused(why));
        }
        if reply.incarnation.is_some() && reply.incarnation != me.incarnation {
            return Err(ChangeError::Refused(format!(
                "node {id} belongs to another cluster"
            )));
        }
        if reply.incarnation.is_none() && !reply.founders.is_empty() && roster.disk(id.0).is_none()
        {
            let why = format!(
                "node {id} was started to form a cluster: start it with the nodes of this one as its peers, without \
                 itself"
            );
            return Err(ChangeError::Refused(why));
        }
        Ok(Node {
            address: peer.address.clone(),
            disk: reply.disk,
        })
    }

    /// Waits until a node has all of the log that is there now.
    async fn catch_up(&self, id: NodeId, deadline: Instant) -> Result<(), ChangeError> {
        let mut metrics = self.raft.metrics();
        let goal = metrics.borrow().last_log_index;
        let reached = |metrics: &Metrics| match &metrics.replication {
            // No longer the leader: the change that follows says so.
            None => true,
            Some(progress) => progress
                .get(&id.0)
                .is_some_and(|matched| matched.map(|log_id| log_id.index) >= goal),
        };
        match timeout_at(deadline, metrics.wait_for(reached)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ChangeError::Timeout(format!(
                "node {id} has not caught up with the log"
            ))),
        }
    }

    async fn change(
        &self,
        change: ChangeMembers<u64, Node>,
        deadline: Instant,
        unfinished: &str,
    ) -> Result<(), ChangeError> {
        let changed: Changed<_> =
            match timeout_at(deadline, self.raft.change_membership(change, false)).await {
                Ok(changed) => changed,
                Err(_) => return Err(ChangeError::Timeout(unfinished.to_owned())),
            };
        match changed {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(leader))) => {
                Err(ChangeError::NotLeader {
                    leader: self.local.leader_of(leader),
                })
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                Err(match error {
                    ChangeMembershipError::InProgress(_) => ChangeError::InProgress,
                    error => ChangeError::Refused(error.to_string()),
                })
            }
            Err(RaftError::Fatal(error)) => {
                Err(ChangeError::Stopped(self.local.reason(&error.to_string())))
            }
        }
    }
}
