//! How a new cluster is formed, and how a new disk finds out that it is in the wrong place.
//!
//! A node that takes part in no cluster yet asks the configured nodes who they are. The one with the lowest id, the
//! founder, needs an answer from every other: none may belong to a cluster, and all must want to form the same one.
//! Then it draws the cluster's incarnation, writes that to its disk, and only then makes the first membership, with
//! the disks that answered. The others take over the incarnation with the first vote or entry, before they act on it.
//! So two attempts with different disks never mix: whoever took part in one refuses the other.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;

use crate::{
    NodeId, Peer, PeerRequestKind, StopReason,
    caps::RETRY,
    local::{Local, Target},
    store::Identity,
    types::{Node, Raft},
    wire::{self, Hello, HelloReply},
};

/// A node without a cluster, and the nodes that it knows of.
pub(crate) struct Newcomer {
    pub(crate) local: Arc<Local>,
    pub(crate) raft: Raft,
    pub(crate) peers: Vec<Peer>,
}

/// The ids that form a cluster: those of the configuration if this node is among them.
pub(crate) fn founders(node: u64, peers: &[Peer]) -> Vec<u64> {
    let mut ids: Vec<u64> = peers.iter().map(|peer| peer.id.0).collect();
    ids.sort_unstable();
    if ids.contains(&node) { ids } else { Vec::new() }
}

impl Newcomer {
    /// Runs until this node is a member of a cluster, or cannot be.
    pub(crate) async fn run(self) {
        while !self.is_member() && self.local.stop_reason().is_none() {
            let replies = self.ask_all().await;
            if let Err(reason) = self.go_on(&replies).await {
                return self.local.stop(reason);
            }
            tokio::time::sleep(self.local.pause()).await;
        }
    }

    fn is_member(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        membership.get_node(&metrics.id).is_some()
    }

    async fn go_on(&self, replies: &BTreeMap<u64, HelloReply>) -> Result<(), StopReason> {
        self.check_self(replies)?;
        // Whoever has a log or gave a vote forms nothing any more.
        if self.raft.is_initialized().await.unwrap_or(true) {
            return Ok(());
        }
        match self.consider(replies)? {
            Some(members) => self.form(members).await.map_err(StopReason::Storage),
            None => Ok(()),
        }
    }

    /// What the others know of this node.
    fn check_self(&self, replies: &BTreeMap<u64, HelloReply>) -> Result<(), StopReason> {
        let me = self.local.identity();
        if replies
            .values()
            .any(|reply| reply.recorded.is_some_and(|disk| disk != me.disk))
        {
            return Err(self.local.wrong_disk());
        }
        let is_ours = |reply: &HelloReply| reply.incarnation == me.incarnation;
        if replies
            .values()
            .any(|reply| reply.removed && is_ours(reply))
        {
            return Err(StopReason::Removed(NodeId(me.node)));
        }
        Ok(())
    }

    async fn ask_all(&self) -> BTreeMap<u64, HelloReply> {
        let me = self.local.identity().node;
        let hello = wire::encode(&Hello {
            founders: founders(me, &self.peers),
        });
        let asked = self
            .peers
            .iter()
            .filter(|peer| peer.id.0 != me)
            .map(|peer| {
                let hello = &hello;
                async move {
                    let target = Target {
                        id: peer.id.0,
                        address: peer.address.clone(),
                        disk: None,
                    };
                    let answer = self
                        .local
                        .call(PeerRequestKind::Hello, &target, hello, RETRY * 4)
                        .await
                        .ok()?;
                    Some((peer.id.0, wire::decode(&answer).ok()?))
                }
            });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The members to form a cluster with, if this node is to form one and all are there.
    fn consider(
        &self,
        replies: &BTreeMap<u64, HelloReply>,
    ) -> Result<Option<BTreeMap<u64, Node>>, StopReason> {
        let me = self.local.identity();
        let founders = founders(me.node, &self.peers);
        if founders.first() != Some(&me.node) {
            return Ok(None);
        }
        for (id, reply) in replies {
            if reply.incarnation.is_some() && reply.incarnation != me.incarnation {
                let why = format!(
                    "node {id} already belongs to a cluster `{}`, without node {}",
                    me.cluster, me.node
                );
                return Err(StopReason::OtherCluster(why));
            }
            if reply.founders != founders {
                tracing::warn!(
                    "node {id} was started with the peers {:?}, and this node with {founders:?}: start all with the \
                     same list",
                    reply.founders
                );
                return Ok(None);
            }
        }
        if replies.len() + 1 < founders.len() {
            return Ok(None);
        }
        Ok(Some(self.members(&me, replies)))
    }

    fn members(&self, me: &Identity, replies: &BTreeMap<u64, HelloReply>) -> BTreeMap<u64, Node> {
        let disk = |id| replies.get(&id).map_or(me.disk, |reply| reply.disk);
        let member = |peer: &Peer| {
            (
                peer.id.0,
                Node {
                    address: peer.address.clone(),
                    disk: disk(peer.id.0),
                },
            )
        };
        self.peers.iter().map(member).collect()
    }

    async fn form(&self, members: BTreeMap<u64, Node>) -> Result<(), String> {
        self.local
            .join(self.local.draw())
            .map_err(|error| error.to_string())?;
        match self.raft.initialize(members).await {
            Ok(()) => tracing::info!("the cluster was formed"),
            // Somebody's vote came in between: it takes part already.
            Err(error) if error.api_error().is_some() => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }
}
