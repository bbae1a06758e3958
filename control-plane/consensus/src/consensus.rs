//! The handle of a node: propose, read, watch, answer other nodes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    Config,
    error::{CheckIsLeaderError, RaftError},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, watch},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use crate::{
    ConsensusConfig, DiskId, Leadership, Machine, Member, NodeId, Peer, PeerError, PeerRequestKind,
    ProposeError, ReadError, SharedLink, StartError, StopReason,
    caps::{APPEND_ENTRIES_MAX, RETRY, SNAPSHOT_CHUNK_BYTES},
    form::{Newcomer, founders},
    leadership::Watcher,
    local::{Local, Target},
    network::Network,
    propose::Proposals,
    serve::Server,
    store::{Disk, Identity, LogStore, Shared, StateMachine},
    types::{Node, Raft},
    wire,
};

/// A command that was committed and applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its number: commands are counted from 1, without gaps, the same on all nodes.
    pub index: u64,
    /// What the machine answered.
    pub response: Vec<u8>,
}

/// One node of a replicated log, with its machine. Clones are handles of the same node; when the last one is dropped,
/// the node stops as if it were killed.
pub struct Consensus<M: Machine> {
    pub(crate) inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Consensus<M> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<M: Machine> std::fmt::Debug for Consensus<M> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Consensus({})", self.node())
    }
}

pub(crate) struct Inner<M: Machine> {
    pub(crate) local: Arc<Local>,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared<M>>,
    pub(crate) server: Server<M>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) change: Arc<Semaphore>,
    node: NodeId,
    proposals: Proposals,
    newcomer: AbortHandle,
}

impl<M: Machine> Drop for Inner<M> {
    fn drop(&mut self) {
        self.newcomer.abort();
        // The watcher shuts the log's task down and closes the disk.
        self.local.stop(StopReason::Shutdown);
    }
}

/// openraft draws its timeout once, when it starts, from a range; a range of one value makes it ours. A follower waits
/// for a lease and then for the timeout, each that long.
fn raft_config(config: &ConsensusConfig, random: &mut StdRng) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (from, to) = (
        millis(config.timing.election_min),
        millis(config.timing.election_max),
    );
    let timeout = random.random_range(from..to) / 2;
    Config {
        cluster_name: config.cluster.clone(),
        heartbeat_interval: millis(config.timing.heartbeat),
        election_timeout_min: timeout,
        election_timeout_max: timeout + 1,
        // A leader shows no sign of life to a node while it waits for an answer to a piece: that must end before the
        // node has itself elected. A piece that takes longer is installed all the same.
        install_snapshot_timeout: from,
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(config.snapshots.entries),
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
        // A node that was away for a moment is brought up to date by entries, without a snapshot.
        max_in_snapshot_log_to_keep: config.snapshots.entries / 4,
        replication_lag_threshold: config.snapshots.entries.saturating_mul(2),
        ..Config::default()
    }
}

impl<M: Machine> Consensus<M> {
    /// Starts a node: opens its disk or makes a new one, and takes part in the cluster that it belongs to, or helps to
    /// form it. Returns before there is a leader.
    pub async fn start(
        config: ConsensusConfig,
        machine: M,
        link: SharedLink,
    ) -> Result<Self, StartError> {
        config.check()?;
        let mut random = StdRng::seed_from_u64(config.seed);
        let fresh = fresh_identity(&config, &mut random);
        let (disk, identity) = Disk::open(&config.data_dir, &fresh)?;
        Self::start_over(config, disk, identity, machine, link, random).await
    }

    /// As [`start`](Self::start), over a disk that is no file.
    #[cfg(any(test, feature = "testing"))]
    pub async fn start_on(
        config: ConsensusConfig,
        disk: &crate::testing::SimDisk,
        machine: M,
        link: SharedLink,
    ) -> Result<Self, StartError> {
        config.check()?;
        let mut random = StdRng::seed_from_u64(config.seed);
        let (disk, identity) = Disk::over(disk.open(), &fresh_identity(&config, &mut random))?;
        Self::start_over(config, disk, identity, machine, link, random).await
    }

    async fn start_over(
        config: ConsensusConfig,
        disk: Disk,
        identity: Identity,
        machine: M,
        link: SharedLink,
        mut random: StdRng,
    ) -> Result<Self, StartError> {
        let dir = config.data_dir.display().to_string();
        let failed = |cause: String| StartError::Disk {
            dir: dir.clone(),
            cause,
        };
        let disk = Arc::new(disk);
        let node = config.node.0;
        let machine = StateMachine::open(machine, Arc::clone(&disk), node)
            .map_err(|error| failed(error.to_string()))?;
        let shared = machine.shared();
        let raft_config = Arc::new(raft_config(&config, &mut random));
        let local = Arc::new(Local::new(
            identity,
            Arc::clone(&disk),
            link,
            &config.peers,
            random,
        ));
        let network = Network::new(Arc::clone(&local));
        let raft = Raft::new(node, raft_config, network, LogStore::new(disk), machine).await;
        let raft = raft.map_err(|error| failed(error.to_string()))?;
        Ok(Self::assemble(&config, local, raft, shared))
    }

    fn assemble(
        config: &ConsensusConfig,
        local: Arc<Local>,
        raft: Raft,
        shared: Arc<Shared<M>>,
    ) -> Self {
        let (leadership, watched) = watch::channel(Leadership::NoLeader);
        let change = Arc::new(Semaphore::new(1));
        let silence_max = config.timing.election_max;
        let watcher = Watcher {
            local: Arc::clone(&local),
            raft: raft.clone(),
            shared: Arc::clone(&shared),
            leadership,
            change: Arc::clone(&change),
            silence_max,
            snapshot_bytes: config.snapshots.bytes,
        };
        tokio::spawn(watcher.run());
        let newcomer = Newcomer {
            local: Arc::clone(&local),
            raft: raft.clone(),
            peers: config.peers.clone(),
        };
        let server = Server {
            local: Arc::clone(&local),
            raft: raft.clone(),
            shared: Arc::clone(&shared),
            founders: founders(config.node.0, &config.peers),
        };
        let proposals = Proposals::start(Arc::clone(&local), raft.clone(), silence_max);
        let inner = Inner {
            local,
            raft,
            shared,
            server,
            leadership: watched,
            change,
            node: config.node,
            proposals,
            newcomer: tokio::spawn(newcomer.run()).abort_handle(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// This node's number.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The name of this node's disk.
    pub fn disk(&self) -> DiskId {
        self.inner.local.identity().disk
    }

    /// Appends a command to the log, waits until a quorum has it on disk and this node's machine has applied it. Only
    /// the leader can. Commands that come while another is being written go to the disks together. An error says whether the command may be applied all the same
    /// ([`is_indeterminate`](ProposeError::is_indeterminate)); so does dropping the future leave it open.
    pub async fn propose(
        &self,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        self.inner.proposals.propose(command, deadline).await
    }

    /// Waits until whatever was acknowledged anywhere before this call is in this node's machine, and returns the number
    /// of the last command in it: a read of the machine after it is linearizable. Any node can; a follower asks the leader.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<u64, ReadError> {
        let inner = &self.inner;
        let wait = async {
            let index = loop {
                if let Some(reason) = inner.local.stop_reason() {
                    return Err(ReadError::Stopped(reason));
                }
                if let Some(index) = inner.read_index().await {
                    break index;
                }
                tokio::time::sleep(inner.local.pause() / 4).await;
            };
            let mut applied = inner.shared.applied_log();
            let mut stopped = inner.local.stopped();
            tokio::select! {
                reached = applied.wait_for(|applied| *applied >= index) => {
                    drop(reached.expect("the machine outlives its handle"));
                    Ok(*inner.shared.applied().borrow())
                }
                reason = stopped.wait_for(Option::is_some) => {
                    let reason = reason.ok().and_then(|reason| reason.clone());
                    Err(ReadError::Stopped(reason.unwrap_or(StopReason::Shutdown)))
                }
            }
        };
        timeout_at(deadline, wait)
            .await
            .unwrap_or(Err(ReadError::NoQuorum))
    }

    /// Looks at the machine, which stands still meanwhile: be short.
    pub fn with_machine<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        self.inner.shared.with(look)
    }

    /// The number of the last command that the machine has applied.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.shared.applied()
    }

    /// Who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Why the node has stopped, once it has. A node that has stopped does not start by itself again.
    pub fn stopped(&self) -> watch::Receiver<Option<StopReason>> {
        self.inner.local.stopped()
    }

    /// The members, as far as this node knows.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let member = |(id, node): (&u64, &Node)| Member {
            peer: Peer {
                id: NodeId(*id),
                address: self.inner.local.address(*id, &node.address),
            },
            disk: node.disk,
            is_voter: voters.contains(id),
        };
        membership.nodes().map(member).collect()
    }

    /// Answers a request of another node: the server side of [`PeerLink`](crate::PeerLink).
    pub async fn handle(&self, request: Bytes) -> Result<Bytes, PeerError> {
        self.inner.server.handle(&request).await
    }

    /// Stops the node, and returns when its disk is closed.
    pub async fn shutdown(&self) {
        self.inner.newcomer.abort();
        self.inner.local.stop(StopReason::Shutdown);
        if self.inner.raft.shutdown().await.is_err() {
            tracing::warn!("the log's task has panicked");
        }
        self.inner.local.disk().close();
    }
}

impl<M: Machine> Inner<M> {
    /// How far a machine must have applied the log to be read, if the leader confirms that it still is.
    async fn read_index(&self) -> Option<u64> {
        let leader = match self.raft.get_read_log_id().await {
            Ok((index, _)) => return Some(index.map_or(0, |id| id.index)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(leader))) => leader,
            Err(_) => return None,
        };
        let (id, node) = leader.leader_id.zip(leader.leader_node)?;
        if id == self.node.0 {
            return None;
        }
        let address = self.local.address(id, &node.address);
        let target = Target {
            id,
            address,
            disk: Some(node.disk),
        };
        let answer = self
            .local
            .call(PeerRequestKind::ReadIndex, &target, &[], RETRY * 4)
            .await
            .ok()?;
        wire::decode(&answer).ok()
    }
}

fn fresh_identity(config: &ConsensusConfig, random: &mut StdRng) -> Identity {
    let (cluster, node) = (config.cluster.clone(), config.node.0);
    Identity {
        cluster,
        node,
        disk: DiskId(random.random()),
        incarnation: None,
    }
}
