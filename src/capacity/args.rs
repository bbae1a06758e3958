//! Which provider there is, and its bounds, as arguments.

use std::{num::NonZero, path::PathBuf, sync::Arc, thread};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use control_plane::capacity::{CapacityConfig, CapacityProvider};
use coordinator::capacity::CapacityPolicy;

use super::{command::CommandProvider, process::ProcessProvider, webhook::WebhookProvider};
use crate::{
    memory::{in_mib, part_for_each, part_of, size},
    run::duration_ms,
    serve::given_secret,
};

/// Variable that may hold what a webhook is shown.
const WEBHOOK_TOKEN: &str = "MILLSTREAM_CAPACITY_TOKEN";

/// Workers as jobs need them.
#[derive(Args, Debug)]
#[command(
    next_help_heading = "Workers as jobs need them",
    group = ArgGroup::new("capacity").args(["capacity_process", "capacity_command", "capacity_webhook"])
)]
pub(crate) struct CapacityArgs {
    /// Start worker processes on this machine as jobs need them, and let them leave again. Only for a
    /// control plane of one node.
    #[arg(long)]
    capacity_process: bool,
    /// Run this program whenever another number of workers is wanted: with the number as its argument,
    /// and the reason in MILLSTREAM_CAPACITY_REASON.
    #[arg(long, value_name = "PROGRAM")]
    capacity_command: Option<PathBuf>,
    /// POST {"wanted": 3, "reason": "…"} to this URL whenever another number of workers is wanted,
    /// with the token in MILLSTREAM_CAPACITY_TOKEN as bearer, if it is set.
    #[arg(long, value_name = "URL")]
    capacity_webhook: Option<String>,
    /// File with the token for --capacity-webhook, which is read anew for every request.
    #[arg(long, value_name = "FILE", requires = "capacity_webhook")]
    capacity_token_file: Option<PathBuf>,
    /// Tasks of each part of a job's plan that a worker has room for, over all jobs [default: the
    /// CPUs of this machine].
    #[arg(long, value_name = "N", requires = "capacity")]
    worker_slots: Option<NonZero<u32>>,
    /// Workers at least.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "capacity")]
    workers_min: u32,
    /// Workers at most.
    #[arg(long, value_name = "N", default_value = "8", requires = "capacity")]
    workers_max: NonZero<u32>,
    /// Memory for all workers of --capacity-process together: each is given an equal part, as if there
    /// were --workers-max of them [default: 80 % of what the control group or the machine has].
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "capacity_process",
        conflicts_with_all = ["capacity_command", "capacity_webhook"])]
    workers_memory: Option<u64>,
    /// Directory, on a local disk, where workers of --capacity-process keep state that their memory has
    /// no room for, rather than read it from the store again.
    #[arg(long, value_name = "DIR", requires = "capacity_process",
        conflicts_with_all = ["capacity_command", "capacity_webhook"])]
    workers_scratch_dir: Option<PathBuf>,
    /// Bytes of these files, for all workers together: each is given an equal part, as if there were
    /// --workers-max of them [default: 16GiB for each].
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "workers_scratch_dir")]
    workers_scratch_size: Option<u64>,
    /// How long fewer workers must be enough before any is let go.
    #[arg(long, value_name = "DURATION", default_value = "1min", value_parser = duration_ms, requires = "capacity")]
    workers_removal_delay: u64,
}

/// How a worker of this cluster is started.
#[derive(Clone, Debug)]
pub(crate) struct WorkerCommandLine {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Nodes of the control plane.
    pub(crate) nodes: usize,
}

impl CapacityArgs {
    /// The provider, if there is one.
    ///
    /// # Errors
    /// When its bounds are none, or it cannot be.
    pub(crate) fn config(
        &self,
        worker: impl FnOnce() -> anyhow::Result<WorkerCommandLine>,
    ) -> anyhow::Result<Option<CapacityConfig>> {
        let provider: Arc<dyn CapacityProvider> = if self.capacity_process {
            let worker = worker()?;
            if worker.nodes != 1 {
                bail!(
                    "--capacity-process starts workers beside the node that leads, and there are {} \
                     nodes: use --capacity-command or --capacity-webhook",
                    worker.nodes
                );
            }
            Arc::new(ProcessProvider::new(self.with_room(worker)?))
        } else if let Some(program) = &self.capacity_command {
            Arc::new(CommandProvider::new(program.clone()))
        } else if let Some(url) = &self.capacity_webhook {
            let token = given_secret(WEBHOOK_TOKEN)?;
            let file = self.capacity_token_file.clone();
            Arc::new(WebhookProvider::new(url, token, file)?)
        } else {
            return Ok(None);
        };
        let policy = self.policy()?;
        Ok(Some(CapacityConfig { policy, provider }))
    }

    /// A worker of this machine, with its part of memory and of scratch files.
    fn with_room(&self, mut worker: WorkerCommandLine) -> anyhow::Result<WorkerCommandLine> {
        let memory = part_for_each(self.workers_memory, self.workers_max)?;
        worker.arguments.extend(memory);
        if let Some(directory) = &self.workers_scratch_dir {
            let directory = directory.display().to_string();
            worker
                .arguments
                .extend(["--scratch-dir".to_owned(), directory]);
        }
        if let Some(size) = self.workers_scratch_size {
            let part = part_of("--workers-scratch-size", size, self.workers_max)?;
            worker
                .arguments
                .extend(["--scratch-size".to_owned(), in_mib(part)]);
        }
        Ok(worker)
    }

    fn policy(&self) -> anyhow::Result<CapacityPolicy> {
        let (min, max) = (self.workers_min, self.workers_max.get());
        if min > max {
            bail!("--workers-min is {min} and --workers-max {max}: the first must not be larger");
        }
        let slots = match self.worker_slots {
            Some(slots) => slots.get(),
            None => {
                let cpus = thread::available_parallelism();
                let cpus = cpus.context("failed to count CPUs: give --worker-slots")?;
                u32::try_from(cpus.get()).unwrap_or(u32::MAX)
            }
        };
        Ok(CapacityPolicy {
            slots_per_worker: slots,
            workers_min: min,
            workers_max: max,
            removal_delay_us: self.workers_removal_delay.saturating_mul(1000),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        capacity: CapacityArgs,
    }

    fn config(
        words: &[&str],
        nodes: usize,
    ) -> Result<Option<(CapacityPolicy, &'static str)>, String> {
        let words = ["x"].iter().chain(words);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let worker = || {
            Ok(WorkerCommandLine {
                program: "worker".into(),
                arguments: Vec::new(),
                nodes,
            })
        };
        let config = line.capacity.config(worker);
        let config = config.map_err(|error| format!("{error:#}"))?;
        Ok(config.map(|config| (config.policy, config.provider.name())))
    }

    #[test]
    fn there_is_one_provider_at_most() {
        assert_eq!(config(&[], 3), Ok(None));
        let name = |words: &[&str]| config(words, 1).map(|config| config.map(|(_, name)| name));
        assert_eq!(name(&["--capacity-process"]), Ok(Some("process")));
        assert_eq!(
            name(&["--capacity-command", "/bin/true"]),
            Ok(Some("command"))
        );
        let url = "http://127.0.0.1:1/workers";
        assert_eq!(name(&["--capacity-webhook", url]), Ok(Some("webhook")));
        let check = |words: &[&str], nodes, expected: &str| {
            let error = config(words, nodes).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        let two = ["--capacity-process", "--capacity-command", "x"];
        check(&two, 1, "cannot be used with");
        check(&["--capacity-process"], 3, "there are 3 nodes");
        check(&["--worker-slots", "2"], 1, "required");
        check(&["--capacity-webhook", "nowhere"], 1, "no URL");
        check(&["--capacity-webhook", "ftp://x"], 1, "http");
    }

    #[test]
    fn each_worker_has_its_part_of_memory_and_disk() {
        let line = |words: &[&str]| {
            let words = ["x", "--capacity-process"].iter().chain(words);
            Line::try_parse_from(words).map_err(|error| error.to_string())
        };
        let arguments = |words: &[&str]| {
            let worker = WorkerCommandLine {
                program: "worker".into(),
                arguments: vec!["worker".to_owned()],
                nodes: 1,
            };
            let worker = line(words)?.capacity.with_room(worker);
            worker
                .map(|worker| worker.arguments.join(" "))
                .map_err(|error| error.to_string())
        };
        let four = ["--workers-memory", "4GiB", "--workers-max", "4"];
        assert_eq!(arguments(&four), Ok("worker --memory 1024MiB".to_owned()));
        let default = arguments(&[]).expect("what there is");
        assert!(default.starts_with("worker --memory "), "{default}");
        let check = |words: &[&str], expected: &str| {
            let error = arguments(words).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        };
        check(&["--workers-memory", "1GiB"], "128MiB for each of 8");
        check(&["--workers-memory", "lots"], "a number and a unit");
        let disk = [
            "--workers-memory",
            "4GiB",
            "--workers-max",
            "4",
            "--workers-scratch-dir",
            "/scratch",
            "--workers-scratch-size",
            "8GiB",
        ];
        let expected = "worker --memory 1024MiB --scratch-dir /scratch --scratch-size 2048MiB";
        assert_eq!(arguments(&disk), Ok(expected.to_owned()));
        let disk = [
            "--workers-scratch-dir",
            "/x",
            "--workers-scratch-size",
            "1GiB",
        ];
        check(&disk, "--workers-scratch-size leaves 128MiB for each of 8");
        check(&["--workers-scratch-size", "8GiB"], "--workers-scratch-dir");
        let other = ["x", "--capacity-command", "y", "--workers-memory", "4GiB"];
        let error = Line::try_parse_from(other)
            .expect_err("of no use")
            .to_string();
        assert!(error.contains("cannot be used with"), "{error}");
    }

    #[test]
    fn bounds_have_defaults_and_fit() {
        let words = [
            "--capacity-process",
            "--worker-slots",
            "2",
            "--workers-max",
            "4",
        ];
        let (policy, _) = config(&words, 1).expect("good").expect("a provider");
        let expected = CapacityPolicy {
            slots_per_worker: 2,
            workers_min: 1,
            workers_max: 4,
            removal_delay_us: 60_000_000,
        };
        assert_eq!(policy, expected);
        let words = [
            "--capacity-process",
            "--workers-min",
            "5",
            "--workers-max",
            "4",
        ];
        let error = config(&words, 1).expect_err("refused");
        assert!(error.contains("must not be larger"), "{error}");
    }
}
