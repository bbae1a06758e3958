//! A worker.

use std::{convert::Infallible, io, sync::Arc};

use compute::{
    ExchangeConfig, ExchangeServer, SystemClock, WorkerConfig,
    agent::{Agent, AgentConfig, AgentFigures},
};
use engine::memory::MemoryPool;
use millstream::cluster::{KnownRoutes, ToLeader};
use rand::RngCore as _;
use remote_store::{RemoteConfig, RemoteLimits, RemoteStore, Routes};
use rpc::{exchange_server, tonic::service::Routes as Served};

use super::{LOOK, dial, process, tls};
use crate::{network::tier_connections, world::World};

/// Why a worker has ended that was told to leave.
pub const LEFT: &str = "it has left";

/// Runs it.
///
/// # Errors
/// Never: it tells the world.
pub async fn run(world: Arc<World>, host: String) -> turmoil::Result {
    process(&world, &host, work(&world, &host)).await
}

async fn work(world: &Arc<World>, host: &str) -> Result<Infallible, String> {
    let (start, mut random) = world.start(host);
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let routes = Routes::default();
    let config = AgentConfig {
        dial: dial(host, &mut random),
        owners: Arc::new(KnownRoutes::new(routes.clone())),
        leave: world.leave_signal(host),
    };
    let (agent, leader) = Agent::new(config).map_err(|error| told(&error))?;
    let remote = RemoteConfig {
        tls: tls(),
        seed: random.next_u64(),
        limits: RemoteLimits::default(),
    };
    let server = ExchangeServer::default();
    let exchange = ExchangeConfig::new(server.clone(), tls(), random.next_u64());
    let config = WorkerConfig {
        store: Arc::new(RemoteStore::new(routes, remote)),
        memory: match world.shape.room {
            Some(room) => room.pool(&mut random),
            None => MemoryPool::unbounded(),
        },
        clock: Arc::new(SystemClock::default()),
        print: Arc::new(Nowhere),
        collect: Arc::new(move |job| {
            let leader = leader.clone();
            Arc::new(ToLeader { leader, job })
        }),
        exchange: Some(exchange),
    };
    tokio::spawn(observe(
        Arc::clone(world),
        host.to_owned(),
        start,
        agent.figures(),
    ));
    let connections = tier_connections().await.map_err(|error| told(&error))?;
    let routes = Served::new(exchange_server(server));
    tokio::select! {
        ended = agent.run(config) => match ended {
            Ok(()) => Err(LEFT.to_owned()),
            Err(error) => Err(error.to_string()),
        },
        served = rpc::serve_wires(connections, routes, std::future::pending()) => {
            Err(format!("the server for workers ended: {served:?}"))
        }
    }
}

/// Shows the world what the worker measures.
async fn observe(world: Arc<World>, host: String, start: u64, figures: AgentFigures) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        for (job, metrics) in figures.all() {
            world.measured(&host, start, job, &metrics);
        }
    }
}

/// Nothing is printed.
struct Nowhere;

impl connectors::LineWriter for Nowhere {
    fn write_lines(&self, _lines: &[u8], _standard_error: bool) -> io::Result<()> {
        Ok(())
    }
}
