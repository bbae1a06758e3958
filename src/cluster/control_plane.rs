//! `millstream control-plane`: a node of the control plane.

use std::{env, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use compute::SystemClock;
use consensus::{Consensus, ConsensusConfig, NodeId, Peer, SnapshotPolicy, StopReason, Timing};
use control_plane::{
    api::{Token, guarded},
    caps::WORKERS_CONNECT,
    forward::{Answerer, ForwardService, Forwarder, front, inner},
    leader::{LeaderConfig, Role, elect},
    membership::RaftMembership,
    metadata::{MetaMachine, RaftMetadata},
    peers::{GrpcPeers, PeerService},
    streams::{ControlConfig, ControlService},
};
use control_stream::StreamTiming;
use engine::clock::Clock as _;
use proto::control::JobOptions;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use remote_store::{RemoteConfig, RemoteLimits};
use rpc::{Tls, forward_server, peer_server, tonic::service::Routes};
use sql::PlanOptions;
use state_service::object::ClusterId;
use tokio::{sync::watch, time::timeout};

use super::{
    run::{INTERRUPT_GRACE, until_stopped},
    tier_args::{TierArgs, host_and_port},
};
use crate::{
    StateReader,
    capacity::{CapacityArgs, WorkerCommandLine},
    process::draw_seed,
    serve::{RestListener, RestTlsArgs, given_token, listen_address},
    telemetry::{ProcessIdentity, Telemetry, metrics_router, observe_jobs},
};

/// How long open connections may take to end after Ctrl-C.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Run a node of the control plane: keeps what the cluster must remember, directs workers and state
/// nodes, serves the REST API.
///
/// A cluster is formed by 1, 3 or 5 nodes that are started with the same --peers. Clients show the
/// token in MILLSTREAM_TOKEN, which all nodes are given; any node answers them.
#[derive(Args, Debug)]
pub struct ControlPlaneArgs {
    /// This node's number; never that of a node whose directory was lost.
    #[arg(long, value_name = "N")]
    id: u64,
    /// The nodes that form the cluster, this one too, separated by commas. A node that joins later
    /// is given those that are there, without itself.
    #[arg(
        long,
        value_name = "N=HOST:PORT",
        value_delimiter = ',',
        required = true,
        value_parser = peer
    )]
    peers: Vec<Peer>,
    /// Directory of this node's log, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Address to listen on for other tiers [default: this node's in --peers].
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    listen: Option<SocketAddr>,
    /// Address to listen on for clients; without a certificate a loopback address. Port 0: any free
    /// one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7878", value_parser = listen_address)]
    rest: SocketAddr,
    #[command(flatten)]
    rest_tls: RestTlsArgs,
    #[command(flatten)]
    tier: TierArgs,
    #[command(flatten)]
    capacity: CapacityArgs,
}

fn peer(text: &str) -> Result<Peer, String> {
    let form = || "expected a number and an address such as 1=10.0.0.1:7001".to_owned();
    let (id, address) = text.split_once('=').ok_or_else(form)?;
    let id = id.trim().parse().map_err(|_| form())?;
    let address = host_and_port(address.trim())?;
    Ok(Peer {
        id: NodeId(id),
        address,
    })
}

/// Serves until Ctrl-C.
///
/// # Errors
/// When the node cannot start, or cannot go on.
pub fn run(args: &ControlPlaneArgs, telemetry: &Telemetry) -> anyhow::Result<ExitCode> {
    until_stopped(INTERRUPT_GRACE, async |interrupt| {
        let node = Node::start(args, telemetry).await?;
        let ended = tokio::select! {
            () = interrupt.asked() => Ok(()),
            why = node.ended() => Err(why),
        };
        if ended.is_ok() {
            eprintln!("\nstopping; the other nodes go on");
        }
        node.stop().await;
        ended
    })
}

type Server = tokio::task::JoinHandle<anyhow::Result<()>>;

/// A running node.
struct Node {
    consensus: Consensus<MetaMachine>,
    servers: tokio::sync::Mutex<Vec<Server>>,
    stop: watch::Sender<bool>,
}

impl Node {
    async fn start(args: &ControlPlaneArgs, telemetry: &Telemetry) -> anyhow::Result<Node> {
        let token = token()?;
        let tls = args.tier.tls()?;
        let rest = RestListener::bind(args.rest, args.rest_tls.load()?).await?;
        let tiers = args.tier.listen(args.listen()?).await?;
        let mut random = SmallRng::seed_from_u64(draw_seed());
        let link = Arc::new(GrpcPeers::new(tls.clone()));
        let config = consensus_config(args, random.next_u64());
        let consensus = Consensus::start(config, MetaMachine::default(), link).await?;

        let (roles, role) = watch::channel(Role::Follower(None));
        let (answerer, answers) = watch::channel(Answerer::Elsewhere(None));
        let clock = SystemClock::default();
        let wall_ms = Arc::new(move || u64::try_from(clock.wall_ms()).unwrap_or_default());
        let lead = LeaderConfig {
            metadata: Arc::new(RaftMetadata::new(consensus.clone())),
            membership: Arc::new(RaftMembership::new(consensus.clone())),
            wall_ms: wall_ms.clone(),
            plan: PlanOptions::default(),
            defaults: JobOptions::default(),
            token: token.clone(),
            cluster_id: ClusterId::draw(&mut random).to_string(),
            workers_grace: WORKERS_CONNECT,
            queries: Arc::new(StateReader::there(RemoteConfig {
                tls: tls.clone(),
                seed: draw_seed(),
                limits: RemoteLimits::default(),
            })),
            capacity: args.capacity.config(|| args.worker())?,
        };
        let seeds = move || random.next_u64();
        tokio::spawn(elect(consensus.clone(), lead, seeds, roles, answerer));

        let control = ControlService::new(ControlConfig {
            roles: role.clone(),
            cluster: args.tier.cluster.clone(),
            timing: StreamTiming::default(),
            wall_ms,
        });
        let routes = Routes::new(peer_server(PeerService::new(consensus.clone())))
            .add_service(forward_server(ForwardService::new(inner(answers.clone()))))
            .add_service(control.into_server());
        let clock = SystemClock::default();
        observe_jobs(jobs_of(role), move || clock.wall_ms());
        introduce(args, &rest);
        let metrics = guarded(metrics_router(telemetry.scrape()), token.clone());
        let app = front(answers, Forwarder::new(tls.clone()), token).merge(metrics);
        let (stop, stopped) = watch::channel(false);
        let servers = vec![
            serve_tiers(tiers, routes, tls, until(stopped.clone())),
            tokio::spawn(async move {
                let served = rest.serve(app, until(stopped)).await;
                served.context("failed to serve clients")
            }),
        ];
        Ok(Node {
            consensus,
            servers: servers.into(),
            stop,
        })
    }

    /// Waits until the node cannot go on: why.
    async fn ended(&self) -> anyhow::Error {
        let mut stopped = self.consensus.stopped();
        let mut servers = self.servers.lock().await;
        let served = futures::future::select_all(servers.iter_mut());
        let (why, ended) = tokio::select! {
            reason = stopped.wait_for(Option::is_some) => match reason.as_deref() {
                Ok(Some(reason)) => (explain(reason), None),
                _ => (anyhow!("the node's log has stopped"), None),
            },
            (served, index, _) = served => {
                let why = match served {
                    Ok(Err(error)) => error,
                    Ok(Ok(())) => anyhow!("a server has ended"),
                    Err(error) => anyhow!("a server crashed: {error}"),
                };
                (why, Some(index))
            }
        };
        // What has ended must not be waited for again.
        if let Some(index) = ended {
            drop(servers.swap_remove(index));
        }
        why
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.consensus.shutdown().await;
        for server in self.servers.into_inner() {
            // A client holds on to its connection; it has had its time.
            let _ = timeout(SHUTDOWN, server).await;
        }
    }
}

impl ControlPlaneArgs {
    /// Who the process is in what it tells about itself.
    #[must_use]
    pub fn identity(&self) -> ProcessIdentity {
        ProcessIdentity::new("millstream-control-plane", self.id.to_string())
    }

    /// How a worker of this cluster is started on this machine.
    fn worker(&self) -> anyhow::Result<WorkerCommandLine> {
        let program = env::current_exe().context("failed to find this program")?;
        let nodes: Vec<&str> = self
            .peers
            .iter()
            .map(|peer| peer.address.as_str())
            .collect();
        let mut arguments = vec!["worker".to_owned(), "--until-input-ends".to_owned()];
        arguments.extend(["--control-plane".to_owned(), nodes.join(",")]);
        arguments.extend(self.tier.arguments());
        Ok(WorkerCommandLine {
            program,
            arguments,
            nodes: nodes.len(),
        })
    }

    fn listen(&self) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.listen {
            return Ok(address);
        }
        let own = self.peers.iter().find(|peer| peer.id.0 == self.id);
        let Some(own) = own else {
            bail!(
                "--peers does not name node {}: say with --listen where it listens",
                self.id
            );
        };
        let listen = listen_address(&own.address);
        listen.map_err(|_| {
            let address = &own.address;
            anyhow!("`{address}` is no address of this machine: say with --listen where to listen")
        })
    }
}

fn consensus_config(args: &ControlPlaneArgs, seed: u64) -> ConsensusConfig {
    ConsensusConfig {
        data_dir: args.data_dir.clone(),
        cluster: args.tier.cluster.clone(),
        node: NodeId(args.id),
        peers: args.peers.clone(),
        timing: Timing::default(),
        snapshots: SnapshotPolicy::default(),
        seed,
    }
}

/// Why the log has stopped, with what to do about it on this command line.
fn explain(reason: &StopReason) -> anyhow::Error {
    match reason {
        StopReason::WrongDisk { node, .. } => anyhow!(
            "{reason}: `millstream cluster remove {node}` on any other node, then start this one with \
             an empty --data-dir and another --id, and `millstream cluster add`"
        ),
        _ => anyhow!("{reason}"),
    }
}

fn token() -> anyhow::Result<Token> {
    match given_token()? {
        Some(token) => Ok(Token::new(&token)),
        None => bail!(
            "MILLSTREAM_TOKEN is not set: set it to the secret that clients show, the same for all \
             nodes of the control plane"
        ),
    }
}

/// The jobs of whoever leads, if it is this node.
fn jobs_of(role: watch::Receiver<Role>) -> impl Fn() -> Option<control_plane::Jobs> {
    move || match &*role.borrow() {
        Role::Leader(leading) => Some(leading.jobs.clone()),
        Role::Follower(_) => None,
    }
}

fn serve_tiers(
    listener: tokio::net::TcpListener,
    routes: Routes,
    tls: Tls,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Server {
    tokio::spawn(async move {
        let served = rpc::serve(listener, routes, &tls, stop).await;
        served.context("failed to serve other tiers")
    })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

fn introduce(args: &ControlPlaneArgs, rest: &RestListener) {
    let (id, cluster, url) = (args.id, &args.tier.cluster, rest.url());
    eprintln!("Node {id} of the control plane of cluster `{cluster}` runs; Ctrl-C stops it.");
    eprintln!("  REST API  {url}/v1  (described by /v1/openapi.json; asks for $MILLSTREAM_TOKEN)");
    eprintln!("  metrics   {url}/metrics");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_numbers_with_addresses() {
        let good = peer("3=10.0.0.3:7003").expect("a peer");
        assert_eq!(
            (good.id, good.address.as_str()),
            (NodeId(3), "10.0.0.3:7003")
        );
        for bad in ["10.0.0.3:7003", "x=a:1", "1=", "1=a", "=a:1"] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }
}
