//! A cluster of real processes on this machine: three nodes of the control plane, two workers, two
//! state nodes. Tests kill them, hold them up, start them again, and ask any of them over REST.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::{Agent, Body, http::Response};

use crate::{
    exposition::parse,
    member::{Member, MemberSpec},
    tool::lasting_ports,
    wait_until,
};

/// What takes longer will never be: elections, restarts and moves of state take seconds, on a machine
/// that has other things to do tens of seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long one request may take; longer than the server's own deadlines.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What they say of themselves, without what libraries do.
const LOG: &str = "info,openraft=warn,slatedb=warn";

/// A metric of workers.
const ROWS_OUT: &str = "millstream_operator_rows_out_total";

/// Control-plane nodes at first.
const NODES: usize = 3;

/// Workers, and state nodes.
const PER_TIER: usize = 2;

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
    /// URL of the object store; none: a directory of its own.
    pub store: Option<String>,
    /// Environment of every process.
    pub variables: Vec<(String, String)>,
}

/// A job as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobStatus {
    /// Its state: `RUNNING`.
    pub state: String,
    /// The last committed epoch.
    pub epoch: u64,
    /// Grows with every restart.
    pub generation: u64,
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
        let started = (0..5).find_map(|_| Cluster::try_start(config));
        let cluster = started.expect("some ports are free");
        cluster.wait_whole();
        cluster
    }

    /// `None`: a port was taken by somebody else.
    fn try_start(config: &ClusterConfig) -> Option<Cluster> {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            workers: Vec::new(),
            state_nodes: Vec::new(),
            metrics: Vec::new(),
            addresses: Vec::new(),
            agent: agent(),
            config: config.clone(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let ports = lasting_ports(NODES + 3 * PER_TIER);
        let (of_nodes, others) = ports.split_at(NODES);
        let (of_workers, others) = others.split_at(PER_TIER);
        let (of_metrics, of_state_nodes) = others.split_at(PER_TIER);
        let peers: Vec<String> = (1..)
            .zip(of_nodes)
            .map(|(id, port)| format!("{id}=127.0.0.1:{port}"))
            .collect();
        let addresses: Vec<String> = of_nodes.iter().map(local).collect();
        cluster.addresses.clone_from(&addresses);
        for id in 1..=NODES {
            let node = cluster.node_spec(id, &peers.join(","), &[]);
            cluster.nodes.push(Member::start(node));
        }
        cluster.metrics = of_metrics.iter().map(local).collect();
        for (at, port) in of_workers.iter().enumerate() {
            let worker = cluster.worker_spec(at, &addresses, &local(port));
            cluster.workers.push(Member::start(worker));
        }
        for (at, port) in of_state_nodes.iter().enumerate() {
            let node = cluster.state_node_spec(at + 1, &addresses, &local(port));
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
        let arguments = arguments.map(|argument| (*argument).to_owned()).collect();
        self.spec(name, arguments)
    }

    fn worker_spec(&self, at: usize, nodes: &[String], listen: &str) -> MemberSpec {
        let (nodes, metrics) = (nodes.join(","), &self.metrics[at]);
        let arguments = ["worker", "--control-plane", &nodes, "--listen", listen];
        let arguments = arguments.into_iter().chain(["--metrics", metrics]);
        let arguments = arguments.map(str::to_owned).collect();
        self.spec(format!("worker-{}", at + 1), arguments)
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
        let mut spec = self.state_node_spec(PER_TIER + 1, &self.addresses, "127.0.0.1:0");
        let mut arguments = spec.arguments.iter_mut();
        let _option = arguments.find(|argument| *argument == "--store");
        if let Some(given) = arguments.next() {
            *given = store;
        }
        self.state_nodes.push(Member::start(spec));
        self.state_nodes.last_mut().expect("just started")
    }

    /// What a command of a client prints; `Err`: what it complains about.
    ///
    /// # Errors
    /// When it fails.
    ///
    /// # Panics
    /// When it does not run.
    pub fn client(&self, arguments: &[&str]) -> Result<String, String> {
        let urls = (0..self.nodes.len()).filter_map(|node| self.url(node));
        let output = Command::new(&self.config.program)
            .args(arguments)
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
        match status.success() {
            true => Ok(text(stdout)),
            false => Err(text(stderr)),
        }
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

    /// Executes statements at some node, as soon as there is a leader: the ids of the jobs.
    ///
    /// # Panics
    /// When they are refused.
    #[must_use]
    pub fn execute(&self, sql: &str) -> Vec<String> {
        let node = (0..self.nodes.len()).find(|node| self.nodes[*node].is_up());
        let node = node.expect("a node");
        let mut answered = None;
        self.wait("statements are taken", || {
            // One that still hands requests to a leader that is dead cannot say what became of them.
            if self.leader_told_by(node).is_none() {
                return false;
            }
            let (status, body) = self.execute_at(node, sql).expect("an answer");
            let again = status == 503 && !body.contains("it may have happened");
            answered = (!again).then_some((status, body));
            answered.is_some()
        });
        let (status, body) = answered.expect("just answered");
        assert_eq!(status, 201, "{body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let results = body["results"].as_array().expect("results");
        let jobs = results.iter().filter_map(|result| result["job"].as_str());
        jobs.map(str::to_owned).collect()
    }

    /// Posts statements to one node: status and body.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn execute_at(&self, node: usize, sql: &str) -> Result<(u16, String), String> {
        let url = self.url(node).ok_or("it is not up")?;
        Cluster::execute_at_url(&url, sql)
    }

    /// The same where the node is known to be, even if it is held up at the moment.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn execute_at_url(url: &str, sql: &str) -> Result<(u16, String), String> {
        let request = agent().post(format!("{url}/v1/statements"));
        let request = request.header("Authorization", format!("Bearer {}", Self::TOKEN));
        let request = request.header("Content-Type", "application/json");
        answer(request.send(json!({ "sql": sql }).to_string()))
    }

    /// Gets a path from one node: status and body.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get_at(&self, node: usize, path: &str) -> Result<(u16, String), String> {
        let url = self.url(node).ok_or("it is not up")?;
        answer(self.open(&url, path))
    }

    /// The objects of an NDJSON answer of one node, as they come, until it breaks off.
    ///
    /// # Panics
    /// When it answers something else.
    pub fn lines_at(&self, node: usize, path: &str) -> impl Iterator<Item = Value> + use<> {
        let url = self.url(node).expect("it is up");
        let response = self.open(&url, path).expect("an answer");
        assert_eq!(response.status(), 200);
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        let lines = lines.map_while(Result::ok);
        // A blank line says that the server is still there.
        let lines = lines.filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(&line).expect("JSON"))
    }

    fn open(&self, url: &str, path: &str) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.get(format!("{url}{path}"));
        let request = request.header("Authorization", format!("Bearer {}", Self::TOKEN));
        request.call()
    }

    /// What any node answers; `None` while there is no leader.
    ///
    /// # Panics
    /// When it answers something else than 200 or 503.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        let (status, body) = self.ask_any(|url| answer(self.open(url, path))).ok()?;
        match status {
            200 => Some(serde_json::from_str(&body).expect("JSON")),
            503 => None,
            _ => panic!("{path}: {status} {body}"),
        }
    }

    /// The answer of the first node that gives one.
    fn ask_any(
        &self,
        ask: impl Fn(&str) -> Result<(u16, String), String>,
    ) -> Result<(u16, String), String> {
        let mut last = Err("no node is up".to_owned());
        for node in 0..self.nodes.len() {
            let Some(url) = self.url(node) else { continue };
            last = ask(&url);
            if last.as_ref().is_ok_and(|(status, _)| *status != 503) {
                break;
            }
        }
        last
    }

    /// Where a node serves clients, if it is up.
    #[must_use]
    pub fn url(&self, node: usize) -> Option<String> {
        let node = self.nodes.get(node).filter(|node| node.is_up())?;
        let log = node.log();
        let line = log
            .lines()
            .find_map(|line| line.trim().strip_prefix("REST API  "))?;
        line.split("/v1").next().map(str::to_owned)
    }

    /// The node that leads; waits until there is one.
    ///
    /// # Panics
    /// When there is none.
    #[must_use = "or wait for something else"]
    pub fn leader(&self) -> usize {
        let mut leader = None;
        self.wait("a leader", || {
            leader = self.leader_now();
            leader.is_some()
        });
        leader.expect("just found")
    }

    fn leader_now(&self) -> Option<usize> {
        (0..self.nodes.len()).find_map(|node| self.leader_told_by(node))
    }

    /// The node that leads, as some node says.
    #[must_use]
    pub fn leader_told_by(&self, node: usize) -> Option<usize> {
        let (200, cluster) = self.get_at(node, "/v1/cluster").ok()? else {
            return None;
        };
        let cluster: Value = serde_json::from_str(&cluster).expect("JSON");
        let nodes = cluster["nodes"].as_array().expect("nodes");
        let leader = nodes.iter().find(|node| node["leader"] == true)?;
        Some(index(leader["id"].as_u64().expect("an id")))
    }

    /// A job, if there is a leader.
    ///
    /// # Panics
    /// When there is no such job.
    #[must_use]
    pub fn job(&self, id: &str) -> Option<JobStatus> {
        let job = self.get(&format!("/v1/jobs/{id}"))?;
        Some(JobStatus {
            state: job["state"].as_str().expect("text").to_owned(),
            epoch: job["committed_epoch"].as_u64().expect("a number"),
            generation: job["generation"].as_u64().expect("a number"),
        })
    }

    /// Whether there is a table of this name.
    ///
    /// # Panics
    /// When there is no leader.
    #[must_use]
    pub fn has_table(&self, name: &str) -> bool {
        let tables = self.get("/v1/tables").expect("a leader");
        let mut tables = tables["tables"].as_array().expect("tables").iter();
        tables.any(|table| table["name"] == name)
    }

    /// Waits until a job has come to a state.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_state(&self, id: &str, state: &str) {
        let mut last = None;
        let reached = wait_until(PATIENCE, || {
            last = self.job(id).or(last.take());
            last.as_ref().is_some_and(|job| job.state == state)
        });
        assert!(reached, "{id} is not {state}: {last:?}");
    }

    /// Waits until a job that runs has committed some epochs more: what it is then.
    ///
    /// # Panics
    /// When it does not, or has ended.
    pub fn wait_progress(&self, id: &str) -> JobStatus {
        let (mut first, mut last) = (None, None);
        self.wait(&format!("{id} commits"), || {
            last = self.job(id);
            let Some(job) = &last else {
                return false;
            };
            assert_ne!(job.state, "FINISHED", "the test came too late");
            job.epoch >= *first.get_or_insert(job.epoch) + 3
        });
        last.expect("just seen")
    }

    /// Waits until every worker runs tasks.
    ///
    /// # Panics
    /// When one does not.
    pub fn wait_all_work(&self) {
        self.wait("every worker runs tasks", || {
            let tasks = self.worker_tasks().unwrap_or_default();
            tasks.len() == self.workers.len() && tasks.iter().all(|(_, tasks)| *tasks > 0)
        });
    }

    /// Addresses of connected workers, with how many tasks each runs; `None`: no leader.
    ///
    /// # Panics
    /// When the answer is not what it should be.
    #[must_use]
    pub fn worker_tasks(&self) -> Option<Vec<(String, u64)>> {
        let answer = self.get("/v1/workers")?;
        let workers = answer["workers"].as_array().expect("workers").iter();
        let view = |worker: &Value| {
            let address = worker["address"].as_str().expect("an address");
            (
                address.to_owned(),
                worker["tasks"].as_u64().expect("a number"),
            )
        };
        Some(workers.map(view).collect())
    }

    /// Rows that a job's operators on a worker have given in all, since it started there.
    ///
    /// # Panics
    /// When it does not say.
    #[must_use]
    pub fn rows_out(&self, worker: usize, job: &str) -> f64 {
        let url = format!("http://{}", self.metrics[worker]);
        let (status, text) = answer(self.open(&url, "/metrics")).expect("metrics");
        assert_eq!(status, 200, "{text}");
        let samples = parse(&text).expect("metrics");
        let job = format!("job=\"{job}\"");
        let rows = samples
            .iter()
            .filter(|(name, _)| name.starts_with(ROWS_OUT) && name.contains(&job));
        rows.map(|(_, value)| value).sum()
    }

    /// State nodes that are connected, with how many shards each serves; `None`: no leader.
    ///
    /// # Panics
    /// When the answer is not what it should be.
    #[must_use]
    pub fn state_node_shards(&self) -> Option<BTreeMap<usize, u64>> {
        let answer = self.get("/v1/state-nodes")?;
        let nodes = answer["state_nodes"].as_array().expect("state nodes");
        let connected = nodes.iter().filter(|node| node["connected"] == true);
        let view = |node: &Value| {
            let id = node["id"].as_str().and_then(|id| id.strip_prefix("sn_"));
            let id = id.and_then(|id| id.parse().ok()).expect("an id");
            (index(id), node["shards"].as_u64().expect("a number"))
        };
        Some(connected.map(view).collect())
    }

    /// A state node that serves shards; waits until there is one.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn busy_state_node(&self) -> usize {
        let mut busy = None;
        self.wait("a state node serves shards", || {
            let shards = self.state_node_shards().unwrap_or_default();
            busy = shards.into_iter().max_by_key(|(_, shards)| *shards);
            busy.is_some_and(|(_, shards)| shards > 0)
        });
        busy.expect("just found").0
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

/// Where the process with an id is in its list.
fn index(id: u64) -> usize {
    usize::try_from(id).expect("small") - 1
}

fn local(port: &u16) -> String {
    format!("127.0.0.1:{port}")
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        // A process that is killed and starts again has another port.
        .max_idle_connections(0)
        .timeout_global(Some(REQUEST_MAX));
    config.build().into()
}

fn answer(response: Result<Response<Body>, ureq::Error>) -> Result<(u16, String), String> {
    let mut response = response.map_err(|error| error.to_string())?;
    let text = response.body_mut().read_to_string();
    let text = text.map_err(|error| error.to_string())?;
    Ok((response.status().as_u16(), text))
}
