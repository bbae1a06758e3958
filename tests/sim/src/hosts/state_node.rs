//! A state node.

use std::{convert::Infallible, sync::Arc};

use compute::SystemClock;
use millstream::state_node_config;
use proto::types::StateNodeId;
use rand::RngCore as _;
use rpc::tonic::service::Routes;
use state_service::{
    StateNode, StateService,
    agent::NodeAgent,
    object::{ClusterId, Identity, Keeper, StoreUrl, enter, open},
};
use tokio::runtime::Handle;

use super::{dial, process, wall_ms};
use crate::{network::tier_connections, world::World};

/// Merged pages that are kept for reads.
const PAGE_CACHE_BYTES: u64 = 4 << 20;

/// Runs it.
///
/// # Errors
/// Never: it tells the world.
pub async fn run(world: Arc<World>, id: u64) -> turmoil::Result {
    let host = format!("s{id}");
    process(&world, &host, serve(&world, &host, StateNodeId(id))).await
}

async fn serve(world: &Arc<World>, host: &str, id: StateNodeId) -> Result<Infallible, String> {
    let (start, mut random) = world.start(host);
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (mut agent, view) =
        NodeAgent::new(dial(host, &mut random), id).map_err(|error| told(&error))?;
    let connections = tier_connections().await.map_err(|error| told(&error))?;
    let memory = open(&StoreUrl::Memory).map_err(|error| told(&error))?;
    let store = memory.with_store(Arc::new(world.bucket.of_host(host, start)));
    let cluster_id = agent.greet().await.map_err(|error| told(&error))?;
    let cluster = ClusterId::from(cluster_id.as_str());
    let now = wall_ms(&SystemClock::default());
    let founding = Identity::new(cluster.clone(), Keeper::Cluster, now, &mut random);
    let entered = enter(&store, founding, Some(&cluster), random.next_u64()).await;
    let identity = entered.map_err(|error| told(&error))?;
    let background = Handle::current();
    let seed = random.next_u64();
    let mut config = state_node_config(&store, id, &background, PAGE_CACHE_BYTES, seed);
    config.limits.flush_epochs = world.shape.flush_epochs;
    config.limits.sweep_interval = world.shape.sweep;
    let (node, reports) = StateNode::start(config, Arc::new(view));
    let routes = Routes::new(StateService::new(node.clone()).into_server());
    tokio::select! {
        ended = agent.run(&cluster_id, identity.store, node.clone(), reports) => {
            let Err(error) = ended;
            Err(error.to_string())
        }
        served = rpc::serve_wires(connections, routes, std::future::pending()) => {
            Err(format!("the server for workers ended: {served:?}"))
        }
    }
}
