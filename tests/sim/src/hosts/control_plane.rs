//! A node of the control plane.

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use compute::SystemClock;
use consensus::{Consensus, ConsensusConfig, NodeId, Peer, SnapshotPolicy, Timing};
use control_plane::{
    api::Token,
    caps::WORKERS_CONNECT,
    forward::{Answerer, ForwardService, Forwarder, front, inner},
    leader::{LeaderConfig, Role, elect},
    membership::RaftMembership,
    metadata::{MetaMachine, RaftMetadata},
    peers::{GrpcPeers, PeerService},
    streams::{ControlConfig, ControlService},
};
use control_stream::StreamTiming;
use proto::control::JobOptions;
use rand::RngCore as _;
use rpc::{forward_server, peer_server, tonic::service::Routes};
use sql::PlanOptions;
use state_service::object::ClusterId;
use tokio::sync::watch;

use super::{CLUSTER, LOOK, TOKEN, address, process, tls, wall_ms};
use crate::{
    network::{RestListener, tier_connections},
    plan::control_hosts,
    world::World,
};

/// Entries after which a node takes a snapshot: few, so that some are sent.
const SNAPSHOT_ENTRIES: u64 = 200;

/// Runs one of the nodes that form the cluster.
///
/// # Errors
/// Never: it tells the world.
pub async fn run(world: Arc<World>, id: u64) -> turmoil::Result {
    let host = format!("c{id}");
    process(&world, &host, node(&world, &host, id)).await
}

/// Runs the node that joins later, once it is wanted.
///
/// # Errors
/// Never: it tells the world.
pub async fn newcomer(world: Arc<World>, id: u64) -> turmoil::Result {
    while !world.newcomer_wanted() {
        tokio::time::sleep(LOOK).await;
    }
    run(world, id).await
}

async fn node(world: &Arc<World>, host: &str, id: u64) -> Result<Infallible, String> {
    let (_, mut random) = world.start(host);
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let peers = (1..).zip(control_hosts()).map(|(id, host)| Peer {
        id: NodeId(id),
        address: address(&host),
    });
    let config = ConsensusConfig {
        data_dir: PathBuf::from(host),
        cluster: CLUSTER.to_owned(),
        node: NodeId(id),
        peers: peers.collect(),
        timing: Timing::default(),
        snapshots: SnapshotPolicy {
            entries: SNAPSHOT_ENTRIES,
            ..SnapshotPolicy::default()
        },
        seed: random.next_u64(),
    };
    let link = Arc::new(GrpcPeers::new(tls()));
    let (disk, machine) = (world.disk(id), MetaMachine::default());
    let consensus = Consensus::start_on(config, &disk, machine, link).await;
    let consensus = consensus.map_err(|error| told(&error))?;

    let (roles, role) = watch::channel(Role::Follower(None));
    show(world, host, &consensus, &role);
    let (answerer, answers) = watch::channel(Answerer::Elsewhere(None));
    let clock = SystemClock::default();
    let wall = Arc::new(move || wall_ms(&clock));
    let lead = LeaderConfig {
        metadata: Arc::new(RaftMetadata::new(consensus.clone())),
        membership: Arc::new(RaftMembership::new(consensus.clone())),
        wall_ms: wall.clone(),
        plan: PlanOptions::default(),
        defaults: JobOptions::default(),
        token: Token::new(TOKEN),
        cluster_id: ClusterId::draw(&mut random).to_string(),
        workers_grace: WORKERS_CONNECT,
        queries: Arc::new(control_plane::api::NoStateQueries),
        capacity: None,
    };
    let seeds = move || random.next_u64();
    tokio::spawn(elect(consensus.clone(), lead, seeds, roles, answerer));
    let control = ControlService::new(ControlConfig {
        roles: role,
        cluster: CLUSTER.to_owned(),
        timing: StreamTiming::default(),
        wall_ms: wall,
    });
    let routes = Routes::new(peer_server(PeerService::new(consensus.clone())))
        .add_service(forward_server(ForwardService::new(inner(answers.clone()))))
        .add_service(control.into_server());
    let app = front(answers, Forwarder::new(tls()), Token::new(TOKEN));
    let connections = tier_connections().await.map_err(|error| told(&error))?;
    let rest = RestListener::bind().await.map_err(|error| told(&error))?;
    let mut stopped = consensus.stopped();
    tokio::select! {
        served = rpc::serve_wires(connections, routes, std::future::pending()) => {
            Err(format!("the server for tiers ended: {served:?}"))
        }
        served = axum::serve(rest, app).into_future() => {
            Err(format!("the server for clients ended: {served:?}"))
        }
        reason = stopped.wait_for(Option::is_some) => match reason.as_deref() {
            Ok(Some(reason)) => Err(reason.to_string()),
            _ => Err("the log has stopped".to_owned()),
        },
    }
}

/// Has the world see what the node applies, and when it leads.
fn show(
    world: &Arc<World>,
    host: &str,
    consensus: &Consensus<MetaMachine>,
    role: &watch::Receiver<Role>,
) {
    tokio::spawn(observe(Arc::clone(world), consensus.clone()));
    let (world, host) = (Arc::clone(world), host.to_owned());
    tokio::spawn(observe_role(world, host, role.clone()));
}

/// Shows the world what the node has applied.
async fn observe(world: Arc<World>, consensus: Consensus<MetaMachine>) {
    let mut applied = consensus.applied();
    while applied.changed().await.is_ok() {
        let index = *applied.borrow_and_update();
        consensus.with_machine(|machine| world.observe(index, machine.state()));
    }
}

/// Shows the world when the node leads.
async fn observe_role(world: Arc<World>, host: String, mut role: watch::Receiver<Role>) {
    while role.changed().await.is_ok() {
        if matches!(*role.borrow_and_update(), Role::Leader(_)) {
            world.leads(&host);
        }
    }
}
