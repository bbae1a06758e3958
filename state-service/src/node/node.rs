//! The node: finds the job and the shard that a request is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use object_store::path::Path;
use proto::types::{JobId, KeyGroupCount, ShardId};
use state_client::{Incarnation, ReadReply, ReadRequest, ScanReply, ScanRequest, StateError};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::{StateNodeConfig, flusher, job::Job, kept::KeptShards, sweep, turns::Turns};
use crate::{
    budget::Budget,
    control::ControlView,
    epoch_log::{EpochLog, LogNames},
    health::Health,
    objects::Objects,
    reports::{ReportReceiver, Reports},
    shard::{Shard, ShardContext},
    tasks::Tasks,
    transfer::Transfers,
    watched::{Counts, WatchedStore},
};

/// A state node. Cheap to clone; when the last clone goes, the node stops as if it had crashed.
#[derive(Clone)]
pub struct StateNode {
    pub(crate) shared: Arc<NodeShared>,
    _stop: Arc<StopOnDrop>,
}

pub(crate) struct NodeShared {
    pub(crate) context: Arc<ShardContext>,
    jobs: Mutex<BTreeMap<JobId, Arc<Job>>>,
    jobs_changed: watch::Sender<()>,
    pub(crate) names: Mutex<LogNames>,
    pub(crate) requests: Arc<Counts>,
    /// Deltas that wait to be written.
    pub(crate) staged: Budget,
    /// Written sections that are not committed.
    pub(crate) kept: Budget,
    /// Output that is not published.
    pub(crate) output: Budget,
    /// Shards of states that are kept, as others look at them.
    pub(crate) kept_shards: KeptShards,
    /// Copies of savepoints that are being made.
    pub(crate) transfers: Transfers,
    /// Ended jobs of which something needs files.
    ended: Mutex<BTreeSet<JobId>>,
    /// Who deletes files of a job, or is about to.
    pub(super) turns: Turns,
    stopped: AtomicBool,
    pub(crate) stop: Notify,
}

struct StopOnDrop(Arc<NodeShared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.begin_stop();
    }
}

impl StateNode {
    /// Starts a node that serves nothing yet, and gives the end at which its reports come out. Runs on
    /// the runtime it is called on.
    #[must_use]
    pub fn start(
        mut config: StateNodeConfig,
        control: Arc<dyn ControlView>,
    ) -> (StateNode, ReportReceiver) {
        let reports = Reports::default();
        let root = Path::from(config.root.as_str());
        let health = Health::new(reports.clone());
        let watched = WatchedStore::new(config.store.clone(), health.clone());
        let requests = watched.counts();
        config.store = config.store.with_store(Arc::new(watched));
        let objects = Arc::new(Objects::new(
            config.store.clone(),
            config.limits.attempt_deadline,
            health,
            config.seed.wrapping_add(1),
        ));
        let limits = &config.limits;
        let (staged, kept) = (
            Budget::new(limits.staged_bytes),
            Budget::new(limits.kept_bytes),
        );
        let output = Budget::new(limits.output_bytes);
        let names = LogNames::new(&config.node, config.seed);
        let receiver = reports.receiver();
        let context = ShardContext {
            log: EpochLog::new(objects.clone(), root.clone()),
            root,
            objects,
            control,
            reports,
            tasks: Tasks::new(),
            grown: Notify::new(),
            flushed: watch::channel(()).0,
            cache_scopes: Default::default(),
            config,
        };
        let shared = Arc::new(NodeShared {
            context: Arc::new(context),
            jobs: Mutex::default(),
            jobs_changed: watch::channel(()).0,
            names: Mutex::new(names),
            requests,
            staged,
            kept,
            output,
            kept_shards: KeptShards::default(),
            transfers: Transfers::default(),
            ended: Mutex::default(),
            turns: Turns::default(),
            stopped: AtomicBool::new(false),
            stop: Notify::new(),
        });
        let tasks = &shared.context.tasks;
        tasks.spawn(flusher::run(shared.clone()));
        tasks.spawn(sweep::run(shared.clone()));
        let _stop = Arc::new(StopOnDrop(shared.clone()));
        (StateNode { shared, _stop }, receiver)
    }

    /// Stops the node and waits until it has let go of everything. Nothing is flushed: what is only
    /// in memory is in the log.
    pub async fn stop(&self) {
        self.shared.begin_stop();
        self.shared.context.tasks.all_ended().await;
    }

    /// Nobody directs the node at the moment: what it copies for others, somebody will give to a node
    /// again.
    pub(crate) fn undirected(&self) {
        self.shared.transfers.stop_all();
    }

    /// How a job's key groups are cut into shards; waits for the job to be known here.
    ///
    /// # Errors
    /// As for every request of tasks.
    pub async fn cut(&self, who: Incarnation) -> Result<(KeyGroupCount, u32), StateError> {
        let deadline = self.shared.request_deadline();
        let job = self.shared.job_of(who, deadline).await?;
        job.when(who, deadline, "opening", |job| job.cut.map(Ok))
            .await
    }

    /// Rows of keys of one shard.
    ///
    /// # Errors
    /// [`StateError::Fenced`] for an older generation; [`StateError::Unavailable`] when the shard is
    /// not here, not open, or not yet at `min_epoch`.
    pub async fn read(
        &self,
        who: Incarnation,
        shard: ShardId,
        request: &ReadRequest,
    ) -> Result<ReadReply, StateError> {
        let shard = self.shared.shard(who, shard).await?;
        let rows = shard.read(request.min_epoch, &request.keys).await?;
        Ok(ReadReply { rows })
    }

    /// Rows of a key group of one shard.
    ///
    /// # Errors
    /// As [`StateNode::read`].
    pub async fn scan(
        &self,
        who: Incarnation,
        shard: ShardId,
        request: &ScanRequest,
    ) -> Result<ScanReply, StateError> {
        self.shared.shard(who, shard).await?.scan(request).await
    }
}

impl NodeShared {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_stop(&self) {
        self.stopped.store(true, Ordering::Release);
        let jobs = std::mem::take(&mut *self.jobs());
        for job in jobs.into_values() {
            self.forget(&job);
        }
        self.transfers.stop_all();
        // Two loops wait for it.
        self.stop.notify_waiters();
        self.stop.notify_one();
        self.context.grown.notify_one();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Stops serving a job; its shards, which close by and by.
    pub(crate) fn forget(&self, job: &Job) -> Vec<Arc<Shard>> {
        let shards = job.change(|state| {
            state.gone = true;
            state.stages.clear();
            state.kept.clear();
            std::mem::take(&mut state.shards)
        });
        let shards: Vec<Arc<Shard>> = shards.into_values().collect();
        shards.iter().for_each(|shard| shard.unwant());
        shards
    }

    pub(crate) fn request_deadline(&self) -> Instant {
        Instant::now() + self.context.config.limits.request_wait
    }

    /// A job that the node knows.
    pub(crate) fn known_job(&self, job: JobId) -> Option<Arc<Job>> {
        self.jobs().get(&job).cloned()
    }

    /// The job, from now on known; `None` when the node is being stopped.
    pub(crate) fn job_or_new(&self, id: JobId) -> Option<Arc<Job>> {
        let mut jobs = self.jobs();
        if self.is_stopped() {
            return None;
        }
        let job = jobs.entry(id).or_insert_with(|| Arc::new(Job::new(id)));
        let job = job.clone();
        drop(jobs);
        self.jobs_changed.send_replace(());
        Some(job)
    }

    pub(crate) fn remove_job(&self, job: JobId) -> Option<Arc<Job>> {
        self.jobs().remove(&job)
    }

    /// Lets a job go of which no shard is here. Orders that come meanwhile find it gone.
    pub(crate) fn remove_if_empty(&self, job: &Arc<Job>) {
        let mut jobs = self.jobs();
        let empty = job.change(|state| {
            let empty = state.shards.is_empty();
            state.gone |= empty;
            empty
        });
        if !empty {
            return;
        }
        if (jobs.get(&job.id)).is_some_and(|known| Arc::ptr_eq(known, job)) {
            jobs.remove(&job.id);
        }
        drop(jobs);
        self.forget(job);
    }

    /// Whether files of an ended job stay, for something needs them.
    pub(crate) fn keep(&self, job: JobId, stay: bool) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match stay {
            true => ended.insert(job),
            false => ended.remove(&job),
        };
    }

    /// Ended jobs of which something needs files.
    pub(crate) fn kept_jobs(&self) -> Vec<JobId> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().copied().collect()
    }

    /// Whether files of a job are to be kept in order here. Of one that was dropped they are not.
    pub(super) fn looks_after(&self, job: JobId) -> bool {
        self.known_job(job).is_some() || self.kept_jobs().contains(&job)
    }

    pub(crate) fn all_jobs(&self) -> Vec<Arc<Job>> {
        self.jobs().values().cloned().collect()
    }

    /// The job of a request; waits for it to be known.
    pub(crate) async fn job_of(
        &self,
        who: Incarnation,
        deadline: Instant,
    ) -> Result<Arc<Job>, StateError> {
        let mut changed = self.jobs_changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(job) = self.known_job(who.job) {
                return Ok(job);
            }
            let waited = timeout_at(deadline, changed.changed()).await;
            if self.is_stopped() || !matches!(waited, Ok(Ok(()))) {
                let why = format!("{} is not on this node", who.job);
                return Err(StateError::Unavailable(why));
            }
        }
    }

    /// The shard of a request; waits until the node is told of it and of the caller's generation.
    async fn shard(&self, who: Incarnation, shard: ShardId) -> Result<Arc<Shard>, StateError> {
        let deadline = self.request_deadline();
        let job = self.job_of(who, deadline).await?;
        let find = |job: &mut super::job::JobState| job.shards.get(&shard).cloned().map(Ok);
        job.when(who, deadline, "opening", find).await
    }
}
