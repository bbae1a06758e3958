//! All that runs while a process leads, and ends with its leadership.

use std::sync::Arc;

use axum::Router;
use coordinator::meta::{Answer, Change};
use proto::control::JobOptions;
use sql::{PlanOptions, error::SqlError};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    Jobs, Statements, Tiers,
    api::{Backend, Token, router},
    caps::{NEWS_QUEUE, PROPOSAL_PATIENCE},
    membership::Membership,
    metadata::{Metadata, MetadataError, look, propose},
    state_tier::StateTier,
    workers::WorkerNews,
};

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

/// A leadership. Dropping it ends its loops; jobs go on at their workers until another leader
/// begins their next generations.
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
        let mut loops = Loops(vec![tier_loop]);
        driver.recover().await?;
        loops.0.push(tokio::spawn(driver.run()));
        let catalog = look(&*metadata, |state| state.catalog.clone()).await?;
        let statements =
            Statements::of_catalog(&catalog, config.plan, jobs.clone(), config.defaults);
        let statements = Arc::new(statements.map_err(LeadError::Catalog)?);
        let backend = Backend {
            statements: Arc::clone(&statements),
            state_nodes: Arc::new(tier.clone()),
            membership: config.membership,
        };
        Ok(Leading {
            cluster_id,
            app: router(backend, config.token),
            jobs,
            statements,
            tier,
            workers,
            loops,
        })
    }

    /// Ends its loops, whoever still holds it.
    pub fn stop(&self) {
        self.loops.stop();
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
