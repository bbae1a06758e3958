//! This node among the others: who it is, how it calls them, and why it stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use openraft::error::ForwardToLeader;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use crate::{
    DiskId, NodeId, Peer, PeerError, PeerRequest, PeerRequestKind, SharedLink, StopReason,
    caps::RETRY,
    store::{Disk, DiskError, Identity},
    types::Node,
    wire::{Damaged, Envelope, Refusal, RefusalKind, Reply},
};

/// This node among the others.
pub(crate) struct Local {
    identity: Mutex<Identity>,
    disk: Arc<Disk>,
    link: SharedLink,
    /// Where the nodes of the configuration listen now.
    addresses: BTreeMap<u64, String>,
    stopped: watch::Sender<Option<StopReason>>,
    random: Mutex<StdRng>,
    /// Refusals that were logged already.
    told: Mutex<BTreeSet<(u64, u8)>>,
}

/// A node as it is called: its id, its address, and its disk if that is known.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) disk: Option<DiskId>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

impl Local {
    pub(crate) fn new(
        identity: Identity,
        disk: Arc<Disk>,
        link: SharedLink,
        peers: &[Peer],
        random: StdRng,
    ) -> Self {
        Self {
            identity: Mutex::new(identity),
            disk,
            link,
            addresses: peers
                .iter()
                .map(|peer| (peer.id.0, peer.address.clone()))
                .collect(),
            stopped: watch::Sender::new(None),
            random: Mutex::new(random),
            told: Mutex::default(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Takes part in the cluster that was formed as `incarnation`, for ever.
    pub(crate) fn join(&self, incarnation: u128) -> Result<(), DiskError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if identity.incarnation.is_none() {
            let joined = Identity {
                incarnation: Some(incarnation),
                ..identity.clone()
            };
            self.disk.save_identity(&joined)?;
            *identity = joined;
        }
        Ok(())
    }

    pub(crate) fn draw(&self) -> u128 {
        self.random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random()
    }

    /// A time to wait before trying again: never the same on all nodes.
    pub(crate) fn pause(&self) -> Duration {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        RETRY.mul_f64(random.random_range(0.8..1.2))
    }

    /// Such pauses without end, for a task of its own.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + 'static {
        let seed = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random();
        let mut random = StdRng::seed_from_u64(seed);
        std::iter::from_fn(move || Some(RETRY.mul_f64(random.random_range(0.8..1.2))))
    }

    /// The address of a node: the configured one, else the one that the cluster remembers.
    pub(crate) fn address(&self, id: u64, remembered: &str) -> String {
        self.addresses
            .get(&id)
            .map_or(remembered, String::as_str)
            .to_owned()
    }

    pub(crate) fn stopped(&self) -> watch::Receiver<Option<StopReason>> {
        self.stopped.subscribe()
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.stopped.borrow().clone()
    }

    /// Says why this node stops. The first reason counts, and is logged.
    pub(crate) fn stop(&self, reason: StopReason) {
        self.stopped.send_if_modified(|stopped| {
            if stopped.is_some() {
                return false;
            }
            if reason != StopReason::Shutdown {
                tracing::error!("{reason}");
            }
            *stopped = Some(reason);
            true
        });
    }

    /// Why the log's task does not answer.
    pub(crate) fn reason(&self, error: &str) -> StopReason {
        self.stop(StopReason::Storage(error.to_owned()));
        self.stop_reason().expect("there is one now")
    }

    /// The leader that openraft points at, if it is another node.
    pub(crate) fn leader_of(&self, forward: ForwardToLeader<u64, Node>) -> Option<Peer> {
        let (id, node) = forward.leader_id.zip(forward.leader_node)?;
        let address = self.address(id, &node.address);
        (id != self.identity().node).then_some(Peer {
            id: NodeId(id),
            address,
        })
    }

    pub(crate) fn wrong_disk(&self) -> StopReason {
        let Identity { node, cluster, .. } = self.identity();
        StopReason::WrongDisk {
            node: NodeId(node),
            cluster,
        }
    }

    /// Calls another node and waits for its answer.
    pub(crate) async fn call(
        &self,
        kind: PeerRequestKind,
        target: &Target,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let identity = self.identity();
        let envelope = Envelope {
            kind,
            cluster: identity.cluster,
            incarnation: identity.incarnation,
            from: identity.node,
            from_disk: identity.disk,
            to: target.id,
            to_disk: target.disk,
            body,
        };
        let request = PeerRequest {
            kind,
            body: Bytes::from(envelope.write()),
            timeout,
        };
        let peer = Peer {
            id: NodeId(target.id),
            address: target.address.clone(),
        };
        let answer = tokio::time::timeout(timeout, self.link.call(&peer, request)).await;
        let answer = answer.map_err(|_| PeerError::Timeout)??;
        match Reply::read(&answer)? {
            Reply::Body(body) => Ok(body),
            Reply::Refused(refusal) => {
                self.heed(target.id, &refusal);
                Err(refusal.into())
            }
        }
    }

    /// What a refusal says of this node.
    fn heed(&self, by: u64, refusal: &Refusal) {
        match refusal.kind {
            RefusalKind::SenderDisk => self.stop(self.wrong_disk()),
            RefusalKind::SenderRemoved => {
                self.stop(StopReason::Removed(NodeId(self.identity().node)))
            }
            RefusalKind::Unable => {}
            RefusalKind::WrongAddress | RefusalKind::OtherCluster | RefusalKind::ReceiverDisk => {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.insert((by, refusal.kind as u8)) {
                    tracing::warn!(node = by, "refused: {refusal}");
                }
            }
        }
    }
}
