//! `millstream dev` as a process of its own, asked over REST as its users ask it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    client::{Client, Operator, PAUSE},
    figures,
    report::{JobReport, RunReport},
    scrape,
};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a job may run.
const JOB_MAX: Duration = Duration::from_secs(3600);

/// A running server; killed when dropped.
pub(crate) struct Server {
    process: Child,
    log: PathBuf,
    pub(crate) client: Client,
}

#[derive(Deserialize)]
struct Checkpoints {
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Server {
    /// Starts it over the store, with these arguments more, and waits until it is up. `folder` takes
    /// what it prints.
    ///
    /// # Errors
    /// When it does not come up; what it printed.
    pub(crate) fn start(
        binary: &Path,
        store: &str,
        folder: &Path,
        more: &[String],
    ) -> anyhow::Result<Server> {
        let log = folder.join("stderr");
        let process = Command::new(binary)
            .args(["dev", "--listen", "127.0.0.1:0", "--store", store])
            .args(more)
            // It draws one and prints it.
            .env_remove("MILLSTREAM_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("failed to run {}", binary.display()))?;
        let mut server = Server {
            process,
            log,
            client: Client::new(String::new(), String::new()),
        };
        let deadline = Instant::now() + START_MAX;
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
        let id = self.client.execute(script)?;
        self.client.until(&id, "FINISHED", JOB_MAX, |job| {
            // Figures of a run that began again are no figures.
            let cause = job.error.clone().unwrap_or_default();
            ensure!(job.generation <= 1, "the job failed: {cause}");
            Ok(job.state == "FINISHED")
        })?;
        // Before anything else is asked, which costs as well.
        let process = self.process.id().to_string();
        let cpu_seconds = figures::cpu_seconds(&process);
        let wall_seconds = started.elapsed().as_secs_f64();
        Ok(RunReport {
            jobs: vec![self.report(&id)?],
            wall_seconds,
            cpu_seconds,
            peak_rss_bytes: self.peak_rss_bytes(),
        })
    }

    /// User and system time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        figures::cpu_seconds(&self.process.id().to_string())
    }

    /// The most memory that it has had.
    pub(crate) fn peak_rss_bytes(&self) -> u64 {
        figures::peak_rss_bytes(&self.process.id().to_string())
    }

    /// Fails if it has ended: what it printed.
    pub(crate) fn check_up(&mut self) -> anyhow::Result<()> {
        let ended = self.process.try_wait()?;
        ensure!(ended.is_none(), "the server ended: {}", self.printed());
        Ok(())
    }

    fn report(&self, id: &str) -> anyhow::Result<JobReport> {
        let checkpoints: Checkpoints = self.client.get(&format!("/v1/jobs/{id}/checkpoints"))?;
        let operators = self.client.operators(id)?;
        let state = |operator: &Operator| operator.sum(|task| task.state_bytes);
        let state_bytes = operators.iter().map(state).sum();
        let sinks = operators.iter();
        let sinks = sinks.filter(|operator| operator.description.starts_with("Sink("));
        let metrics = self.client.metrics()?;
        Ok(JobReport {
            output_rows: sinks.map(|sink| sink.sum(|task| task.rows_in)).sum(),
            checkpoints: checkpoints.count,
            checkpoint_ms_p50: checkpoints.p50_ms,
            checkpoint_ms_p99: checkpoints.p99_ms,
            state_bytes,
            object_store_requests: scrape::by_operation(&metrics, scrape::REQUESTS),
        })
    }

    /// Whether it has said where it is and what it asks clients for.
    fn introduced(&mut self) -> anyhow::Result<bool> {
        let Some((url, token)) = introduction(&fs::read_to_string(&self.log)?) else {
            return Ok(false);
        };
        self.client = Client::new(url, token);
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
}
