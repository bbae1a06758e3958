//! The store.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::{FutureExt as _, future::BoxFuture};
use proto::{log::LogObject, types::JobId};
use state_client::{
    CommittedOutput, CountReply, EpochDelta, Incarnation, OutputRequest, ReadReply, ReadRequest,
    ScanReply, ScanRequest, StateError, StateStore,
};

use crate::{RemoteConfig, Routes, operation::Operation, spawned::spawned};

/// State on other processes' state nodes. Cheap to clone; all clones share connections and bounds.
/// Its requests must be polled within a tokio runtime.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) routes: Routes,
    pub(crate) config: RemoteConfig,
    operations: AtomicU64,
}

impl RemoteStore {
    /// A store whose shards are where `routes` says.
    #[must_use]
    pub fn new(routes: Routes, config: RemoteConfig) -> Self {
        RemoteStore {
            shared: Arc::new(Shared {
                routes,
                config,
                operations: AtomicU64::new(0),
            }),
        }
    }
}

impl Shared {
    /// A request that ends when patience does.
    pub(crate) fn operation(&self, job: JobId, what: &'static str) -> Operation {
        self.begin(job, what, false)
    }

    /// A request that goes on until it succeeds or cannot.
    pub(crate) fn patient_operation(&self, job: JobId, what: &'static str) -> Operation {
        self.begin(job, what, true)
    }

    fn begin(&self, job: JobId, what: &'static str, is_patient: bool) -> Operation {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        let seed = self.config.seed.wrapping_add(number);
        let routes = self.routes.clone();
        Operation::new(routes, job, what, &self.config.limits, is_patient, seed)
    }
}

impl StateStore for RemoteStore {
    fn read(
        &self,
        who: Incarnation,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<ReadReply, StateError>> {
        let shared = self.shared.clone();
        spawned(async move { shared.read(who, request).await }).boxed()
    }

    fn scan(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<ScanReply, StateError>> {
        let shared = self.shared.clone();
        spawned(async move { shared.scan(who, request).await }).boxed()
    }

    fn count(
        &self,
        who: Incarnation,
        request: ScanRequest,
    ) -> BoxFuture<'static, Result<CountReply, StateError>> {
        let shared = self.shared.clone();
        spawned(async move { shared.count(who, request).await }).boxed()
    }

    fn stage(
        &self,
        who: Incarnation,
        delta: EpochDelta,
    ) -> BoxFuture<'static, Result<Vec<LogObject>, StateError>> {
        let shared = self.shared.clone();
        spawned(async move { shared.stage(who, delta).await }).boxed()
    }

    fn committed_output(
        &self,
        who: Incarnation,
        request: OutputRequest,
    ) -> BoxFuture<'static, Result<Vec<CommittedOutput>, StateError>> {
        let shared = self.shared.clone();
        spawned(async move { shared.committed_output(who, request).await }).boxed()
    }
}
