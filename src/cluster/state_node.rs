//! `millstream state-node`: serves shards of jobs' state from an object store.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Context as _, anyhow};
use clap::Args;
use compute::SystemClock;
use control_stream::{DialConfig, StreamTiming};
use engine::clock::Clock as _;
use proto::types::StateNodeId;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use rpc::Tls;
use state_service::{
    StateNode, StateService,
    agent::NodeAgent,
    object::{ClusterId, Identity, Keeper, enter, open},
};
use tokio::runtime::Runtime;

use super::{
    run::{INTERRUPT_GRACE, metrics, until_stopped},
    tier_args::{ControlPlaneAddresses, ListenArgs, TierArgs},
};
use crate::{
    interrupt::Interrupt,
    keep::KeepArgs,
    memory::{MemoryArgs, MemoryPlan},
    process::{draw_seed, state_node_config},
    serve::listen_address,
    telemetry::{ProcessIdentity, Telemetry, observe_state_node},
    threads::background_runtime,
};

/// Run a state node: it serves the state of jobs from an object store. What it has in memory, it can
/// lose.
#[derive(Args, Debug)]
pub struct StateNodeArgs {
    /// This node's number: another one for each state node, the same at every start.
    #[arg(long, value_name = "N")]
    id: u64,
    #[command(flatten)]
    control_plane: ControlPlaneAddresses,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Serve /metrics for Prometheus at this address; on another than a loopback address who asks
    /// shows MILLSTREAM_METRICS_TOKEN.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    tier: TierArgs,
}

impl StateNodeArgs {
    /// Who the process is in what it tells about itself.
    #[must_use]
    pub fn identity(&self) -> ProcessIdentity {
        ProcessIdentity::new("millstream-state-node", StateNodeId(self.id).to_string())
    }
}

/// Serves until Ctrl-C.
///
/// # Errors
/// When the node cannot start, or cannot go on.
pub fn run(args: &StateNodeArgs, telemetry: &Telemetry) -> anyhow::Result<ExitCode> {
    let background = background_runtime()?;
    let served = until_stopped(INTERRUPT_GRACE, async |interrupt| {
        tokio::select! {
            served = serve(args, &background, &interrupt) => served,
            served = metrics(args.metrics, telemetry) => served,
        }
    });
    background.shutdown_background();
    served
}

async fn serve(
    args: &StateNodeArgs,
    background: &Runtime,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let url = args.keep.url()?;
    let url = url.context("a state node needs to know the store: give --store or --data-dir")?;
    let tls = args.tier.tls()?;
    let (listener, address) = args.listen.bind(&args.tier).await?;
    // Makes a directory, which a start that is refused must not leave.
    let store = open(&url)?;
    let dial = DialConfig {
        control_plane: args.control_plane.nodes.clone(),
        tls: tls.clone(),
        cluster: args.tier.cluster.clone(),
        address: address.clone(),
        process: draw_seed(),
        timing: StreamTiming::default(),
    };
    let id = StateNodeId(args.id);
    let (mut agent, view) = NodeAgent::new(dial, id)?;
    eprintln!(
        "State node {} of cluster `{}` looks for the control plane; Ctrl-C stops it.",
        args.id, args.tier.cluster
    );
    let cluster_id = tokio::select! {
        cluster_id = agent.greet() => cluster_id?,
        () = interrupt.asked() => return Ok(()),
    };
    let mut random = SmallRng::seed_from_u64(draw_seed());
    let cluster = ClusterId::from(cluster_id.as_str());
    let now = u64::try_from(SystemClock::default().wall_ms()).unwrap_or_default();
    let founding = Identity::new(cluster.clone(), Keeper::Cluster, now, &mut random);
    let identity = enter(&store, founding, Some(&cluster), random.next_u64()).await?;
    let store_id = identity.store;
    let memory = MemoryPlan::of_state_node(args.memory.bytes());
    let mut config = state_node_config(
        &store,
        id,
        background.handle(),
        memory.page_cache,
        random.next_u64(),
    );
    memory.bound(&mut config);
    let (node, reports) = StateNode::start(config, Arc::new(view));
    observe_state_node(node.clone());
    eprintln!("  it serves {url}; workers reach it at {address}");
    tokio::select! {
        ended = agent.run(&cluster_id, store_id, node.clone(), reports) => match ended? {},
        served = serve_tasks(listener, node.clone(), tls) => {
            served?;
            Err(anyhow!("the state node's server has ended"))
        }
        why = store.full() => {
            node.stop().await;
            Err(anyhow!("{why}"))
        }
        () = interrupt.asked() => {
            eprintln!("\nstopping; other state nodes take over");
            node.stop().await;
            Ok(())
        }
    }
}

async fn serve_tasks(
    listener: tokio::net::TcpListener,
    node: StateNode,
    tls: Tls,
) -> anyhow::Result<()> {
    let routes = rpc::tonic::service::Routes::new(StateService::new(node).into_server());
    let served = rpc::serve(listener, routes, &tls, std::future::pending()).await;
    served.context("failed to serve workers")
}
