//! What outlives every host, and what must hold at every moment: disks, the store, the trace, and
//! what is seen of the metadata, of watermarks, of output.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use consensus::testing::SimDisk;
use coordinator::meta::{JobRecord, MetaState};
use proto::{
    control::{JobMetrics, OperatorMetrics},
    log::LogObject,
    types::{Epoch, Generation, JobId},
};
use rand::{SeedableRng as _, rngs::SmallRng};
use xxhash_rust::xxh3::xxh3_64;

use crate::{ambient, bucket::Bucket, plan::Shape, trace::Trace, weather::Weather};

/// Everything that is not inside a host.
pub struct World {
    /// What all chance comes from.
    pub seed: u64,
    /// What the cluster is like.
    pub shape: Shape,
    /// The object store.
    pub bucket: Bucket,
    /// What happens.
    pub trace: Trace,
    /// Where sinks write.
    pub output: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    disks: BTreeMap<u64, SimDisk>,
    starts: BTreeMap<String, u64>,
    ended: Vec<(String, String)>,
    violations: Vec<String>,
    seen: Seen,
    compared: u64,
    watermarks: BTreeMap<Place, (Duration, i64)>,
    files: BTreeSet<PathBuf>,
    requests: VecDeque<Operation>,
    newcomer_wanted: bool,
    late: BTreeSet<String>,
}

/// A task began at one time, whenever it is asked how old it is; figures are not all as new.
const SAME_TASK: Duration = Duration::from_millis(30);

/// When a task began: its times add up to its life.
fn began(figures: &OperatorMetrics) -> Duration {
    let times = [
        figures.busy_ns,
        figures.idle_ns,
        figures.blocked_ns,
        figures.state_wait_ns,
    ];
    ambient::now().saturating_sub(Duration::from_nanos(times.iter().sum()))
}

/// A task's operator on a process: host, which start of it, job, node, index.
type Place = (String, u64, JobId, String, u32);

/// The newest metadata that any node has applied.
#[derive(Default)]
struct Seen {
    index: u64,
    state: MetaState,
}

/// What an operator asks of the control plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// To run all jobs with so many tasks per fragment.
    Rescale {
        /// So many.
        parallelism: u32,
    },
    /// To take a node in.
    AddNode {
        /// Its number.
        id: u64,
    },
    /// To let a node go.
    RemoveNode {
        /// Its number.
        id: u64,
    },
}

impl World {
    /// A world in which nothing has happened.
    #[must_use]
    pub fn new(seed: u64, shape: Shape, trace: Trace, output: PathBuf) -> Arc<World> {
        let random = SmallRng::seed_from_u64(seed ^ 0x6275_636b_6574);
        Arc::new(World {
            seed,
            bucket: Bucket::new(Weather::new(random, shape.faults_end), trace.clone()),
            trace,
            shape,
            output,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that must never be.
    pub fn violate(&self, what: String) {
        self.trace.line(format_args!("VIOLATION {what}"));
        self.lock().violations.push(what);
    }

    /// What must never be, and was.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// A process of the host starts: which one it is, and where its chance comes from.
    pub fn start(&self, host: &str) -> (u64, SmallRng) {
        let mut inner = self.lock();
        let starts = inner.starts.entry(host.to_owned()).or_default();
        *starts += 1;
        let start = *starts;
        drop(inner);
        self.trace.line(format_args!("{host} starts, time {start}"));
        let name = format!("{} {host} {start}", self.seed);
        (start, SmallRng::seed_from_u64(xxh3_64(name.as_bytes())))
    }

    /// The host's process has ended by itself.
    pub fn ended(&self, host: &str, why: String) {
        self.trace.line(format_args!("{host} ends: {why}"));
        self.lock().ended.push((host.to_owned(), why));
    }

    /// Hosts whose processes have ended since this was asked, and why.
    pub fn take_ended(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.lock().ended)
    }

    /// The disk of a node of the control plane.
    #[must_use]
    pub fn disk(&self, id: u64) -> SimDisk {
        let seed = self.seed ^ (id << 32);
        let mut inner = self.lock();
        let disk = inner.disks.entry(id).or_insert_with(|| SimDisk::new(seed));
        disk.clone()
    }

    /// Asks something of the control plane as its operator would.
    pub fn request(&self, operation: Operation) {
        let mut inner = self.lock();
        if matches!(operation, Operation::AddNode { .. }) {
            inner.newcomer_wanted = true;
        }
        inner.requests.push_back(operation);
    }

    /// The next thing that its operator asks.
    pub fn next_request(&self) -> Option<Operation> {
        self.lock().requests.pop_front()
    }

    /// Whether the fourth node is to run.
    #[must_use]
    pub fn newcomer_wanted(&self) -> bool {
        self.lock().newcomer_wanted
    }

    /// A node has applied so many commands, and this is what they came to.
    pub fn observe(&self, index: u64, state: &MetaState) {
        let mut inner = self.lock();
        if index <= inner.seen.index {
            return;
        }
        let before = std::mem::replace(
            &mut inner.seen,
            Seen {
                index,
                state: state.clone(),
            },
        );
        drop(inner);
        for (id, job) in &state.jobs {
            self.compare(*id, before.state.jobs.get(id), job);
        }
        for id in before.state.jobs.keys() {
            if !state.jobs.contains_key(id) {
                self.trace.line(format_args!("meta {id} is forgotten"));
            }
        }
    }

    /// Looks at the newest metadata.
    pub fn metadata<R>(&self, look: impl FnOnce(&MetaState) -> R) -> R {
        look(&self.lock().seen.state)
    }

    fn compare(&self, id: JobId, before: Option<&JobRecord>, now: &JobRecord) {
        let generation = before.map_or(Generation::default(), |job| job.generation);
        let committed = before.map_or(Epoch::ZERO, |job| job.committed);
        if now.generation < generation || now.committed < committed {
            let (g, c) = (now.generation, now.committed);
            self.violate(format!("{id} went back to {g}, epoch {c}"));
        }
        if now.generation > generation {
            let (g, first) = (now.generation, now.first);
            self.trace
                .line(format_args!("meta {id} begins {g} at epoch {first}"));
            self.check_first(id, now);
        }
        if now.committed > committed {
            let (g, c) = (now.generation, now.committed);
            self.trace
                .line(format_args!("meta {id} commits {c} of {g}"));
            self.check_objects(id, committed, now);
        }
        if before.is_some_and(|job| job.owners != now.owners) {
            self.trace
                .line(format_args!("meta {id} owners {:?}", now.owners));
        }
        if let Some(outcome) = &now.outcome
            && before.is_none_or(|job| job.outcome.is_none())
        {
            self.trace.line(format_args!(
                "meta {id} ends {:?} {:?}",
                outcome.state, outcome.error
            ));
        }
    }

    /// A generation's epochs lie above all that an older one has named.
    fn check_first(&self, id: JobId, job: &JobRecord) {
        let folder = format!("jobs/{}/log/", id.0);
        let origin = |name: &String| {
            let mut parts = name.split_once(&folder)?.1.split('/');
            let generation: u64 = parts.next()?.parse().ok()?;
            let epoch: u64 = parts.next()?.parse().ok()?;
            Some((generation, epoch))
        };
        let objects = self.bucket.objects();
        let named = objects.keys().filter_map(origin);
        let of_older = named.filter(|(generation, _)| *generation < job.generation.0);
        let highest = of_older.map(|(_, epoch)| epoch).max();
        if highest.is_some_and(|highest| highest >= job.first.0) {
            let (g, first) = (job.generation, job.first);
            self.violate(format!(
                "{id}: {g} begins at epoch {first}, and an older one has named {highest:?}"
            ));
        }
    }

    /// What is committed is in the store.
    fn check_objects(&self, id: JobId, after: Epoch, job: &JobRecord) {
        let objects = self.bucket.objects();
        let new = |log: &BTreeMap<Epoch, Vec<LogObject>>| {
            let new = log.range(after.next()..).flat_map(|(_, objects)| objects);
            new.cloned().collect::<Vec<_>>()
        };
        for object in new(&job.log).into_iter().chain(new(&job.output)) {
            let path = format!("jobs/{}/log/{}", id.0, object.name);
            let there = objects.iter().find(|(name, _)| name.ends_with(&path));
            if there.is_none_or(|(_, bytes)| *bytes != object.bytes) {
                let committed = job.committed;
                self.violate(format!(
                    "{id}: epoch {committed} is committed without {}",
                    object.name
                ));
            }
        }
    }

    /// What a worker measures at the moment.
    pub fn measured(&self, host: &str, start: u64, job: JobId, metrics: &JobMetrics) {
        for (node, tasks) in metrics {
            for (index, figures) in tasks {
                if figures.late_rows > 0 {
                    self.lock().late.insert(format!("{job} {node} {index}"));
                }
                let Some(watermark) = figures.watermark_ms else {
                    continue;
                };
                let place = (host.to_owned(), start, job, node.clone(), *index);
                let began = began(figures);
                let before = self.lock().watermarks.insert(place, (began, watermark));
                // Another task has that place in the next generation.
                let same = before.filter(|(before, _)| before.abs_diff(began) < SAME_TASK);
                let Some((_, before)) = same else {
                    continue;
                };
                self.lock().compared += 1;
                if before > watermark {
                    self.violate(format!(
                        "the watermark of {job} {node} {index} on {host} went from {before} to {watermark}"
                    ));
                }
            }
        }
    }

    /// How often a watermark was compared with an earlier one of the same task.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.lock().compared
    }

    /// Places at which rows came late.
    #[must_use]
    pub fn late(&self) -> BTreeSet<String> {
        self.lock().late.clone()
    }

    /// Takes files of sinks into the trace that were not there before.
    pub fn look_at_output(&self) {
        for table in crate::oracle::TABLES {
            self.look_at(&self.output.join(table));
        }
    }

    fn look_at(&self, folder: &Path) {
        for file in tests::table_files(folder) {
            if !self.lock().files.insert(file.clone()) {
                continue;
            }
            let bytes = std::fs::read(&file).unwrap_or_default();
            let (length, hash) = (bytes.len(), xxh3_64(&bytes));
            self.trace.line(format_args!(
                "output {} {length} {hash:016x}",
                file.display()
            ));
        }
    }
}
