//! What a cluster is asked over REST, and what tests wait for.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    time::Duration,
};

use serde_json::{Value, json};
use ureq::{Agent, Body, http::Response};

use super::{Cluster, PATIENCE};
use crate::{exposition::parse, wait_until};

/// How long one request may take; longer than the server's own deadlines.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// A metric of workers.
const ROWS_OUT: &str = "millstream_operator_rows_out_total";

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

    /// Changes a job at whatever node takes it: status and body.
    ///
    /// # Errors
    /// When none answers.
    pub fn patch_job(&self, job: &str, change: &Value) -> Result<(u16, String), String> {
        self.ask_any(|url| {
            let request = agent().patch(format!("{url}/v1/jobs/{job}"));
            let request = request.header("Authorization", format!("Bearer {}", Self::TOKEN));
            let request = request.header("Content-Type", "application/json");
            answer(request.send(change.to_string()))
        })
    }

    /// Gives a job another parallelism and waits until it has it.
    ///
    /// # Panics
    /// When it is refused or given up.
    pub fn rescale(&self, job: &str, parallelism: u32) {
        let change = json!({ "parallelism": parallelism });
        self.wait("a rescale is taken", || {
            match self.patch_job(job, &change) {
                Ok((202, _)) => true,
                Ok((503, _)) | Err(_) => false,
                Ok(other) => panic!("{other:?}"),
            }
        });
        self.wait("a rescale is done", || {
            let Some(view) = self.get(&format!("/v1/jobs/{job}")) else {
                return false;
            };
            assert_eq!(view["rescale_error"], Value::Null, "{view}");
            view["parallelism"] == parallelism && view["rescale"] == Value::Null
        });
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

    /// The node that leads, as far as any node knows at the moment.
    #[must_use]
    pub fn leader_now(&self) -> Option<usize> {
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
        self.wait_state_within(id, state, Duration::ZERO);
    }

    /// The same, for a job that may still need so much time in which nothing is wrong.
    ///
    /// # Panics
    /// When it does not get there in that time and the usual one.
    pub fn wait_state_within(&self, id: &str, state: &str, work: Duration) {
        let mut last = None;
        let reached = wait_until(PATIENCE + work, || {
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
        self.counted(worker, ROWS_OUT, job)
    }

    /// What a job's operators on a worker have counted in all, since it started there.
    ///
    /// # Panics
    /// When it does not say.
    #[must_use]
    pub fn counted(&self, worker: usize, metric: &str, job: &str) -> f64 {
        let url = format!("http://{}", self.metrics[worker]);
        let (status, text) = answer(self.open(&url, "/metrics")).expect("metrics");
        assert_eq!(status, 200, "{text}");
        let samples = parse(&text).expect("metrics");
        let job = format!("job=\"{job}\"");
        let counts = samples
            .iter()
            .filter(|(name, _)| name.starts_with(metric) && name.contains(&job));
        counts.map(|(_, value)| value).sum()
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

/// Where the process with an id is in its list.
fn index(id: u64) -> usize {
    usize::try_from(id).expect("small") - 1
}

pub(super) fn agent() -> Agent {
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
