//! Three nodes over sockets: metadata is written by the leader and read from any.

use std::{sync::Arc, time::Duration};

use consensus::{Consensus, ConsensusConfig, NodeId, Peer, SnapshotPolicy, Timing};
use coordinator::meta::{Answer, Change, Command};
use rpc::{Tls, peer_server, tonic::service::Routes};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::*;
use crate::{
    membership::{ControlNode, Membership as _, MembershipError, RaftMembership},
    metadata::{MetaMachine, Metadata as _, MetadataError, RaftMetadata, look},
};

/// A test that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    consensus: Consensus<MetaMachine>,
    metadata: RaftMetadata,
    server: JoinHandle<()>,
    _disk: tempfile::TempDir,
}

async fn three() -> Vec<Node> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    }
    let peers = (1..).zip(&listeners).map(|(id, listener)| Peer {
        id: NodeId(id),
        address: listener.local_addr().expect("bound").to_string(),
    });
    let peers: Vec<Peer> = peers.collect();
    let mut starts = Vec::new();
    for (peer, listener) in peers.iter().zip(listeners) {
        let disk = tempfile::tempdir().expect("a directory");
        let config = ConsensusConfig {
            data_dir: disk.path().to_owned(),
            cluster: "test".into(),
            node: peer.id,
            peers: peers.clone(),
            timing: Timing::default(),
            snapshots: SnapshotPolicy::default(),
            seed: 7 + peer.id.0,
        };
        starts.push(async move {
            let link = Arc::new(GrpcPeers::new(Tls::None));
            let started = Consensus::start(config, MetaMachine::default(), link).await;
            let consensus = started.expect("a node");
            let routes = Routes::new(peer_server(PeerService::new(consensus.clone())));
            let server = tokio::spawn(async move {
                let served = rpc::serve(listener, routes, &Tls::None, std::future::pending());
                served.await.expect("served");
            });
            Node {
                metadata: RaftMetadata::new(consensus.clone()),
                consensus,
                server,
                _disk: disk,
            }
        });
    }
    futures::future::join_all(starts).await
}

/// Has some node write a command, and says which did.
async fn write(nodes: &[Node], request: u64) -> usize {
    let command = Command {
        request,
        change: Change::Accept {
            catalog: None,
            statements: Some(vec![format!("statement {request}")]),
            jobs: Vec::new(),
            now_ms: 0,
            seed: 0,
        },
    };
    loop {
        for (index, node) in nodes.iter().enumerate() {
            match node.metadata.propose(command.clone()).await {
                Ok(answer) => {
                    assert_eq!(answer, Answer::Accepted { jobs: Vec::new() });
                    return index;
                }
                Err(MetadataError::NotLeader { .. } | MetadataError::Unavailable { .. }) => {}
                Err(MetadataError::Closed { why }) => panic!("{why}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_writes_all_nodes_read_and_another_leads_when_it_is_gone() {
    let test = async {
        let mut nodes = three().await;
        let leader = write(&nodes, 1).await;
        for node in &nodes {
            let version = look(&node.metadata, |state| state.catalog.version).await;
            assert_eq!(version, Ok(1));
        }
        let gone = nodes.remove(leader);
        gone.server.abort();
        gone.consensus.shutdown().await;
        write(&nodes, 2).await;
        // Asked again, it is not done again.
        write(&nodes, 1).await;
        for node in &nodes {
            let version = look(&node.metadata, |state| state.catalog.version).await;
            assert_eq!(version, Ok(2));
        }
        // Alone, a node writes nothing and says so.
        let gone = nodes.remove(0);
        gone.server.abort();
        gone.consensus.shutdown().await;
        let read = look(&nodes[0].metadata, |state| state.catalog.version).await;
        assert!(
            matches!(read, Err(MetadataError::Unavailable { .. })),
            "{read:?}"
        );
    };
    timeout(PATIENCE, test).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_is_no_member_any_more() {
    let test = async {
        let nodes = three().await;
        let leader = write(&nodes, 1).await;
        let id = |index: usize| nodes[index].consensus.node().0;
        let members = |index: usize| RaftMembership::new(nodes[index].consensus.clone());
        let other = (leader + 1) % 3;
        let shown = |nodes: &[ControlNode]| -> Vec<(u64, bool, bool)> {
            let shown = nodes.iter();
            shown
                .map(|node| (node.id, node.leader, node.voter))
                .collect()
        };
        let expected: Vec<_> = (1..=3)
            .map(|node| (node, node == id(leader), true))
            .collect();
        while shown(&members(leader).nodes()) != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let refused = members(other).remove(id(leader)).await;
        assert!(
            matches!(refused, Err(MembershipError::Unavailable(_))),
            "{refused:?}"
        );
        let refused = members(leader).remove(77).await;
        assert_eq!(refused, Err(MembershipError::NotMember(77)));
        let (used, place) = (id(other), "127.0.0.1:1".to_owned());
        for _ in 0..2 {
            assert_eq!(members(leader).remove(used).await, Ok(()));
        }
        let left = members(leader).nodes();
        assert!(left.iter().all(|node| node.id != used), "{left:?}");
        assert_eq!(left.len(), 2);
        // Nobody answers there.
        let unfinished = members(leader).add(4, place).await;
        assert!(
            matches!(unfinished, Err(MembershipError::Unfinished(_))),
            "{unfinished:?}"
        );
    };
    timeout(PATIENCE, test).await.expect("in time");
}
