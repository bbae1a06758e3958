//! What operators ask of the state store, and what comes back.

use futures::{FutureExt as _, future::BoxFuture};
use state_client::{
    Incarnation, ReadReply, ReadRequest, ScanReply, ScanRequest, StateError, StateStore,
};

/// A question of an operator.
pub(super) enum Asked {
    Rows(ReadRequest),
    Scan(ScanRequest),
}

/// The answer.
pub(super) enum Reply {
    Rows(ReadReply),
    Scan(ScanReply),
}

impl Asked {
    /// Asks the store.
    pub(super) fn send(
        self,
        store: &dyn StateStore,
        who: Incarnation,
    ) -> BoxFuture<'static, Result<Reply, StateError>> {
        match self {
            Asked::Rows(request) => {
                let reply = store.read(who, request);
                reply.map(|reply| reply.map(Reply::Rows)).boxed()
            }
            Asked::Scan(request) => {
                let reply = store.scan(who, request);
                reply.map(|reply| reply.map(Reply::Scan)).boxed()
            }
        }
    }
}
