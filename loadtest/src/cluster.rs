//! A cluster of real processes on this machine: one node of the control plane, workers, state nodes,
//! over a directory. What workers print is read as it comes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    client::{Client, PAUSE},
    figures,
    listen::Printed,
};

/// How long it may take until all know each other.
const START_MAX: Duration = Duration::from_secs(120);
/// What they say of themselves, without what libraries do.
const LOG: &str = "info,openraft=warn,slatedb=warn";

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSpec {
    pub(crate) binary: PathBuf,
    /// For state and logs.
    pub(crate) folder: PathBuf,
    pub(crate) workers: usize,
    pub(crate) state_nodes: usize,
    /// Bytes for each of them; the binary's default where none are given.
    pub(crate) worker_memory: Option<u64>,
    pub(crate) state_node_memory: Option<u64>,
    /// Further arguments of the control plane.
    pub(crate) control_arguments: Vec<String>,
}

/// A running cluster; its processes are killed when it is dropped.
pub(crate) struct Cluster {
    control: Member,
    pub(crate) workers: Vec<Member>,
    state_nodes: Vec<Member>,
    pub(crate) client: Client,
    /// What the workers print.
    pub(crate) printed: Arc<Printed>,
    token: String,
}

/// A process of a cluster.
pub(crate) struct Member {
    name: String,
    process: Child,
    log: PathBuf,
    /// Where it serves its metrics, if that is looked at.
    metrics: Option<String>,
    /// The most memory it had, once it has been killed.
    peak_rss_bytes: Option<u64>,
}

impl Cluster {
    /// Starts one, and waits until all know each other.
    ///
    /// # Errors
    /// When it does not come up; what the process that ended has logged.
    pub(crate) fn start(spec: &ClusterSpec) -> anyhow::Result<Cluster> {
        let token = format!("{:016x}", RandomState::new().build_hasher().finish());
        let [address, rest] = free_ports()?.map(|port| format!("127.0.0.1:{port}"));
        let printed = Arc::new(Printed::default());
        let start = |name: String, arguments: &[String], prints: bool| {
            Member::start(spec, &token, name, arguments, prints)
        };
        let own = strings(&[
            "control-plane",
            "--id",
            "1",
            "--peers",
            &format!("1={address}"),
            "--data-dir",
            &spec.folder.join("control-plane").display().to_string(),
            "--rest",
            &rest,
        ]);
        let own = [own, spec.control_arguments.clone()].concat();
        let mut cluster = Cluster {
            control: start("control-plane".to_owned(), &own, false)?,
            workers: Vec::new(),
            state_nodes: Vec::new(),
            client: Client::new(format!("http://{rest}"), token.clone()),
            printed: Arc::clone(&printed),
            token: token.clone(),
        };
        for number in 1..=spec.state_nodes {
            let id = number.to_string();
            let store = format!("file://{}", spec.folder.join("store").display());
            let own = ["state-node", "--id", &id, "--control-plane", &address];
            let own = strings(&[&own[..], &["--store", &store]].concat());
            let own = [own, memory(spec.state_node_memory)].concat();
            let (metrics, own) = measured(own)?;
            let node = start(format!("state-node-{number}"), &own, false)?;
            cluster.state_nodes.push(Member {
                metrics: Some(metrics),
                ..node
            });
        }
        for number in 1..=spec.workers {
            // Each has a disk of its own.
            let scratch = spec.folder.join(format!("scratch-{number}"));
            let scratch = scratch.display().to_string();
            let own = [
                "worker",
                "--control-plane",
                &address,
                "--scratch-dir",
                &scratch,
            ];
            let own = strings(&own);
            let own = [own, memory(spec.worker_memory)].concat();
            let worker = start(format!("worker-{number}"), &own, true)?;
            cluster.workers.push(worker);
            let worker = cluster.workers.last_mut().context("a worker")?;
            let rows = worker.process.stdout.take().context("its output")?;
            printed.listen(u16::try_from(number - 1)?, rows)?;
        }
        cluster.until_whole()?;
        Ok(cluster)
    }

    fn until_whole(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        let (workers, state_nodes) = (self.workers.len(), self.state_nodes.len());
        loop {
            self.check_up()?;
            let known = |path: &str, list: &str| {
                let answer: Value = self.client.get(path).unwrap_or_default();
                let list = answer[list].as_array().cloned().unwrap_or_default();
                let connected = |one: &&Value| one["connected"] != false;
                list.iter().filter(connected).count()
            };
            let whole = known("/v1/workers", "workers") >= workers
                && known("/v1/state-nodes", "state_nodes") == state_nodes;
            if whole {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the cluster does not come up");
            thread::sleep(PAUSE);
        }
    }

    /// Fails if a process has ended that was not killed here: what it logged.
    pub(crate) fn check_up(&mut self) -> anyhow::Result<()> {
        let members = self.workers.iter_mut().chain(&mut self.state_nodes);
        for member in members.chain([&mut self.control]) {
            member.check_up()?;
        }
        Ok(())
    }

    /// The most memory that each process had so far, by its name.
    pub(crate) fn peak_rss_bytes(&self) -> BTreeMap<String, u64> {
        let members = self.workers.iter().chain(&self.state_nodes);
        let peak = |member: &Member| (member.name.clone(), member.peak_rss_bytes());
        members.chain([&self.control]).map(peak).collect()
    }

    /// Process number of the control plane, which may have workers of its own.
    pub(crate) fn control_process(&self) -> u32 {
        self.control.process.id()
    }

    /// What is at `/metrics` of the state nodes, one after the other.
    pub(crate) fn state_node_metrics(&self) -> anyhow::Result<String> {
        let addresses = self.state_nodes.iter();
        let addresses = addresses.filter_map(|node| node.metrics.as_ref());
        let client = |address| Client::new(format!("http://{address}"), self.token.clone());
        let texts = addresses.map(|address| client(address).metrics());
        Ok(texts.collect::<anyhow::Result<Vec<_>>>()?.concat())
    }
}

impl Member {
    fn start(
        spec: &ClusterSpec,
        token: &str,
        name: String,
        arguments: &[String],
        prints: bool,
    ) -> anyhow::Result<Member> {
        let log = spec.folder.join(format!("{name}.log"));
        let process = Command::new(&spec.binary)
            .args(arguments)
            .env("MILLSTREAM_TOKEN", token)
            .env("MILLSTREAM_LOG", LOG)
            .stdin(Stdio::null())
            .stdout(if prints {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("failed to run {}", spec.binary.display()))?;
        Ok(Member {
            name,
            process,
            log,
            metrics: None,
            peak_rss_bytes: None,
        })
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.peak_rss_bytes = Some(self.peak_rss_bytes());
        self.process.kill().context("failed to kill a process")
    }

    /// Stops it in the middle of what it does: it holds its connections and says nothing.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        let process = self.process.id().to_string();
        let sent = Command::new("kill").args(["-STOP", &process]).status();
        let sent = sent.context("failed to run kill")?;
        ensure!(sent.success(), "failed to stop {}", self.name);
        Ok(())
    }

    /// Waits for its end after it was killed.
    pub(crate) fn reap(&mut self) -> anyhow::Result<()> {
        self.process.wait()?;
        Ok(())
    }

    fn peak_rss_bytes(&self) -> u64 {
        let now = || figures::peak_rss_bytes(&self.process.id().to_string());
        self.peak_rss_bytes.unwrap_or_else(now)
    }

    fn check_up(&mut self) -> anyhow::Result<()> {
        if self.peak_rss_bytes.is_some() {
            return Ok(());
        }
        let ended = self.process.try_wait()?;
        let log = || fs::read_to_string(&self.log).unwrap_or_default();
        ensure!(
            ended.is_none(),
            "{} has ended: {}",
            self.name,
            last_lines(&log())
        );
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let members = self.workers.iter_mut().chain(&mut self.state_nodes);
        // The control plane last: workers that it started leave when it is gone.
        for member in members.chain([&mut self.control]) {
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

/// Arguments with a place to serve metrics at, and that place.
fn measured(arguments: Vec<String>) -> anyhow::Result<(String, Vec<String>)> {
    let [port] = free_ports()?;
    let metrics = format!("127.0.0.1:{port}");
    let own = strings(&["--metrics", &metrics]);
    Ok((metrics, [arguments, own].concat()))
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn memory(bytes: Option<u64>) -> Vec<String> {
    match bytes {
        Some(bytes) => strings(&["--memory", &mebibytes(bytes)]),
        None => Vec::new(),
    }
}

/// Bytes as the binary takes them.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

/// Ports that nobody has at the moment.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Processes that a process has started, and the most memory that each had so far.
pub(crate) fn children(of: u32) -> BTreeMap<u32, u64> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    let number = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    };
    let is_child = |process: &u32| parent(Path::new(&format!("/proc/{process}/stat"))) == Some(of);
    let peak = |process: u32| (process, figures::peak_rss_bytes(&process.to_string()));
    processes
        .filter_map(number)
        .filter(is_child)
        .map(peak)
        .collect()
}

/// The fourth field, counted after the command's name in brackets.
fn parent(stat: &Path) -> Option<u32> {
    let stat = fs::read_to_string(stat).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_know_their_parents() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let found = children(std::process::id());
        let peak = found.get(&child.id()).copied();
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(peak.is_some(), "{found:?}");
    }
}
