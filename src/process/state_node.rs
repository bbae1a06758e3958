//! The state nodes of this program: what they are started with, and those in the process of the
//! control plane that directs them.

use std::{env, sync::Arc};

use control_plane::state_tier::{StateNodeSession, StateTier};
use futures::{FutureExt as _, future::BoxFuture};
use proto::{
    state_control::{JobReferences, StateOrder},
    types::{JobId, ShardId, StateNodeId},
};
use state_service::{
    ControlView, NodeLimits, Places, ReportReceiver, StateNode, StateNodeConfig,
    object::OpenStore,
    pages::{PageCache, PageLimits},
};
use tokio::runtime::Handle;

/// What the node of this number is started with. `seed` must be another one at every start.
#[must_use]
pub fn state_node_config(
    store: &OpenStore,
    id: StateNodeId,
    background: &Handle,
    page_cache_bytes: u64,
    seed: u64,
) -> StateNodeConfig {
    StateNodeConfig {
        store: store.clone(),
        root: store.prefix.to_string(),
        node: id.to_string(),
        seed,
        clock: None,
        runtime: background.clone(),
        block_cache: None,
        page_cache: Some(PageCache::new(page_cache_bytes)),
        places: Places::new(|name| env::var(name).ok().filter(|value| !value.is_empty())),
        limits: NodeLimits::default(),
        page_limits: PageLimits::default(),
    }
}

/// Starts a state node in the control plane's process and lets it join the tier; it reports until
/// the tier ends. `address` is where it answers requests of tasks of other processes, if it does.
pub async fn join_tier(
    tier: &StateTier,
    id: StateNodeId,
    address: String,
    config: StateNodeConfig,
) -> StateNode {
    let view = Arc::new(TierView {
        tier: tier.clone(),
        node: id,
    });
    let (node, reports) = StateNode::start(config, view);
    let orders = node.clone();
    let link = move |order: StateOrder| {
        orders.order(order);
        true
    };
    let session = tier.join(id, address, Arc::new(link)).await;
    let tier = tier.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = report(reports, tier.clone(), session) => {}
            () = tier.ended() => {}
        }
    });
    node
}

async fn report(mut reports: ReportReceiver, tier: StateTier, session: StateNodeSession) {
    loop {
        let report = reports.recv().await;
        tier.report(session, report).await;
    }
}

/// The control plane as the node of the same process asks it.
struct TierView {
    tier: StateTier,
    node: StateNodeId,
}

impl ControlView for TierView {
    fn owns(&self, job: JobId, shard: ShardId) -> BoxFuture<'static, Result<bool, String>> {
        let (tier, node) = (self.tier.clone(), self.node);
        async move {
            let owner = tier.owner(job, shard).await;
            let owner = owner.map_err(|error| error.to_string())?;
            Ok(owner == Some(node))
        }
        .boxed()
    }

    fn references(&self, job: JobId) -> BoxFuture<'static, Result<JobReferences, String>> {
        let tier = self.tier.clone();
        async move {
            let references = tier.references(job).await;
            references.map_err(|error| error.to_string())
        }
        .boxed()
    }
}
