//! A cluster of real processes on this machine: nodes of the control plane, workers, state nodes. Tests kill them, hold them up, start them again, and ask any of them over REST.

mod ask;

pub use ask::JobStatus;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use ureq::Agent;

use crate::{
    Network,
    member::{Member, MemberSpec},
    tool::lasting_ports,
    wait_until,
};

/// What takes longer will never be: elections, restarts and moves of state take seconds, on a machine
/// that has other things to do tens of seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// What they say of themselves, without what libraries do.
const LOG: &str = "info,openraft=warn,slatedb=warn";

/// A running cluster; its processes are killed when it is dropped, and their logs shown if that is
/// because a test has failed.
pub struct Cluster {
    /// Nodes of the control plane; that at `n` has the id `n + 1`.
    pub nodes: Vec<Member>,
    /// Workers.
    pub workers: Vec<Member>,
    /// State nodes; that at `n` has the id `n + 1`.
    pub state_nodes: Vec<Member>,
    /// Where each worker serves its metrics.
    metrics: Vec<String>,
    /// Where each control-plane node is for other nodes.
    addresses: Vec<String>,
    agent: Agent,
    config: ClusterConfig,
    folder: TempDir,
}

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The binary.
    pub program: PathBuf,
    /// Control-plane nodes at first: 1, 3 or 5.
    pub nodes: usize,
    /// Workers, and state nodes.
    pub per_tier: usize,
    /// URL of the object store; none: a directory of its own.
    pub store: Option<String>,
    /// Environment of every process.
    pub variables: Vec<(String, String)>,
    /// Further arguments of every control-plane node.
    pub node_arguments: Vec<String>,
    /// Further arguments of every worker.
    pub worker_arguments: Vec<String>,
}

impl Cluster {
    /// What clients show.
    const TOKEN: &str = "token-of-tests";

    /// Starts one, and waits until all know each other.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(config: &ClusterConfig) -> Cluster {
        // Another process may take a port in between; then there are others.
        let started = (0..5).find_map(|_| Cluster::try_start(config, Lines::Direct));
        let cluster = started.expect("some ports are free");
        cluster.wait_whole();
        cluster
    }

    /// The same, where workers and state nodes are reached through something: `pass` is told the name
    /// of each, where it is to be reached, and where it is.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_behind(config: &ClusterConfig, pass: &mut Pass<'_>) -> Cluster {
        let started = Cluster::try_start(config, Lines::Through(pass));
        let cluster = started.expect("its ports are free");
        cluster.wait_whole();
        cluster
    }

    /// The same, with every worker in a namespace of the network, and all others outside of them.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_in(config: &ClusterConfig, network: &Network) -> Cluster {
        let started = (0..5).find_map(|_| Cluster::try_start(config, Lines::Of(network)));
        let cluster = started.expect("some ports are free");
        cluster.wait_whole();
        cluster
    }

    /// `None`: a port was taken by somebody else.
    fn try_start(config: &ClusterConfig, mut lines: Lines<'_, '_>) -> Option<Cluster> {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            workers: Vec::new(),
            state_nodes: Vec::new(),
            metrics: Vec::new(),
            addresses: Vec::new(),
            agent: ask::agent(),
            config: config.clone(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let (nodes, per_tier) = (config.nodes, config.per_tier);
        let ports = lasting_ports(nodes + 3 * per_tier);
        let (of_nodes, others) = ports.split_at(nodes);
        let (of_workers, others) = others.split_at(per_tier);
        let (of_metrics, of_state_nodes) = others.split_at(per_tier);
        let peers: Vec<String> = (1..)
            .zip(of_nodes)
            .map(|(id, port)| format!("{id}={}", lines.at_host(port)))
            .collect();
        let addresses: Vec<String> = of_nodes.iter().map(|port| lines.at_host(port)).collect();
        cluster.addresses.clone_from(&addresses);
        for id in 1..=nodes {
            let node = cluster.node_spec(id, &peers.join(","), &[]);
            cluster.nodes.push(Member::start(node));
        }
        cluster.metrics = of_metrics.iter().map(local).collect();
        for (at, port) in of_workers.iter().enumerate() {
            let listen = lines.at_worker(at, port);
            let mut worker = cluster.worker_spec(at, &addresses, &listen);
            lines.lay(&mut worker, &listen, Some(at));
            cluster.workers.push(Member::start(worker));
        }
        for (at, port) in of_state_nodes.iter().enumerate() {
            let listen = lines.at_host(port);
            let mut node = cluster.state_node_spec(at + 1, &addresses, &listen);
            lines.lay(&mut node, &listen, None);
            cluster.state_nodes.push(Member::start(node));
        }
        let up = cluster.wait_listening();
        up.then_some(cluster)
    }

    fn spec(&self, name: String, arguments: Vec<String>) -> MemberSpec {
        let own = [
            ("MILLSTREAM_TOKEN".to_owned(), Self::TOKEN.to_owned()),
            ("MILLSTREAM_LOG".to_owned(), LOG.to_owned()),
        ];
        MemberSpec {
            name,
            program: self.config.program.clone(),
            arguments,
            variables: own
                .into_iter()
                .chain(self.config.variables.clone())
                .collect(),
            folder: self.folder.path().to_owned(),
        }
    }

    fn node_spec(&self, id: usize, peers: &str, more: &[&str]) -> MemberSpec {
        let name = format!("control-plane-{id}");
        let data = self.data_dir(id).display().to_string();
        let number = id.to_string();
        let arguments = ["control-plane", "--id", &number, "--peers", peers];
        let own = ["--data-dir", &data, "--rest", "127.0.0.1:0"];
        let arguments = arguments.iter().chain(&own).chain(more);
        let arguments = arguments.map(|argument| (*argument).to_owned());
        let arguments = arguments
            .chain(self.config.node_arguments.clone())
            .collect();
        self.spec(name, arguments)
    }

    fn worker_spec(&self, at: usize, nodes: &[String], listen: &str) -> MemberSpec {
        let (nodes, metrics) = (nodes.join(","), &self.metrics[at]);
        let arguments = ["worker", "--control-plane", &nodes, "--listen", listen];
        let arguments = arguments.into_iter().chain(["--metrics", metrics]);
        let arguments = arguments.map(str::to_owned);
        let arguments = arguments.chain(self.config.worker_arguments.clone());
        self.spec(format!("worker-{}", at + 1), arguments.collect())
    }

    fn state_node_spec(&self, id: usize, nodes: &[String], listen: &str) -> MemberSpec {
        let (number, nodes) = (id.to_string(), nodes.join(","));
        let here = format!("file://{}", self.folder.path().join("store").display());
        let store = self.config.store.as_ref().unwrap_or(&here);
        let arguments = ["state-node", "--id", &number, "--control-plane", &nodes];
        let own = ["--store", store, "--listen", listen];
        let arguments = arguments.into_iter().chain(own).map(str::to_owned);
        self.spec(format!("state-node-{id}"), arguments.collect())
    }

    /// Whether all processes have come as far as they do without each other.
    fn wait_listening(&mut self) -> bool {
        let mut taken = false;
        let all = wait_until(PATIENCE, || {
            // Some have been killed before another one comes.
            let members = self.nodes.iter_mut().filter(|node| node.is_up());
            let mut members = members
                .chain(&mut self.workers)
                .chain(&mut self.state_nodes);
            let ended = members.find_map(|member| member.ended().is_some().then_some(member));
            if let Some(member) = ended {
                let log = member.log();
                let in_use = log.contains("failed to listen") || log.contains("in use");
                assert!(in_use, "{} ended: {log}", member.name());
                taken = true;
            }
            taken || {
                let mut nodes = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up());
                nodes.all(|node| self.url(node).is_some())
            }
        });
        assert!(all, "the control plane does not come up");
        !taken
    }

    /// Waits until there is a leader that knows all workers and state nodes.
    ///
    /// # Panics
    /// When that does not happen.
    pub fn wait_whole(&self) {
        let up = |members: &[Member]| members.iter().filter(|member| member.is_up()).count();
        let (workers, state_nodes) = (up(&self.workers), up(&self.state_nodes));
        self.wait("all workers and state nodes are connected", || {
            self.worker_tasks()
                .is_some_and(|known| known.len() == workers)
                && self
                    .state_node_shards()
                    .is_some_and(|known| known.len() == state_nodes)
        });
    }

    /// Starts one more node of the control plane, which then waits until it is added: its address.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_node(&mut self) -> String {
        let id = self.nodes.len() + 1;
        let present = (1..).zip(&self.addresses).zip(&self.nodes);
        let present = present.filter(|(_, node)| node.is_up());
        let present = present.map(|((id, address), _)| format!("{id}={address}"));
        let peers = present.collect::<Vec<_>>().join(",");
        for _ in 0..5 {
            let address = local(&lasting_ports(1)[0]);
            let spec = self.node_spec(id, &peers, &["--listen", &address]);
            self.nodes.push(Member::start(spec));
            if self.wait_listening() {
                self.addresses.push(address.clone());
                return address;
            }
            self.nodes.pop();
        }
        panic!("no port is free");
    }

    /// Starts one more state node over another store than the others have.
    pub fn start_foreign_state_node(&mut self) -> &mut Member {
        let store = format!("file://{}", self.folder.path().join("foreign").display());
        let mut spec =
            self.state_node_spec(self.config.per_tier + 1, &self.addresses, "127.0.0.1:0");
        let mut arguments = spec.arguments.iter_mut();
        let _option = arguments.find(|argument| *argument == "--store");
        if let Some(given) = arguments.next() {
            *given = store;
        }
        self.state_nodes.push(Member::start(spec));
        self.state_nodes.last_mut().expect("just started")
    }

    /// Starts one more worker, in another environment than the others have; it ends when it is
    /// dropped.
    #[must_use]
    pub fn start_stranger(&self, name: &str, variables: Vec<(String, String)>) -> Member {
        let nodes = self.addresses.join(",");
        let arguments = ["worker", "--control-plane", &nodes];
        let arguments = arguments.map(str::to_owned).to_vec();
        let mut spec = self.spec(name.to_owned(), arguments);
        let own = &self.config.variables;
        spec.variables.retain(|variable| !own.contains(variable));
        spec.variables.extend(variables);
        Member::start(spec)
    }

    /// What a command of a client prints; `Err`: what it complains about.
    ///
    /// # Errors
    /// When it fails.
    ///
    /// # Panics
    /// When it does not run.
    pub fn client(&self, arguments: &[&str]) -> Result<String, String> {
        let (stdout, stderr, success) = self.client_output(arguments);
        match success {
            true => Ok(stdout),
            false => Err(stderr),
        }
    }

    /// What a command of a client prints, what it complains about, and whether it was carried out.
    ///
    /// # Panics
    /// When it does not run.
    pub fn client_output(&self, arguments: &[&str]) -> (String, String, bool) {
        let urls = (0..self.nodes.len()).filter_map(|node| self.url(node));
        let output = Command::new(&self.config.program)
            .args(arguments)
            .envs(
                self.config
                    .variables
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .env("MILLSTREAM_URL", urls.collect::<Vec<_>>().join(","))
            .env("MILLSTREAM_TOKEN", Self::TOKEN)
            .stdin(Stdio::null())
            .output();
        let Output {
            status,
            stdout,
            stderr,
        } = output.expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(stdout), text(stderr), status.success())
    }

    /// Waits until all control-plane nodes that run know the same leader.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_nodes(&self) {
        self.wait("all nodes know one leader", || {
            let nodes = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up());
            let told: Vec<_> = nodes.map(|node| self.leader_told_by(node)).collect();
            told[0].is_some() && told.iter().all(|leader| *leader == told[0])
        });
    }

    /// All processes.
    pub fn members(&mut self) -> Vec<&mut Member> {
        let members = self.nodes.iter_mut().chain(&mut self.workers);
        members.chain(&mut self.state_nodes).collect()
    }

    /// Whether the process at this place among all is a worker.
    #[must_use]
    pub fn is_worker(&self, at: usize) -> bool {
        (self.nodes.len()..self.nodes.len() + self.workers.len()).contains(&at)
    }

    /// Where the control-plane nodes are for other processes.
    #[must_use]
    pub fn control_plane(&self) -> String {
        self.addresses.join(",")
    }

    /// A folder for what tests read and write.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The directory of a control-plane node's log.
    #[must_use]
    pub fn data_dir(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("data-{id}"))
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When it does not, with `what`.
    pub fn wait(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(wait_until(PATIENCE, holds), "not in time: {what}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let members = self.nodes.iter().chain(&self.workers);
            members.chain(&self.state_nodes).for_each(Member::show);
        }
    }
}

/// Told the name of a process, where it is to be reached, and where it is.
pub type Pass<'a> = dyn FnMut(&str, &str, &str) + 'a;

/// How processes reach each other.
enum Lines<'a, 'b> {
    /// By themselves.
    Direct,
    /// Workers and state nodes through something.
    Through(&'a mut Pass<'b>),
    /// Workers by a network.
    Of(&'a Network),
}

impl Lines<'_, '_> {
    fn at_host(&self, port: &u16) -> String {
        match self {
            Lines::Of(network) => format!("{}:{port}", network.host()),
            Lines::Direct | Lines::Through(_) => local(port),
        }
    }

    fn at_worker(&self, at: usize, port: &u16) -> String {
        match self {
            Lines::Of(network) => format!("{}:{port}", network.address(at)),
            Lines::Direct | Lines::Through(_) => local(port),
        }
    }

    /// Has a process reached that way; `worker`: it is this one.
    fn lay(&mut self, spec: &mut MemberSpec, address: &str, worker: Option<usize>) {
        match self {
            Lines::Direct => {}
            Lines::Through(pass) => {
                let listen = local(&lasting_ports(1)[0]);
                pass(&spec.name, &listen, address);
                spec.arguments.extend(["--advertise".to_owned(), listen]);
            }
            Lines::Of(network) => {
                if let Some(worker) = worker {
                    let program = std::mem::replace(&mut spec.program, "ip".into());
                    let within = ["netns", "exec", &network.space(worker)].map(str::to_owned);
                    let program = [program.display().to_string()];
                    let own = std::mem::take(&mut spec.arguments);
                    spec.arguments = within.into_iter().chain(program).chain(own).collect();
                }
            }
        }
    }
}

fn local(port: &u16) -> String {
    format!("127.0.0.1:{port}")
}
