//! All tiers in one process over an object store, a directory for instance: what is committed
//! outlives the process, and the next start goes on.

use std::{process, sync::Arc, time::Duration};

use compute::SystemClock;
use control_plane::{
    api::Token,
    leader::{LeaderConfig, Leading},
    membership::Alone,
    metadata::{BucketConfig, BucketLimits, BucketMetadata},
    state_tier::StateTier,
};
use engine::clock::Clock as _;
use proto::{control::JobOptions, types::StateNodeId};
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use sql::PlanOptions;
use state_service::{
    EmbeddedStore, PatientStore, StateNode,
    object::{ClusterId, Identity, Keeper, OpenStore, StoreUrl, enter, open},
};
use tokio::runtime::Runtime;

use super::{draw_seed, join_tier, local_worker, state_node_config};
use crate::{StateReader, memory::MemoryPlan, scratch::ScratchPlan, threads::background_runtime};

/// Where metadata is, below the store's prefix.
const METADATA: &str = "meta";

/// What a durable process is started with.
pub struct DurableConfig {
    /// How jobs run where SET says nothing else.
    pub defaults: JobOptions,
    /// Memory by purpose.
    pub memory: MemoryPlan,
    /// Where state goes that memory has no room for.
    pub scratch: ScratchPlan,
    /// What clients show.
    pub token: Token,
    /// Where clients reach it.
    pub address: String,
}

/// A store that this process has taken over, before anything runs over it.
pub struct OpenedStore {
    store: OpenStore,
    identity: Identity,
    metadata: BucketMetadata,
    random: SmallRng,
}

impl OpenedStore {
    /// Opens the store, which is made if it is empty. A process that has it open must stop.
    ///
    /// # Errors
    /// When the store cannot be used, or is another's.
    pub async fn open(url: &StoreUrl) -> anyhow::Result<OpenedStore> {
        OpenedStore::of(open(url)?).await
    }

    /// Takes a store over that is open.
    ///
    /// # Errors
    /// When the store cannot be used, or is another's.
    pub async fn of(store: OpenStore) -> anyhow::Result<OpenedStore> {
        let mut random = SmallRng::seed_from_u64(draw_seed());
        let founding = Identity::new(
            ClusterId::draw(&mut random),
            Keeper::Embedded,
            wall_ms(&SystemClock::default()),
            &mut random,
        );
        let identity = enter(&store, founding, None, random.next_u64()).await?;
        let metadata = open_metadata(&store, random.next_u64()).await?;
        Ok(OpenedStore {
            store,
            identity,
            metadata,
            random,
        })
    }

    /// What is remembered there.
    #[must_use]
    pub fn metadata(&self) -> &BucketMetadata {
        &self.metadata
    }
}

/// The tiers of a durable process. Dropping it is as good as a crash: nothing that was committed is
/// lost.
pub struct Durable {
    /// What leads.
    pub leading: Leading,
    store: OpenStore,
    metadata: BucketMetadata,
    node: StateNode,
    /// Where state is flushed and tidied up; requests are not served there.
    background: Option<Runtime>,
}

impl Durable {
    /// Goes on with the jobs that the store has.
    ///
    /// # Errors
    /// When what is remembered cannot be read.
    pub async fn start(opened: OpenedStore, config: DurableConfig) -> anyhow::Result<Durable> {
        let OpenedStore {
            store,
            identity,
            metadata,
            mut random,
        } = opened;
        let clock = Arc::new(SystemClock::default());
        let wall = clock.clone();
        let queries = StateReader::here();
        let lead = LeaderConfig {
            metadata: Arc::new(metadata.clone()),
            membership: Arc::new(Alone::new(config.address)),
            wall_ms: Arc::new(move || wall_ms(&wall)),
            plan: PlanOptions::default(),
            defaults: config.defaults,
            token: config.token,
            cluster_id: identity.cluster.to_string(),
            // The only one is on its way.
            workers_grace: Duration::ZERO,
            queries: Arc::new(queries.clone()),
            capacity: None,
        };
        let leading = Leading::start(lead, random.next_u64()).await?;
        let background = background_runtime()?;
        let node = start_node(
            &store,
            &leading.tier,
            &background,
            &config.memory,
            random.next_u64(),
        )
        .await;
        let state = Arc::new(EmbeddedStore::new(node.clone()));
        queries.serve(state.clone(), Some(state));
        let later = local_worker::LaterJobs::default();
        let _ = later.set(leading.jobs.clone());
        let tasks = PatientStore::new(EmbeddedStore::new(node.clone()), random.next_u64());
        local_worker::start(
            Arc::new(tasks),
            config.memory.pool(&config.scratch),
            clock,
            later,
            leading.workers.clone(),
        );
        Ok(Durable {
            leading,
            store,
            metadata,
            node,
            background: Some(background),
        })
    }

    /// Waits until this process must stop: another one has taken the store over, or its disk is full;
    /// which, in one line.
    pub async fn cannot_go_on(&self) -> String {
        tokio::select! {
            why = self.metadata.closed() => why,
            why = self.store.full() => why,
        }
    }

    /// Its state node.
    #[must_use]
    pub fn state_node(&self) -> &StateNode {
        &self.node
    }

    /// Stops without losing anything that is committed; jobs go on at the next start.
    pub async fn stop(mut self) {
        self.leading.stop();
        self.node.stop().await;
        if let Some(background) = self.background.take() {
            background.shutdown_background();
        }
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        // A runtime must not be dropped where it could be waited for.
        if let Some(background) = self.background.take() {
            background.shutdown_background();
        }
    }
}

fn wall_ms(clock: &SystemClock) -> u64 {
    u64::try_from(clock.wall_ms()).unwrap_or_default()
}

async fn open_metadata(store: &OpenStore, nonce: u64) -> anyhow::Result<BucketMetadata> {
    let words = store.clone();
    let metadata = BucketMetadata::open(BucketConfig {
        store: Arc::clone(&store.store),
        prefix: store.path(METADATA),
        explain: Arc::new(move |error| words.explain(error).to_string()),
        process: format!("process {}", process::id()),
        nonce,
        limits: BucketLimits::default(),
    });
    Ok(metadata.await?)
}

/// Starts the state node of this process and lets it join the tier.
async fn start_node(
    store: &OpenStore,
    tier: &StateTier,
    background: &Runtime,
    memory: &MemoryPlan,
    seed: u64,
) -> StateNode {
    // The same at every start, so that the shards are its at once. Another process with this id
    // has lost the metadata's log to us, and the shards to whoever opened them last.
    let id = StateNodeId(0);
    let mut config = state_node_config(store, id, background.handle(), memory.page_cache, seed);
    memory.bound(&mut config);
    join_tier(tier, id, String::new(), config).await
}
