//! What the control plane and a worker say to each other on their control stream. In one process
//! the values are handed over as they are.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    log::LogObject,
    plan::Plan,
    policy::{AutoscalePolicy, RestartStrategy},
    types::{Epoch, Generation, JobId, KeyGroupCount, KeyGroupMap, SinkId, TaskId, WorkerId},
};

/// One task of a job: instance `index` of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Number within the job; its section of an epoch is named by it.
    pub task: TaskId,
    /// `Fragment.id`
    pub fragment: u32,
    /// Place among the fragment's tasks.
    pub index: u32,
}

/// How a job runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobOptions {
    /// Tasks per fragment that is not a singleton.
    pub parallelism: u32,
    /// Rows that a batch should have.
    pub batch_rows: usize,
    /// Time between checkpoints; 0: only the one at the end of bounded input.
    pub checkpoint_interval_ms: u64,
    /// Restarts in a row after failures before the job is given up, where the strategy names no
    /// number of its own.
    pub restarts_max: u32,
    /// Whether and when it starts again after a failure.
    #[serde(default)]
    pub restart: RestartStrategy,
    /// Within what its parallelism follows its load; `None`: it stays as it is.
    #[serde(default)]
    pub autoscale: Option<AutoscalePolicy>,
    /// Shards of the job's key groups; a power of two, fixed when the job is created.
    pub shards: u32,
    /// How long writing to a sink may fail before the job does; `None`: the job waits for ever.
    pub sink_patience_ms: Option<u64>,
    /// From so many flushes of each shard on, every checkpoint can be restored; at least so many
    /// checkpoints can, once there were so many.
    #[serde(default = "retained_checkpoints")]
    pub retained_checkpoints: u32,
    /// A job that has committed something and cannot go on waits for its user in quarantine. Else
    /// it fails, and its state is gone.
    #[serde(default = "quarantine")]
    pub quarantine: bool,
    /// How long a checkpoint's barrier waits for what is queued before it. After that it overtakes,
    /// and what that was is saved with the checkpoint. `None`: it waits however long that takes.
    #[serde(default = "alignment_timeout_ms")]
    pub alignment_timeout_ms: Option<u64>,
}

fn quarantine() -> bool {
    true
}

// Not `Option`'s own default: what was written before the option was there is to have it too.
fn alignment_timeout_ms() -> Option<u64> {
    Some(1000)
}

fn retained_checkpoints() -> u32 {
    3
}

impl Default for JobOptions {
    fn default() -> Self {
        JobOptions {
            parallelism: 1,
            batch_rows: 4096,
            checkpoint_interval_ms: 1000,
            restarts_max: 10,
            restart: RestartStrategy::default(),
            autoscale: None,
            shards: 4,
            sink_patience_ms: None,
            retained_checkpoints: retained_checkpoints(),
            quarantine: quarantine(),
            alignment_timeout_ms: alignment_timeout_ms(),
        }
    }
}

/// All that a worker needs to run a generation of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deployment {
    /// Job.
    pub job: JobId,
    /// Generation that begins.
    pub generation: Generation,
    /// Last committed epoch, from which the tasks restore; [`Epoch::ZERO`]: nothing to restore.
    pub restored: Epoch,
    /// Whether its barrier has overtaken anything: tasks are those that have saved it, each with its
    /// key groups, and get that first.
    #[serde(default)]
    pub has_overtaken: bool,
    /// What to run.
    #[serde(with = "crate::plan::shared")]
    pub plan: Arc<Plan>,
    /// Number of the routing: of the tasks, where they run, and what key groups each owns. Grows with
    /// every change.
    #[serde(default)]
    pub routing: u32,
    /// Every task of the job.
    pub tasks: Vec<TaskSpec>,
    /// Who owns the key groups of each fragment; where nothing is said, each task owns a range.
    #[serde(default)]
    pub groups: BTreeMap<u32, KeyGroupMap>,
    /// How.
    pub options: JobOptions,
    /// When the job was created, in ms since 1970: the same at every start, so that a generator
    /// without a fixed time makes the same rows again.
    pub created_ms: u64,
    /// Tells the job from every other, also of other processes, and is the same at every start:
    /// what it writes outside can carry it in its name.
    pub run: u64,
    /// Which of the tasks run where.
    pub exchange: ExchangeMap,
    /// What there is to read, where the job does not know it from its state yet; `None`: the
    /// worker, which runs all tasks, is to find out.
    pub splits: Option<Vec<SourceSplits>>,
    /// Ids of sources of which the state that is restored knows nothing: they begin with what there is
    /// to read now.
    #[serde(default)]
    pub new_sources: Vec<String>,
    /// W3C trace context of the job's start.
    pub traceparent: Option<String>,
}

impl Deployment {
    /// The key groups of the job.
    #[must_use]
    pub fn key_groups(&self) -> KeyGroupCount {
        KeyGroupCount::new(self.plan.key_groups).unwrap_or(KeyGroupCount::DEFAULT)
    }

    /// Tasks of a fragment, by index.
    #[must_use]
    pub fn tasks_of(&self, fragment: u32) -> Vec<TaskSpec> {
        let tasks = self.tasks.iter().copied();
        let mut tasks: Vec<TaskSpec> = tasks.filter(|task| task.fragment == fragment).collect();
        tasks.sort_unstable_by_key(|task| task.index);
        tasks
    }

    /// Tasks that run here.
    #[must_use]
    pub fn tasks_here(&self) -> Vec<TaskSpec> {
        let tasks = self.tasks.iter().copied();
        tasks
            .filter(|task| self.exchange.is_here(task.task))
            .collect()
    }

    /// Whether task `index` of a fragment runs here.
    #[must_use]
    pub fn is_here(&self, fragment: u32, index: u32) -> bool {
        let mut tasks = self.tasks.iter();
        let task = tasks.find(|task| task.fragment == fragment && task.index == index);
        task.is_some_and(|task| self.exchange.is_here(task.task))
    }

    /// Number of tasks of a fragment.
    #[must_use]
    pub fn parallelism(&self, fragment: u32) -> u32 {
        let tasks = self.tasks.iter();
        tasks.filter(|task| task.fragment == fragment).count() as u32
    }

    /// Who owns the key groups of a fragment.
    #[must_use]
    pub fn map_of(&self, fragment: u32) -> KeyGroupMap {
        let even = || KeyGroupMap::even(self.key_groups(), self.parallelism(fragment));
        self.groups.get(&fragment).cloned().unwrap_or_else(even)
    }

    /// Whether a fragment runs here as it does there: the same tasks, each where it was, with the
    /// same key groups.
    #[must_use]
    pub fn agrees(&self, other: &Deployment, fragment: u32) -> bool {
        let places = |deployment: &Deployment| -> Vec<WorkerId> {
            let tasks = deployment.tasks_of(fragment).into_iter();
            tasks
                .map(|task| deployment.exchange.worker_of(task.task))
                .collect()
        };
        places(self) == places(other) && self.map_of(fragment) == other.map_of(fragment)
    }
}

/// What one source of a plan can read, in one order for all of its tasks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceSplits {
    /// `Fragment.id`
    pub fragment: u32,
    /// Place of the node in the fragment.
    pub node: u32,
    /// Its splits.
    pub splits: Vec<SplitSpec>,
}

/// A partition, a file, a range of numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SplitSpec {
    /// The same data has the same id at every start.
    pub id: String,
    /// What the connector needs to open it.
    #[serde(with = "crate::hex")]
    pub descriptor: Vec<u8>,
}

/// Where the tasks of a generation run. By default, all here.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ExchangeMap {
    /// The worker that this is for.
    pub here: WorkerId,
    /// Where workers take streams of other workers, as host:port.
    pub workers: BTreeMap<WorkerId, String>,
    /// Tasks and the workers that run them; one that is not in it runs here.
    pub place: BTreeMap<TaskId, WorkerId>,
}

impl ExchangeMap {
    /// The worker that runs a task.
    #[must_use]
    pub fn worker_of(&self, task: TaskId) -> WorkerId {
        self.place.get(&task).copied().unwrap_or(self.here)
    }

    /// Whether a task runs here.
    #[must_use]
    pub fn is_here(&self, task: TaskId) -> bool {
        self.worker_of(task) == self.here
    }
}

/// What the control plane asks of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCommand {
    /// Find out what the sources of the plan can read; answered by
    /// [`WorkerEventKind::SplitsListed`].
    ListSplits(Box<Deployment>),
    /// Run those of these tasks that are placed here; an older generation of the job is stopped
    /// first.
    Deploy(Box<Deployment>),
    /// Make ready for another routing of the generation that runs: open the tasks that are new here,
    /// and tell those that stay. A barrier will make it count. Answered by
    /// [`WorkerEventKind::Prepared`] or [`WorkerEventKind::NotPrepared`].
    Prepare(Box<Deployment>),
    /// The routing that was prepared is given up.
    KeepRouting {
        /// Job.
        job: JobId,
        /// Generation.
        generation: Generation,
        /// The routing that no barrier will carry.
        routing: u32,
    },
    /// Begin epoch's end: sources send the barrier.
    Barrier {
        /// Job.
        job: JobId,
        /// Generation; ignored unless it is the one that runs.
        generation: Generation,
        /// Epoch that ends.
        epoch: Epoch,
        /// The routing that is in force after it.
        #[serde(default)]
        routing: u32,
        /// It overtakes nothing, however long that takes.
        #[serde(default)]
        aligned: bool,
        /// W3C trace context of the checkpoint.
        traceparent: Option<String>,
    },
    /// The job is to end: its sources read no more. A last barrier follows, or, with `drain`, the
    /// end of all tasks.
    StopSources {
        /// Job.
        job: JobId,
        /// Generation; ignored unless it is the one that runs.
        generation: Generation,
        /// Sources end, and time with them.
        drain: bool,
    },
    /// The epoch is committed: publish its output.
    Committed {
        /// Job.
        job: JobId,
        /// Generation.
        generation: Generation,
        /// Epoch.
        epoch: Epoch,
    },
    /// Stop all tasks of the job for a new generation, which will go on with what they hold: only what
    /// they have changed since the last commit is to be forgotten.
    Suspend {
        /// Job.
        job: JobId,
    },
    /// Stop all tasks of the job; answered by [`WorkerEventKind::Stopped`].
    Stop {
        /// Job.
        job: JobId,
    },
}

impl WorkerCommand {
    /// The job that it is about, and its generation if it is about one; else generation 0.
    #[must_use]
    pub fn addressee(&self) -> (JobId, Generation) {
        match self {
            WorkerCommand::ListSplits(deployment)
            | WorkerCommand::Deploy(deployment)
            | WorkerCommand::Prepare(deployment) => (deployment.job, deployment.generation),
            WorkerCommand::Barrier {
                job, generation, ..
            }
            | WorkerCommand::KeepRouting {
                job, generation, ..
            }
            | WorkerCommand::StopSources {
                job, generation, ..
            }
            | WorkerCommand::Committed {
                job, generation, ..
            } => (*job, *generation),
            WorkerCommand::Stop { job } | WorkerCommand::Suspend { job } => {
                (*job, Generation::default())
            }
        }
    }
}

/// What a worker reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// Job.
    pub job: JobId,
    /// Generation that it is about.
    pub generation: Generation,
    /// What happened.
    pub kind: WorkerEventKind,
}

/// Whether it may help to run again what failed, from the last checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// No: a value or the plan is wrong.
    Never,
    /// Something outside failed (a file, a sink). If the job has run it may do so again; the user
    /// of one that never has is told at once.
    IfItRan,
    /// Millstream itself failed: a task crashed.
    Always,
    /// Other processes of ours, or the object store, were out of reach: that is no reason ever to
    /// give the job up.
    Platform,
}

/// What happened to a job on a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerEventKind {
    /// What the sources can read.
    SplitsListed(Vec<SourceSplits>),
    /// All tasks that are placed here are restored and running.
    Running,
    /// All that is placed here is ready for the routing.
    Prepared {
        /// Its number.
        routing: u32,
    },
    /// It cannot be made ready for the routing; what runs is not touched.
    NotPrepared {
        /// Its number.
        routing: u32,
        /// Why, for people.
        error: String,
    },
    /// All that moved to the task with the last change of the routing is there.
    Settled {
        /// Task.
        task: TaskId,
    },
    /// The task's changes of the epoch are staged.
    Staged {
        /// Task.
        task: TaskId,
        /// Epoch.
        epoch: Epoch,
        /// Objects of the epoch log that hold them; none: it had changed nothing.
        objects: Vec<LogObject>,
        /// Bytes in them of what the barrier has overtaken.
        #[serde(default)]
        overtaken_bytes: u64,
    },
    /// The task's sources and inputs have ended; it still answers barriers until stopped.
    Finished {
        /// Task.
        task: TaskId,
        /// Number of the routing in which it has: another one may bring it more to do.
        #[serde(default)]
        routing: u32,
    },
    /// The task cannot go on; the worker has stopped all tasks of this generation.
    Failed {
        /// Task.
        task: TaskId,
        /// Why, for people.
        error: String,
        /// Whether running again may help.
        retry: Retry,
    },
    /// Sources could not read records.
    DeadLetters(Vec<DeadLetter>),
    /// Sources wait because sinks owe too much; a barrier lets their buffers go.
    OutputFull,
    /// Writing to the sink has failed and is tried again; the job goes on.
    SinkTroubled {
        /// Sink.
        sink: SinkId,
        /// Why, for people.
        error: String,
    },
    /// All output of the sink up to this epoch is outside.
    Published {
        /// Sink.
        sink: SinkId,
        /// Epoch.
        epoch: Epoch,
    },
    /// Answer to [`WorkerCommand::Stop`].
    Stopped,
}

/// A record that a source could not read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Split it came from.
    pub split: String,
    /// Where in the split, for people ("line 17").
    pub position: String,
    /// Its bytes, cut to a bounded length.
    pub bytes: Vec<u8>,
    /// Why it could not be read.
    pub cause: String,
    /// How many records this letter stands for (≥ 1).
    pub count: u64,
}

/// Figures of one operator of one task, since the generation began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorMetrics {
    /// Rows taken in.
    pub rows_in: u64,
    /// Rows put out.
    pub rows_out: u64,
    /// Batches taken in.
    pub batches_in: u64,
    /// Time at work, in ns. The four times add up to the task's life.
    pub busy_ns: u64,
    /// Time without input.
    pub idle_ns: u64,
    /// Time waiting for room downstream.
    pub blocked_ns: u64,
    /// Time in which all it had waited for state reads.
    pub state_wait_ns: u64,
    /// Rows dropped as late.
    pub late_rows: u64,
    /// Rows that waited for a state read.
    pub state_misses: u64,
    /// Keys that were taken out of memory because it was short.
    #[serde(default)]
    pub evicted_keys: u64,
    /// Keys that were looked for in scratch files before the store was asked.
    #[serde(default)]
    pub scratch_reads: u64,
    /// Keys that were read back in the background after a start or a move.
    #[serde(default)]
    pub hydrated_keys: u64,
    /// Live rows of state.
    pub state_rows: u64,
    /// Bytes of memory of state.
    pub state_bytes: u64,
    /// Combined input watermark in ms; `None` before the first.
    pub watermark_ms: Option<i64>,
    /// Records that could not be read.
    pub dead_letters: u64,
    /// Of a source: rows that could be read by now and are not, counted as they would leave the
    /// operator; `None`: it cannot tell, or this is no source.
    #[serde(default)]
    pub backlog_rows: Option<u64>,
}

/// Figures of a job: by node id, by task index.
pub type JobMetrics = BTreeMap<String, BTreeMap<u32, OperatorMetrics>>;
