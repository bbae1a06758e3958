//! Who leads, as far as this node knows, and the task that watches over the node.

use std::{sync::Arc, time::Duration};

use openraft::{ChangeMembers, ServerState, error::Fatal};
use tokio::sync::{Semaphore, watch};

use crate::{
    Machine, NodeId, Peer, StopReason,
    local::Local,
    store::Shared,
    types::{Metrics, Raft},
};

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// This node does; its machine has applied everything that was committed before it was elected. The term grows with
    /// every election of this node, but two nodes may be elected in the same term, one after the other.
    Leader {
        /// Its term.
        term: u64,
    },
    /// Another node does.
    Follower {
        /// That node.
        leader: Peer,
    },
    /// No node that this one knows of: nobody is elected, or this node is and has not caught up with its own log, or
    /// has heard from no quorum for too long.
    NoLeader,
}

/// What is known of the leader from openraft's metrics.
pub(crate) fn leadership(metrics: &Metrics, local: &Local, silence_max: Duration) -> Leadership {
    let membership = metrics.membership_config.membership();
    let Some(leader) = metrics.current_leader else {
        return Leadership::NoLeader;
    };
    if leader != metrics.id {
        let Some(node) = membership.get_node(&leader) else {
            return Leadership::NoLeader;
        };
        let address = local.address(leader, &node.address);
        return Leadership::Follower {
            leader: Peer {
                id: NodeId(leader),
                address,
            },
        };
    }
    if leads(metrics, silence_max) {
        Leadership::Leader {
            term: metrics.current_term,
        }
    } else {
        Leadership::NoLeader
    }
}

/// Whether this node may call itself leader.
fn leads(metrics: &Metrics, silence_max: Duration) -> bool {
    // The first entry of its own term stands behind all that earlier ones committed.
    let last = metrics.last_applied;
    let caught_up = last.is_some_and(|applied| applied.leader_id == metrics.vote.leader_id);
    metrics.state == ServerState::Leader && caught_up && !is_cut_off(metrics, silence_max)
}

/// Whether a leader has heard from no quorum for too long.
pub(crate) fn is_cut_off(metrics: &Metrics, silence_max: Duration) -> bool {
    let is_alone = metrics.membership_config.membership().voter_ids().count() <= 1;
    metrics.state == ServerState::Leader
        && !is_alone
        && metrics
            .millis_since_quorum_ack
            .is_some_and(|silence| u128::from(silence) > silence_max.as_millis())
}

/// Watches over a node until it stops.
pub(crate) struct Watcher<M> {
    pub(crate) local: Arc<Local>,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared<M>>,
    pub(crate) leadership: watch::Sender<Leadership>,
    /// One change of members at a time.
    pub(crate) change: Arc<Semaphore>,
    pub(crate) silence_max: Duration,
    pub(crate) snapshot_bytes: u64,
}

impl<M: Machine> Watcher<M> {
    pub(crate) async fn run(self) {
        let mut metrics = self.raft.metrics();
        let mut stopped = self.local.stopped();
        let mut asked_for_snapshot = false;
        while stopped.borrow_and_update().is_none() {
            let now = metrics.borrow_and_update().clone();
            self.look(&now, &mut asked_for_snapshot).await;
            tokio::select! {
                // openraft reports at every tick, one and a half heartbeats apart, whatever happens.
                changed = metrics.changed() => {
                    if changed.is_err() {
                        self.local.stop(StopReason::Storage("the log's task has ended".to_owned()));
                    }
                }
                _ = stopped.changed() => {}
            }
        }
        self.leadership.send_replace(Leadership::NoLeader);
        // Nothing is served any more: other nodes must not take this one for a working one.
        if self.raft.shutdown().await.is_err() {
            tracing::warn!("the log's task has panicked");
        }
        self.local.disk().close();
    }

    async fn look(&self, metrics: &Metrics, asked_for_snapshot: &mut bool) {
        match &metrics.running_state {
            Ok(()) => {}
            Err(Fatal::Stopped) => return self.local.stop(StopReason::Shutdown),
            Err(error) => return self.local.stop(StopReason::Storage(error.to_string())),
        }
        let now = leadership(metrics, &self.local, self.silence_max);
        self.leadership.send_if_modified(|last| {
            let changed = *last != now;
            if changed {
                tracing::info!(node = metrics.id, leadership = ?now, "leadership changed");
                *last = now;
            }
            changed
        });
        if metrics.state != ServerState::Leader && self.shared.roster().is_removed(metrics.id) {
            return self.local.stop(StopReason::Removed(NodeId(metrics.id)));
        }
        let is_due = self.shared.bytes_since_snapshot() >= self.snapshot_bytes;
        if is_due && !*asked_for_snapshot && self.raft.trigger().snapshot().await.is_err() {
            tracing::debug!("no snapshot: the log's task has ended");
        }
        *asked_for_snapshot = is_due;
        self.finish_change(metrics);
    }

    /// A leader that died in the middle of a change of members left two sets of voters behind: ends that.
    fn finish_change(&self, metrics: &Metrics) {
        let is_joint = metrics
            .membership_config
            .membership()
            .get_joint_config()
            .len()
            > 1;
        if !is_joint || metrics.state != ServerState::Leader {
            return;
        }
        let Ok(permit) = Arc::clone(&self.change).try_acquire_owned() else {
            return;
        };
        let (raft, deadline) = (self.raft.clone(), self.silence_max * 2);
        let pause = self.local.pause();
        tokio::spawn(async move {
            let change = raft.change_membership(ChangeMembers::AddVoterIds([].into()), false);
            if !matches!(tokio::time::timeout(deadline, change).await, Ok(Ok(_))) {
                tracing::info!("a change of members is not finished yet");
                // Every try is reported as a change, and would at once lead to the next.
                tokio::time::sleep(pause).await;
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::{CommittedLeaderId, LogId};

    use super::*;
    use crate::types::{Membership, Node, StoredMembership, Vote};

    fn elected(voters: u64) -> Metrics {
        let ids: BTreeSet<u64> = (1..=voters).collect();
        let nodes: BTreeMap<u64, Node> = ids.iter().map(|id| (*id, Node::default())).collect();
        let membership = StoredMembership::new(None, Membership::new(vec![ids], nodes));
        Metrics {
            current_term: 5,
            vote: Vote::new_committed(5, 1),
            state: ServerState::Leader,
            current_leader: Some(1),
            last_applied: Some(LogId::new(CommittedLeaderId::new(5, 1), 100)),
            millis_since_quorum_ack: Some(100),
            membership_config: Arc::new(membership),
            ..Metrics::new_initial(1)
        }
    }

    #[test]
    fn a_leader_leads_when_it_has_caught_up_and_is_heard() {
        let silence_max = Duration::from_secs(1);
        assert!(leads(&elected(3), silence_max));
        let earlier = Some(LogId::new(CommittedLeaderId::new(4, 1), 99));
        for last_applied in [None, earlier] {
            assert!(!leads(
                &Metrics {
                    last_applied,
                    ..elected(3)
                },
                silence_max
            ));
        }
        let millis_since_quorum_ack = Some(1_001);
        assert!(!leads(
            &Metrics {
                millis_since_quorum_ack,
                ..elected(3)
            },
            silence_max
        ));
        assert!(leads(
            &Metrics {
                millis_since_quorum_ack,
                ..elected(1)
            },
            silence_max
        ));
        assert!(!leads(
            &Metrics {
                state: ServerState::Learner,
                ..elected(3)
            },
            silence_max
        ));
    }
}
