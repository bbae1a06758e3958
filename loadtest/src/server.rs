//! `millstream dev` as a process of its own, asked over REST as its users ask it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::Instant;
use ureq::Agent;

use crate::{
    figures,
    report::{JobReport, RunReport},
};

/// How long it may take to start, and to answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long a job may run.
const JOB_MAX: Duration = Duration::from_secs(3600);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A running server; killed when dropped.
pub(crate) struct Server {
    process: Child,
    log: PathBuf,
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

#[derive(Deserialize)]
struct Job {
    state: String,
    generation: u64,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Checkpoints {
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Deserialize)]
struct Metrics {
    operators: Vec<Operator>,
}

#[derive(Deserialize)]
struct Operator {
    description: String,
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    rows_in: u64,
}

impl Server {
    /// Starts it over the store and waits until it is up. `folder` takes what it prints.
    ///
    /// # Errors
    /// When it does not come up; what it printed.
    pub(crate) fn start(binary: &Path, store: &str, folder: &Path) -> anyhow::Result<Server> {
        let log = folder.join("stderr");
        let process = Command::new(binary)
            .args(["dev", "--listen", "127.0.0.1:0", "--store", store])
            // It draws one and prints it.
            .env_remove("MILLSTREAM_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("failed to run {}", binary.display()))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(ANSWER_MAX));
        let mut server = Server {
            process,
            log,
            url: String::new(),
            token: String::new(),
            agent: config.build().into(),
        };
        let deadline = Instant::now() + ANSWER_MAX;
        while !server.introduced()? {
            let ended = server.process.try_wait()?;
            ensure!(ended.is_none(), "the server ended: {}", server.printed());
            let late = Instant::now() >= deadline;
            ensure!(!late, "the server does not start: {}", server.printed());
            thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// Runs a script of one job to the job's end.
    ///
    /// # Errors
    /// When it is refused, fails, or does not end in an hour.
    pub(crate) fn run(&self, script: &str) -> anyhow::Result<RunReport> {
        let started = Instant::now();
        let response = self
            .agent
            .post(format!("{}/v1/statements", self.url))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .send(json!({ "sql": script }).to_string());
        let statements: Statements = read(response)?;
        let mut jobs = statements.results.into_iter().filter_map(|one| one.job);
        let (Some(id), None) = (jobs.next(), jobs.next()) else {
            bail!("expected one job");
        };
        self.until_finished(&id, started + JOB_MAX)?;
        // Before anything else is asked, which costs as well.
        let process = self.process.id().to_string();
        let cpu_seconds = figures::cpu_seconds(&process);
        let wall_seconds = started.elapsed().as_secs_f64();
        Ok(RunReport {
            jobs: vec![self.report(&id)?],
            wall_seconds,
            cpu_seconds,
            peak_rss_bytes: figures::peak_rss_bytes(&process),
        })
    }

    fn until_finished(&self, id: &str, deadline: Instant) -> anyhow::Result<()> {
        loop {
            let job: Job = self.get(&format!("/v1/jobs/{id}"))?;
            let cause = job.error.unwrap_or_default();
            // Figures of a run that began again are no figures.
            ensure!(job.generation <= 1, "the job failed: {cause}");
            match job.state.as_str() {
                "FINISHED" => return Ok(()),
                "FAILED" | "CANCELED" => bail!("the job has ended as {}: {cause}", job.state),
                _ => ensure!(Instant::now() < deadline, "the job does not end"),
            }
            thread::sleep(PAUSE);
        }
    }

    fn report(&self, id: &str) -> anyhow::Result<JobReport> {
        let checkpoints: Checkpoints = self.get(&format!("/v1/jobs/{id}/checkpoints"))?;
        let metrics: Metrics = self.get(&format!("/v1/jobs/{id}/metrics"))?;
        let operators = metrics.operators.iter();
        let sinks = operators.filter(|operator| operator.description.starts_with("Sink("));
        let tasks = sinks.flat_map(|sink| &sink.tasks);
        Ok(JobReport {
            output_rows: tasks.map(|task| task.rows_in).sum(),
            checkpoints: checkpoints.count,
            checkpoint_ms_p50: checkpoints.p50_ms,
            checkpoint_ms_p99: checkpoints.p99_ms,
            object_store_requests: self.requests()?,
        })
    }

    /// Requests to the object store by kind, of all that the server does for jobs' state.
    fn requests(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let request = self.agent.get(format!("{}/metrics", self.url));
        let response = request
            .header("Authorization", format!("Bearer {}", self.token))
            .call();
        let text = response?.body_mut().read_to_string()?;
        Ok(requests(&text))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let response = request
            .header("Authorization", format!("Bearer {}", self.token))
            .call();
        read(response).with_context(|| format!("failed to get {path}"))
    }

    /// Whether it has said where it is and what it asks clients for.
    fn introduced(&mut self) -> anyhow::Result<bool> {
        let Some((url, token)) = introduction(&fs::read_to_string(&self.log)?) else {
            return Ok(false);
        };
        (self.url, self.token) = (url, token);
        Ok(true)
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read<T: DeserializeOwned>(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> anyhow::Result<T> {
    let mut response = response.context("the server does not answer")?;
    let text = response.body_mut().read_to_string()?;
    ensure!(response.status().is_success(), "{text}");
    serde_json::from_str(&text).with_context(|| format!("cannot read {text}"))
}

/// Address and token out of what a server prints, once it has printed all of both.
fn introduction(log: &str) -> Option<(String, String)> {
    let word = |name: &str| {
        let line = log
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))?;
        Some(line.split_whitespace().next()?.to_owned())
    };
    let (url, token) = (word("REST API ")?, word("token ")?);
    // The line after both.
    word("metrics ")?;
    Some((url.strip_suffix("/v1")?.to_owned(), token))
}

/// The series of the metric that counts requests, by operation.
fn requests(metrics: &str) -> BTreeMap<String, u64> {
    let series = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("millstream_object_store_requests_total{")?;
        let (labels, value) = rest.split_once("} ")?;
        let (_, operation) = labels.split_once("operation=\"")?;
        let operation = operation.split('"').next()?;
        let value = value.split_whitespace().next()?.parse::<f64>().ok()?;
        Some((operation.to_owned(), value as u64))
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_once_it_has_said_all() {
        let log = "Millstream is running; Ctrl-C stops it.\n  REST API  http://127.0.0.1:4/v1  (x)\n  \
                   token     0af3\n  metrics   http://127.0.0.1:4/metrics  (y)\n";
        let known = ("http://127.0.0.1:4".to_owned(), "0af3".to_owned());
        assert_eq!(introduction(log), Some(known));
        let cut = log.find("metrics").expect("it is there");
        assert_eq!(introduction(&log[..cut]), None);
    }

    #[test]
    fn requests_are_read_from_metrics() {
        let metrics = "# TYPE x counter\n\
            millstream_object_store_requests_total{operation=\"put\",a=\"b\"} 12\n\
            millstream_object_store_requests_total{operation=\"get\"} 3\nother 4\n";
        let expected = [("get".to_owned(), 3), ("put".to_owned(), 12)];
        assert_eq!(requests(metrics), BTreeMap::from(expected));
    }
}
