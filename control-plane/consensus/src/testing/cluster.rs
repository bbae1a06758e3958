//! Nodes on simulated disks and a simulated network, under a clock that does not wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Ledger, SimDisk, SimNetwork};
use crate::{
    Consensus, ConsensusConfig, Leadership, NodeId, Peer, ProposeError, SnapshotPolicy, StartError,
    Timing,
};

/// A deadline that a healthy cluster meets.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// The nodes of one test.
pub(crate) struct Cluster {
    pub(crate) network: SimNetwork,
    pub(crate) disks: BTreeMap<u64, SimDisk>,
    pub(crate) nodes: BTreeMap<u64, Consensus<Ledger>>,
    pub(crate) founders: Vec<u64>,
    pub(crate) snapshots: SnapshotPolicy,
    /// What was acknowledged, and what may have been applied.
    pub(crate) acknowledged: BTreeSet<String>,
    pub(crate) doubtful: BTreeSet<String>,
    seed: u64,
    proposed: u64,
}

pub(crate) fn name(id: u64) -> String {
    format!("n{id}")
}

pub(crate) fn peer(id: u64) -> Peer {
    Peer {
        id: NodeId(id),
        address: name(id),
    }
}

impl Cluster {
    /// Nothing runs yet.
    pub(crate) fn new(founders: u64, seed: u64) -> Self {
        Self {
            network: SimNetwork::new(seed),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            founders: (1..=founders).collect(),
            snapshots: SnapshotPolicy::default(),
            acknowledged: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            seed: seed * 1_000,
            proposed: 0,
        }
    }

    /// All founders, with a leader.
    pub(crate) async fn formed(founders: u64, seed: u64) -> Self {
        let mut cluster = Self::new(founders, seed);
        for id in 1..=founders {
            cluster.start(id).await.unwrap();
        }
        cluster.leader().await;
        cluster
    }

    pub(crate) fn config(&mut self, id: u64) -> ConsensusConfig {
        self.seed += 1;
        ConsensusConfig {
            data_dir: PathBuf::from(name(id)),
            cluster: "test".to_owned(),
            node: NodeId(id),
            peers: self.founders.iter().map(|id| peer(*id)).collect(),
            timing: Timing::default(),
            snapshots: self.snapshots,
            seed: self.seed,
        }
    }

    pub(crate) async fn start(&mut self, id: u64) -> Result<(), StartError> {
        let config = self.config(id);
        self.start_with(config).await
    }

    pub(crate) async fn start_with(&mut self, config: ConsensusConfig) -> Result<(), StartError> {
        config.check()?;
        let id = config.node.0;
        let disk = self
            .disks
            .entry(id)
            .or_insert_with(|| SimDisk::new(config.seed));
        let link = self.network.link(&name(id));
        let node = Consensus::start_on(config, disk, Ledger::default(), link).await?;
        // As long as the node is there: its handle alone keeps it.
        let weak = Arc::downgrade(&node.inner);
        self.network.listen(
            &name(id),
            Arc::new(move |body| {
                let inner = weak.upgrade();
                Box::pin(async move {
                    match inner {
                        Some(inner) => Consensus { inner }.handle(body).await,
                        None => Err(crate::PeerError::Unreachable("gone".to_owned())),
                    }
                })
            }),
        );
        self.nodes.insert(id, node);
        Ok(())
    }

    /// Power off: nothing is flushed, nothing is said.
    pub(crate) fn kill(&mut self, id: u64) {
        self.network.kill(&name(id));
        self.disks[&id].kill();
        self.nodes.remove(&id);
    }

    /// Power off, and an empty disk.
    pub(crate) fn wipe(&mut self, id: u64) {
        self.kill(id);
        self.disks.remove(&id);
    }

    pub(crate) fn isolate(&self, id: u64) {
        let others: Vec<String> = self
            .nodes
            .keys()
            .filter(|other| **other != id)
            .map(|id| name(*id))
            .collect();
        self.network.isolate(&name(id), &others);
    }

    /// Waits for a node that calls itself leader.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_among(&self.nodes.keys().copied().collect::<Vec<_>>())
            .await
    }

    pub(crate) async fn leader_among(&self, ids: &[u64]) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let leads = |id: &&u64| {
                matches!(
                    *self.nodes[id].leadership().borrow(),
                    Leadership::Leader { .. }
                )
            };
            if let Some(id) = ids.iter().find(leads) {
                return *id;
            }
            assert!(
                Instant::now() < deadline,
                "no leader among {ids:?}: {:?}",
                self.describe()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn describe(&self) -> Vec<String> {
        let one = |(id, node): (&u64, &Consensus<Ledger>)| {
            let stopped = node.stopped().borrow().clone();
            format!(
                "{id}: {:?}, stopped: {stopped:?}, {:?}",
                node.leadership().borrow(),
                node.members()
            )
        };
        self.nodes.iter().map(one).collect()
    }

    /// Proposes a new command wherever there is a leader, until one is acknowledged.
    pub(crate) async fn propose(&mut self) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut next = self.nodes.keys().next().copied();
        loop {
            assert!(
                Instant::now() < deadline,
                "nothing is acknowledged: {:?}",
                self.describe()
            );
            self.proposed += 1;
            let command = format!("c{}", self.proposed);
            let id = next
                .filter(|id| self.nodes.contains_key(id))
                .unwrap_or(*self.nodes.keys().next().unwrap());
            let after = self
                .nodes
                .keys()
                .find(|other| **other > id)
                .or(self.nodes.keys().next())
                .copied();
            let patience = Instant::now() + Duration::from_secs(2);
            match self.nodes[&id]
                .propose(Bytes::from(command.clone()), patience)
                .await
            {
                Ok(applied) => {
                    self.acknowledged.insert(command);
                    return applied.index;
                }
                Err(error) => {
                    if error.is_indeterminate() {
                        self.doubtful.insert(command);
                    }
                    next = match error {
                        ProposeError::NotLeader {
                            leader: Some(leader),
                        } => Some(leader.id.0),
                        _ => after,
                    };
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Proposes many commands at once to every node, whether it leads or not.
    pub(crate) async fn propose_burst(&mut self, count: u64) {
        let patience = Instant::now() + Duration::from_secs(2);
        let mut proposals = Vec::new();
        for node in self.nodes.values() {
            for _ in 0..count {
                self.proposed += 1;
                let command = format!("c{}", self.proposed);
                let proposal = node.propose(Bytes::from(command.clone()), patience);
                proposals.push(async move { (command, proposal.await) });
            }
        }
        for (command, answer) in futures::future::join_all(proposals).await {
            match answer {
                Ok(_) => self.acknowledged.insert(command),
                Err(error) => error.is_indeterminate() && self.doubtful.insert(command),
            };
        }
    }

    pub(crate) async fn propose_many(&mut self, count: usize) {
        for _ in 0..count {
            self.propose().await;
        }
    }

    /// All nodes that run have applied the same: everything acknowledged once, what is doubtful at most once, in one
    /// order, and nothing else.
    pub(crate) async fn check(&self) {
        let mut ledgers = Vec::new();
        for (id, node) in &self.nodes {
            let index = node.read_barrier(soon()).await;
            index.unwrap_or_else(|error| panic!("node {id}: {error}: {:?}", self.describe()));
            ledgers.push(node.with_machine(Ledger::clone));
        }
        let longest = ledgers
            .iter()
            .max_by_key(|ledger| ledger.entries.len())
            .unwrap();
        for ledger in &ledgers {
            assert_eq!(
                ledger.entries[..],
                longest.entries[..ledger.entries.len()],
                "one order on all nodes"
            );
            let commands = ledger.commands();
            let once: BTreeSet<&str> = commands.iter().copied().collect();
            assert_eq!(once.len(), commands.len(), "nothing twice");
            for command in &self.acknowledged {
                assert!(
                    once.contains(command.as_str()),
                    "{command} was acknowledged and is lost"
                );
            }
            for command in once {
                let is_ours =
                    self.acknowledged.contains(command) || self.doubtful.contains(command);
                assert!(is_ours, "{command} was refused and applied all the same");
            }
        }
    }
}
