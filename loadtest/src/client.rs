//! A server's REST API, asked as its users ask it.

use std::{thread, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;
use ureq::{Agent, Body, http::Response};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Asks one server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    url: String,
    token: String,
    agent: Agent,
}

#[derive(Deserialize)]
struct Statements {
    results: Vec<StatementResult>,
}

#[derive(Deserialize)]
struct StatementResult {
    job: Option<String>,
}

/// A job, as far as it is looked at.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) generation: u64,
    pub(crate) created_ms: i64,
    pub(crate) parallelism: u32,
    pub(crate) error: Option<String>,
    pub(crate) rescale: Option<String>,
    pub(crate) rescale_error: Option<String>,
}

/// An operator of a job, as `/metrics` of the job has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Operator {
    pub(crate) id: String,
    pub(crate) description: String,
    pub(crate) tasks: Vec<Task>,
}

/// An operator's part on one task.
#[derive(Debug, Deserialize)]
pub(crate) struct Task {
    pub(crate) index: u32,
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) state_misses: u64,
    pub(crate) evicted_keys: u64,
    pub(crate) scratch_reads: u64,
    pub(crate) state_rows: u64,
    pub(crate) state_bytes: u64,
    pub(crate) watermark_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Metrics {
    operators: Vec<Operator>,
}

impl Operator {
    /// A figure of all its tasks.
    pub(crate) fn sum(&self, figure: impl Fn(&Task) -> u64) -> u64 {
        self.tasks.iter().map(figure).sum()
    }
}

impl Client {
    /// For the server at a URL without a path.
    pub(crate) fn new(url: String, token: String) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(ANSWER_MAX));
        Client {
            url,
            token,
            agent: config.build().into(),
        }
    }

    /// Executes statements that make one job: its id.
    ///
    /// # Errors
    /// When they are refused.
    pub(crate) fn execute(&self, sql: &str) -> anyhow::Result<String> {
        let answer = self.post("/v1/statements", &json!({ "sql": sql }))?;
        let statements: Statements = serde_json::from_value(answer)?;
        let mut jobs = statements.results.into_iter().filter_map(|one| one.job);
        match (jobs.next(), jobs.next()) {
            (Some(id), None) => Ok(id),
            _ => bail!("expected one job"),
        }
    }

    pub(crate) fn job(&self, id: &str) -> anyhow::Result<Job> {
        self.get(&format!("/v1/jobs/{id}"))
    }

    /// The operators of a job, with their figures.
    pub(crate) fn operators(&self, id: &str) -> anyhow::Result<Vec<Operator>> {
        let metrics: Metrics = self.get(&format!("/v1/jobs/{id}/metrics"))?;
        Ok(metrics.operators)
    }

    /// Looks at a job until it is as it should be, and fails if it ends or restarts meanwhile.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) fn until(
        &self,
        id: &str,
        what: &str,
        most: Duration,
        mut is: impl FnMut(&Job) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Job> {
        let deadline = Instant::now() + most;
        loop {
            let job = self.job(id)?;
            if is(&job)? {
                return Ok(job);
            }
            let ended = matches!(job.state.as_str(), "FAILED" | "CANCELED" | "QUARANTINED");
            let cause = job.error.unwrap_or_default();
            ensure!(!ended, "{id} is {} instead: {cause}", job.state);
            let late = Instant::now() >= deadline;
            ensure!(
                !late,
                "{id} is not {what} in {} s: {} {cause}",
                most.as_secs(),
                job.state
            );
            thread::sleep(PAUSE);
        }
    }

    /// Waits until a job runs.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn until_running(&self, id: &str) -> anyhow::Result<Job> {
        let running = |job: &Job| Ok(job.state == "RUNNING");
        self.until(id, "RUNNING", ANSWER_MAX, running)
    }

    /// What is at `/metrics`.
    pub(crate) fn metrics(&self) -> anyhow::Result<String> {
        let response = self.call("/metrics");
        Ok(response?.body_mut().read_to_string()?)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        read(self.call(path)).with_context(|| format!("failed to get {path}"))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json");
        read(request.send(body.to_string())).with_context(|| format!("failed to post to {path}"))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.patch(format!("{}{path}", self.url));
        let request = request
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json");
        read(request.send(body.to_string())).with_context(|| format!("failed to patch {path}"))
    }

    fn call(&self, path: &str) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.get(format!("{}{path}", self.url));
        request
            .header("Authorization", format!("Bearer {}", self.token))
            .call()
    }
}

fn read<T: DeserializeOwned>(response: Result<Response<Body>, ureq::Error>) -> anyhow::Result<T> {
    let mut response = response.context("the server does not answer")?;
    let text = response.body_mut().read_to_string()?;
    ensure!(response.status().is_success(), "{text}");
    serde_json::from_str(&text).with_context(|| format!("cannot read {text}"))
}
