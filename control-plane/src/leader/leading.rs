//! All that runs while a process leads, and ends with its leadership.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use control_stream::{FormerId, Hello};
use coordinator::meta::{Answer, Change, TransferEnd};
use proto::control::JobOptions;
use sql::{PlanOptions, error::SqlError};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    Jobs, Statements, Tiers,
    api::{Backend, StateQueries, Token, router},
    capacity::CapacityConfig,
    caps::{BIND_PATIENCE, NEWS_QUEUE, PROPOSAL_PATIENCE},
    census::take_census,
    membership::Membership,
    metadata::{Metadata, MetadataError, look, propose},
    results::FeedEnd,
    state_tier::StateTier,
    workers::WorkerNews,
};

/// What every reader of JSON can read of a number.
const LEADERSHIP_BITS: u64 = (1 << 53) - 1;

/// What a leader is started with.
#[derive(Clone)]
pub struct LeaderConfig {
    /// What is remembered.
    pub metadata: Arc<dyn Metadata>,
    /// The nodes that remember it.
    pub membership: Arc<dyn Membership>,
    /// The wall clock, in ms since 1970.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How statements are planned where SET says nothing else.
    pub plan: PlanOptions,
    /// How jobs run where SET says nothing else.
    pub defaults: JobOptions,
    /// What clients show.
    pub token: Token,
    /// The cluster's name among all others, should it have none yet: drawn at random.
    pub cluster_id: String,
    /// How long jobs wait for workers to connect before they run on those that have.
    pub workers_grace: Duration,
    /// Who reads the state of operators.
    pub queries: Arc<dyn StateQueries>,
    /// Who makes workers as jobs need them; `None`: they come and go by themselves.
    pub capacity: Option<CapacityConfig>,
}

/// Why a process cannot lead.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The catalog has a statement that this build does not understand.
    #[error("failed to read the catalog, which another version has written: {0}")]
    Catalog(#[source] SqlError),
    /// The log is not what this build knows.
    #[error("the metadata's log gave an answer that does not fit: {0}")]
    Answer(String),
}

/// Why a state node is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreRefused {
    /// Its store is not the cluster's.
    #[error(
        "its store is not the one that the cluster's state is in (which is {0}): give all state nodes \
         the same --store"
    )]
    Other(String),
    /// It cannot be known.
    #[error("{0}")]
    Later(String),
}

/// A leadership. Dropping it ends its loops; jobs go on at their workers, and another leader takes them
/// over.
pub struct Leading {
    /// The cluster's name among all others.
    pub cluster_id: String,
    /// Jobs.
    pub jobs: Jobs,
    /// Statements over the catalog.
    pub statements: Arc<Statements>,
    /// The state tier.
    pub tier: StateTier,
    /// Where it is told what happens to workers.
    pub workers: mpsc::Sender<WorkerNews>,
    /// What clients are answered.
    pub app: Router,
    /// Tells it from every other.
    pub(crate) leadership: u64,
    /// Names that workers have kept from older leaderships.
    kept_ids: Mutex<BTreeSet<u64>>,
    metadata: Arc<dyn Metadata>,
    /// Varies the numbers of proposals.
    requests: AtomicU64,
    loops: Loops,
}

impl Leading {
    /// Takes over from whoever led before. `seed` must be another one for every leadership of every
    /// process.
    ///
    /// # Errors
    /// When what is remembered cannot be read.
    pub async fn start(config: LeaderConfig, seed: u64) -> Result<Leading, LeadError> {
        let metadata = config.metadata;
        let cluster_id = found(&metadata, config.cluster_id, seed).await?;
        let (tier, tier_driver) = StateTier::new(Arc::clone(&metadata), seed);
        let tier_driver = tier_driver.with_clock(Arc::clone(&config.wall_ms));
        let tier_loop = tokio::spawn(tier_driver.run());
        let (workers, news) = mpsc::channel(NEWS_QUEUE);
        let (jobs, mut driver) = Jobs::new(Tiers {
            workers: news,
            state: Arc::new(tier.clone()),
            metadata: Arc::clone(&metadata),
            wall_ms: config.wall_ms,
            // Proposals are told apart by what is drawn from it: not from the tier's.
            seed: seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15,
        });
        if let Some(capacity) = config.capacity {
            driver = driver.with_capacity(capacity);
        }
        let mut loops = Loops(vec![tier_loop]);
        driver.recover(config.workers_grace).await?;
        loops.0.push(tokio::spawn(driver.run()));
        loops
            .0
            .push(tokio::spawn(adopt_imports(tier.clone(), jobs.clone())));
        let catalog = look(&*metadata, |state| state.catalog.clone()).await?;
        let statements =
            Statements::of_catalog(&catalog, config.plan, jobs.clone(), config.defaults);
        let statements = Arc::new(statements.map_err(LeadError::Catalog)?);
        let counting = take_census(
            jobs.clone(),
            Arc::new(tier.clone()),
            Arc::clone(&config.queries),
        );
        loops.0.push(tokio::spawn(counting));
        let backend = Backend {
            statements: Arc::clone(&statements),
            state_nodes: Arc::new(tier.clone()),
            membership: config.membership,
            state_tier: Some(tier.clone()),
            queries: config.queries,
        };
        Ok(Leading {
            cluster_id,
            app: router(backend, config.token),
            jobs,
            statements,
            tier,
            workers,
            leadership: seed & LEADERSHIP_BITS,
            kept_ids: Mutex::default(),
            metadata,
            requests: AtomicU64::new(seed.rotate_left(16)),
            loops,
        })
    }

    /// What a process is called on its stream. A worker keeps the name that an older leadership gave it,
    /// once: on another stream to this one it is another worker.
    pub(crate) fn id_of(&self, hello: &Hello) -> u64 {
        let Some(FormerId { id, leadership }) = hello.former else {
            return hello.id;
        };
        match leadership != self.leadership && !self.kept_ids().contains(&id) {
            true => id,
            false => hello.id,
        }
    }

    /// A worker has told what it runs by this name. `false`: another stream has done so before.
    pub(crate) fn keep_id(&self, hello: &Hello, id: u64) -> bool {
        id == hello.id || self.kept_ids().insert(id)
    }

    fn kept_ids(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        // Nothing panics while it is held.
        self.kept_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds the cluster to the store that a state node has, if it is bound to none.
    ///
    /// # Errors
    /// Why the node is not wanted, or cannot be taken at the moment.
    pub(crate) async fn bind_store(&self, store: &str) -> Result<(), StoreRefused> {
        let later = |error: MetadataError| StoreRefused::Later(error.to_string());
        let known = look(&*self.metadata, |state| state.store_id.clone()).await;
        let bound = match known.map_err(later)? {
            Some(bound) => bound,
            None => {
                let store_id = store.to_owned();
                let request = self.requests.fetch_add(1, Ordering::Relaxed);
                let change = Change::Bind { store_id };
                let answer = propose(&self.metadata, request, change, BIND_PATIENCE).await;
                match answer.map_err(later)? {
                    Answer::Bound { store_id } => store_id,
                    answer => return Err(StoreRefused::Later(format!("{answer:?}"))),
                }
            }
        };
        match bound == store {
            true => Ok(()),
            false => Err(StoreRefused::Other(bound)),
        }
    }

    /// Waits until one of its loops has ended.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.tier.ended() => {}
            () = self.jobs.ended() => {}
        }
    }

    /// Ends its loops, whoever still holds it. Whoever reads rows is told that there will be no more.
    pub fn stop(&self) {
        self.loops.stop();
        for entry in self.jobs.list() {
            if let Some(feed) = &entry.feed {
                let why = "the leader of the control plane has changed: ask again";
                feed.end(FeedEnd::Broken(why.to_owned()));
            }
        }
    }
}

/// The cluster's name; `drawn` if it had none.
async fn found(
    metadata: &Arc<dyn Metadata>,
    drawn: String,
    seed: u64,
) -> Result<String, LeadError> {
    if let Some(known) = look(&**metadata, |state| state.cluster_id.clone()).await? {
        return Ok(known);
    }
    let change = Change::Found { cluster_id: drawn };
    match propose(metadata, seed, change, PROPOSAL_PATIENCE).await? {
        Answer::Founded { cluster_id } => Ok(cluster_id),
        answer => Err(LeadError::Answer(format!("{answer:?}"))),
    }
}

/// Has jobs known that are made for what is imported.
async fn adopt_imports(tier: StateTier, jobs: Jobs) {
    let mut statuses = tier.transfer_statuses();
    loop {
        let all = statuses.borrow_and_update().clone();
        let done = all.values().filter(|status| {
            matches!(status.ended, Some(TransferEnd::Done { .. })) && status.job.is_some()
        });
        for job in done.filter_map(|status| status.job) {
            if let Err(error) = jobs.adopt(job).await {
                // Whoever asks for it tries again.
                tracing::warn!(%job, %error, "an imported job is not known yet");
            }
        }
        if statuses.changed().await.is_err() {
            return;
        }
    }
}

/// Ends with its owner.
struct Loops(Vec<JoinHandle<()>>);

impl Loops {
    fn stop(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.stop();
    }
}
