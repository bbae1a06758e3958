//! What a state node of this program is started with.

use anyhow::Context as _;
use proto::types::StateNodeId;
use state_service::{
    NodeLimits, StateNodeConfig,
    object::OpenStore,
    pages::{PageCache, PageLimits},
};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime where state is flushed and tidied up; requests are not served there.
pub(crate) fn background_runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("state")
        .enable_all()
        .build()
        .context("failed to start the runtime of the state service")
}

/// What the node of this number is started with. `seed` must be another one at every start.
pub(crate) fn state_node_config(
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
        limits: NodeLimits::default(),
        page_limits: PageLimits::default(),
    }
}
