//! `millstream worker`: runs tasks, keeps nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use compute::{
    ExchangeConfig, ExchangeServer, SystemClock, WorkerConfig,
    agent::{Agent, AgentConfig, OwnersListener},
};
use control_stream::{DialConfig, JobOwners, StreamTiming};
use engine::clock::Clock as _;
use proto::types::JobId;
use remote_store::{JobRoute, Owner, RemoteConfig, RemoteLimits, RemoteStore, Routes};
use rpc::{Tls, exchange_server};
use tokio::sync::watch;

use super::{
    delivery::ToLeader,
    run::{metrics, until_stopped},
    tier_args::{ControlPlaneAddresses, ListenArgs, TierArgs},
};
use crate::{
    memory::{MemoryArgs, MemoryPlan},
    parent::Parent,
    process::{Console, draw_seed},
    scratch::ScratchArgs,
    serve::listen_address,
    telemetry::{Telemetry, observe_operators},
};

/// How long others may take to take over its tasks after Ctrl-C.
const LEAVE_GRACE: Duration = Duration::from_secs(60);

/// Run a worker: it runs tasks of jobs and keeps nothing, so that any number of them may come and
/// go.
#[derive(Args, Debug)]
pub struct WorkerArgs {
    #[command(flatten)]
    control_plane: ControlPlaneAddresses,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scratch: ScratchArgs,
    /// Serve /metrics for Prometheus at this address; on another than a loopback address who asks
    /// shows MILLSTREAM_METRICS_TOKEN.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    metrics: Option<SocketAddr>,
    /// Leave when standard input ends: for whoever starts workers, and may die.
    #[arg(long)]
    until_input_ends: bool,
    #[command(flatten)]
    tier: TierArgs,
}

/// Works until Ctrl-C, after which others take over what it has.
///
/// # Errors
/// When the worker cannot start, or cannot go on.
pub fn run(args: &WorkerArgs, telemetry: &Telemetry) -> anyhow::Result<ExitCode> {
    until_stopped(LEAVE_GRACE, async |interrupt| {
        let (leaves, leave) = watch::channel(false);
        let work = work(args, leave);
        tokio::pin!(work);
        tokio::select! {
            () = interrupt.asked() => {
                eprintln!("\nother workers take over its tasks; Ctrl-C again stops it at once");
                leaves.send_replace(true);
                work.await
            }
            () = input_ended(args.until_input_ends) => {
                eprintln!("standard input has ended: other workers take over its tasks");
                leaves.send_replace(true);
                work.await
            }
            worked = &mut work => worked,
            served = metrics(args.metrics, telemetry) => served,
        }
    })
}

/// Waits until standard input ends, if that is asked for.
async fn input_ended(asked: bool) {
    match asked {
        true => Parent::listen().gone().await,
        false => std::future::pending().await,
    }
}

async fn work(args: &WorkerArgs, leave: watch::Receiver<bool>) -> anyhow::Result<()> {
    let scratch = args.scratch.plan(None)?;
    let tls = args.tier.tls()?;
    let (listener, address) = args.listen.bind(&args.tier).await?;
    let process = draw_seed();
    let dial = DialConfig {
        control_plane: args.control_plane.nodes.clone(),
        tls: tls.clone(),
        cluster: args.tier.cluster.clone(),
        address: address.clone(),
        process,
        timing: StreamTiming::default(),
    };
    let routes = Routes::default();
    let owners = Arc::new(KnownRoutes::new(routes.clone()));
    let config = AgentConfig {
        dial,
        owners,
        leave,
    };
    let (agent, leader) = Agent::new(config)?;
    let store = RemoteStore::new(
        routes,
        RemoteConfig {
            tls: tls.clone(),
            seed: draw_seed(),
            limits: RemoteLimits::default(),
        },
    );
    let server = ExchangeServer::default();
    let clock = Arc::new(SystemClock::default());
    let config = WorkerConfig {
        store: Arc::new(store),
        memory: MemoryPlan::of_worker(args.memory.bytes()).pool(&scratch),
        clock: clock.clone(),
        print: Arc::new(Console),
        collect: Arc::new(move |job| {
            let leader = leader.clone();
            Arc::new(ToLeader { leader, job })
        }),
        exchange: Some(ExchangeConfig::new(
            server.clone(),
            tls.clone(),
            draw_seed(),
        )),
    };
    let figures = agent.figures();
    observe_operators(move || figures.all(), move || clock.wall_ms());
    eprintln!(
        "A worker of cluster `{}` runs; Ctrl-C stops it.",
        args.tier.cluster
    );
    eprintln!("  other workers reach it at {address}");
    tokio::select! {
        ended = agent.run(config) => Ok(ended?),
        served = serve(listener, server, tls) => {
            served?;
            Err(anyhow!("the worker's server has ended"))
        }
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    server: ExchangeServer,
    tls: Tls,
) -> anyhow::Result<()> {
    let routes = rpc::tonic::service::Routes::new(exchange_server(server));
    let served = rpc::serve(listener, routes, &tls, std::future::pending()).await;
    served.context("failed to serve other workers")
}

/// What is known of where shards are: what the leader leaves out is where it was.
pub struct KnownRoutes {
    routes: Routes,
    known: Mutex<BTreeMap<JobId, JobRoute>>,
}

impl KnownRoutes {
    /// Nothing is known yet; `routes` is told what is.
    #[must_use]
    pub fn new(routes: Routes) -> KnownRoutes {
        KnownRoutes {
            routes,
            known: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, JobRoute>> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnersListener for KnownRoutes {
    fn begin(&self, running: &BTreeSet<JobId>) {
        self.lock().retain(|job, _| {
            let stays = running.contains(job);
            if !stays {
                self.routes.remove(*job);
            }
            stays
        });
    }

    fn change(&self, job: JobId, owners: Option<JobOwners>) {
        let mut known = self.lock();
        let Some(now) = owners else {
            known.remove(&job);
            return self.routes.remove(job);
        };
        let mut owners = known
            .remove(&job)
            .map_or_else(BTreeMap::new, |route| route.owners);
        owners.extend(now.owners.into_iter().map(|(shard, owner)| {
            let (node, address) = (owner.node, owner.address);
            (shard, Owner { node, address })
        }));
        let route = JobRoute {
            key_groups: now.key_groups,
            shards: now.shards,
            owners,
        };
        known.insert(job, route.clone());
        self.routes.set(job, route);
    }
}
