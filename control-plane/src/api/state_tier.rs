//! Who tells the API how the state nodes are.

use futures::{FutureExt as _, future::BoxFuture};

use crate::state_tier::{StateTier, StateTierStatus};

/// Who knows how the state nodes are.
pub trait StateNodes: Send + Sync {
    /// How they are; `None`: this process does not know any more.
    fn status(&self) -> BoxFuture<'static, Option<StateTierStatus>>;
}

impl StateNodes for StateTier {
    fn status(&self) -> BoxFuture<'static, Option<StateTierStatus>> {
        let tier = self.clone();
        async move { StateTier::status(&tier).await }.boxed()
    }
}

/// A process without state nodes: its tasks keep state in the process itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStateNodes;

impl StateNodes for NoStateNodes {
    fn status(&self) -> BoxFuture<'static, Option<StateTierStatus>> {
        async { Some(StateTierStatus::default()) }.boxed()
    }
}
