//! A node over a store that outlives it, so that it can be started again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::{FutureExt as _, future::BoxFuture};
use object_store::ObjectStore;
use proto::{
    log::LogObject,
    types::{Epoch, JobId, SinkId},
};
use state_client::{
    Begun, CommittedOutput, Dropped, EpochDelta, Incarnation, OutputRequest, ReadReply,
    ReadRequest, ScanReply, ScanRequest, StateControl, StateError, StateStore,
};
use tokio::{runtime::Handle, sync::Mutex};

use super::TestControl;
use crate::{
    EmbeddedStore, NodeLimits, StateNode, StateNodeConfig,
    object::{StoreUrl, open},
    pages::{PageCache, PageLimits},
};

/// How nodes are started, one after the other.
#[derive(Clone)]
pub struct NodeSetup {
    /// The object store.
    pub store: Arc<dyn ObjectStore>,
    /// Limits of the nodes.
    pub limits: NodeLimits,
    /// Limits of their shards' page stores.
    pub page_limits: PageLimits,
    /// The control plane.
    pub control: TestControl,
    starts: Arc<AtomicU64>,
}

impl NodeSetup {
    /// Nodes over `store`, for jobs of `shards` shards.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, shards: u32) -> Self {
        NodeSetup {
            store,
            limits: NodeLimits::default(),
            page_limits: PageLimits::default(),
            control: TestControl::new(shards),
            starts: Arc::default(),
        }
    }

    /// Starts a node, with the control plane connected to it.
    #[must_use]
    pub fn start(&self) -> StateNode {
        let node = self.start_unconnected();
        self.control.connect(&node.0, node.1);
        node.0
    }

    /// Starts a node of which the control plane knows nothing.
    #[must_use]
    pub fn start_unconnected(&self) -> (StateNode, crate::ReportReceiver) {
        let seed = self.starts.fetch_add(1, Ordering::Relaxed);
        let memory = open(&StoreUrl::Memory).expect("memory is there");
        let config = StateNodeConfig {
            places: Default::default(),
            store: memory.with_store(self.store.clone()),
            root: "state".to_owned(),
            node: "test".to_owned(),
            seed,
            clock: None,
            runtime: Handle::current(),
            block_cache: None,
            page_cache: Some(PageCache::new(16 << 20)),
            limits: self.limits.clone(),
            page_limits: self.page_limits.clone(),
        };
        StateNode::start(config, Arc::new(self.control.clone()))
    }
}

/// A store whose node is another one for every request.
#[derive(Clone)]
pub struct RestartingStore {
    setup: NodeSetup,
    node: Arc<Mutex<Option<StateNode>>>,
}

impl RestartingStore {
    /// The store; its control side must be this one, too.
    #[must_use]
    pub fn new(setup: NodeSetup) -> Self {
        RestartingStore {
            setup,
            node: Arc::default(),
        }
    }

    async fn restarted(&self) -> EmbeddedStore {
        let mut node = self.node.lock().await;
        if let Some(before) = node.take() {
            self.setup.control.disconnect();
            before.stop().await;
        }
        let started = self.setup.start();
        *node = Some(started.clone());
        EmbeddedStore::new(started)
    }

    async fn running(&self) -> EmbeddedStore {
        let node = self.node.lock().await.clone();
        match node {
            Some(node) => EmbeddedStore::new(node),
            None => self.restarted().await,
        }
    }
}

impl StateStore for RestartingStore {
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let store = self.clone();
        async move { store.restarted().await.read(who, request).await }.boxed()
    }

    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        let store = self.clone();
        async move {
            // A scan that is going on is one step.
            let store = match request.cursor {
                None => store.restarted().await,
                Some(_) => store.running().await,
            };
            store.scan(who, request).await
        }
        .boxed()
    }

    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        let store = self.clone();
        async move { store.restarted().await.stage(who, delta).await }.boxed()
    }

    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        let store = self.clone();
        async move { store.restarted().await.committed_output(who, request).await }.boxed()
    }
}

impl StateControl for RestartingStore {
    fn begin(&self, who: Incarnation) -> BoxFuture<'static, Result<Begun, StateError>> {
        let store = self.clone();
        async move {
            store.restarted().await;
            store.setup.control.begin(who).await
        }
        .boxed()
    }

    fn commit(
        &self,
        who: Incarnation,
        epoch: Epoch,
        objects: Vec<LogObject>,
        overtaken_bytes: u64,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        self.setup
            .control
            .commit(who, epoch, objects, overtaken_bytes)
    }

    fn published(
        &self,
        who: Incarnation,
        sink: SinkId,
        epoch: Epoch,
    ) -> BoxFuture<'static, Result<(), StateError>> {
        self.setup.control.published(who, sink, epoch)
    }

    fn drop_job(&self, job: JobId) -> BoxFuture<'static, Result<Dropped, StateError>> {
        self.setup.control.drop_job(job)
    }
}
