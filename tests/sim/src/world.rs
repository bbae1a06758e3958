//! What outlives every host, and what must hold at every moment: disks, the store, the trace, what is
//! asked of whom, and what is seen of watermarks and of output.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use consensus::testing::SimDisk;
use proto::{
    control::{JobMetrics, OperatorMetrics},
    types::JobId,
};
use rand::{SeedableRng as _, rngs::SmallRng};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    ambient,
    bucket::Bucket,
    metadata::Seen,
    operation::Operation,
    oracle,
    plan::{Deposition, Shape},
    room::Counts,
    trace::Trace,
    weather::Weather,
};

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
pub(crate) struct Inner {
    disks: BTreeMap<u64, SimDisk>,
    starts: BTreeMap<String, u64>,
    ended: Vec<(String, String)>,
    violations: Vec<String>,
    pub(crate) seen: Seen,
    compared: u64,
    watermarks: BTreeMap<Place, (Duration, i64)>,
    /// Of state that is not in memory.
    counts: Counts<Place>,
    files: BTreeSet<PathBuf>,
    requests: VecDeque<Operation>,
    /// Requests that are not carried out yet.
    open_requests: usize,
    all_asked: bool,
    newcomer_wanted: bool,
    /// Jobs that somebody has cancelled.
    cancelled: BTreeSet<String>,
    late: BTreeSet<String>,
    /// How workers are told to leave, and for how long they are to be away.
    leaving: BTreeMap<String, watch::Sender<bool>>,
    away: BTreeMap<String, Duration>,
    /// Who said last that it leads the control plane.
    leader: Option<String>,
    /// What is to happen to the leader as soon as a routing is noted.
    armed: Vec<(Deposition, Duration)>,
    due: Vec<(Deposition, Duration)>,
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

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
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
        inner.open_requests += 1;
        inner.requests.push_back(operation);
    }

    /// The next thing that its operator asks.
    pub fn next_request(&self) -> Option<Operation> {
        self.lock().requests.pop_front()
    }

    /// A request is carried out, or cannot be.
    pub fn request_is_done(&self) {
        let mut inner = self.lock();
        inner.open_requests = inner.open_requests.saturating_sub(1);
    }

    /// Nothing more will be asked.
    pub fn all_is_asked(&self) {
        self.lock().all_asked = true;
    }

    /// Whether all is asked, and carried out.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let inner = self.lock();
        inner.all_asked && inner.open_requests == 0
    }

    /// Somebody is about to cancel a job.
    pub fn cancel(&self, job: String) {
        self.lock().cancelled.insert(job);
    }

    /// Whether somebody has cancelled a job.
    #[must_use]
    pub fn is_cancelled(&self, job: &str) -> bool {
        self.lock().cancelled.contains(job)
    }

    /// How a worker's new process is told to leave.
    pub fn leave_signal(&self, host: &str) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        self.lock().leaving.insert(host.to_owned(), sender);
        receiver
    }

    /// Tells a worker to leave, and to come back so long after it has.
    pub fn tell_to_leave(&self, host: &str, away: Duration) {
        let mut inner = self.lock();
        inner.away.insert(host.to_owned(), away);
        if let Some(leaving) = inner.leaving.get(host) {
            leaving.send_replace(true);
        }
    }

    /// How long a worker that has left is to be away.
    #[must_use]
    pub fn away(&self, host: &str) -> Option<Duration> {
        self.lock().away.get(host).copied()
    }

    /// A node of the control plane leads.
    pub fn leads(&self, host: &str) {
        self.trace.line(format_args!("{host} leads"));
        self.lock().leader = Some(host.to_owned());
    }

    /// Who leads the control plane, as far as is known.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        self.lock().leader.clone()
    }

    /// The leader loses its place as soon as a routing is noted.
    pub fn arm(&self, how: Deposition, lasting: Duration) {
        self.lock().armed.push((how, lasting));
    }

    /// A routing is noted.
    pub(crate) fn spring(&self) {
        let inner = &mut *self.lock();
        inner.due.append(&mut inner.armed);
    }

    /// What is to happen to the leader now.
    pub fn take_due(&self) -> Vec<(Deposition, Duration)> {
        std::mem::take(&mut self.lock().due)
    }

    /// Whether the fourth node is to run.
    #[must_use]
    pub fn newcomer_wanted(&self) -> bool {
        self.lock().newcomer_wanted
    }

    /// What a worker measures at the moment.
    pub fn measured(&self, host: &str, start: u64, job: JobId, metrics: &JobMetrics) {
        for (node, tasks) in metrics {
            for (index, figures) in tasks {
                if figures.late_rows > 0 {
                    self.lock().late.insert(format!("{job} {node} {index}"));
                }
                let place = (host.to_owned(), start, job, node.clone(), *index);
                self.lock().counts.see(place.clone(), figures);
                let Some(watermark) = figures.watermark_ms else {
                    continue;
                };
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

    /// Tells what has gone from memory and come back.
    ///
    /// # Errors
    /// When memory was to be little, and nothing has.
    pub fn check_room(&self) -> Result<(), String> {
        let counted = self.lock().counts.all();
        self.trace.line(format_args!("{counted:?}"));
        self.shape.room.map_or(Ok(()), |room| room.check(counted))
    }

    /// Places at which rows came late.
    #[must_use]
    pub fn late(&self) -> BTreeSet<String> {
        self.lock().late.clone()
    }

    /// Takes files of sinks into the trace that were not there before.
    pub fn look_at_output(&self) {
        for folder in oracle::folders(&self.output) {
            self.look_at(&folder);
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
