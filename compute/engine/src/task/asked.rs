//! What operators ask of the state store, and what comes back.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use state_client::{
    Incarnation, ReadReply, ReadRequest, ScanReply, ScanRequest, StateError, StateStore,
};

use crate::spill::SpilledRead;

/// A question of an operator.
pub(super) enum Asked {
    Rows(ReadRequest),
    /// Rows of which some may be in scratch files.
    Spilled(SpilledRead),
    Scan(ScanRequest),
}

/// The answer.
pub(super) enum Reply {
    Rows(ReadReply),
    Scan(ScanReply),
}

/// The answer to a node's question with this ticket.
pub(super) type Answer = (usize, u64, Result<Reply, StateError>);

impl Asked {
    /// Asks the store.
    pub(super) fn send(
        self,
        (node, ticket): (usize, u64),
        store: &Arc<dyn StateStore>,
        who: Incarnation,
    ) -> BoxFuture<'static, Answer> {
        match self {
            Asked::Rows(request) => {
                let reply = store.read(who, request);
                reply
                    .map(move |reply| (node, ticket, reply.map(Reply::Rows)))
                    .boxed()
            }
            Asked::Spilled(read) => {
                let reply = read.send(Arc::clone(store), who);
                reply
                    .map(move |reply| (node, ticket, reply.map(Reply::Rows)))
                    .boxed()
            }
            Asked::Scan(request) => {
                let reply = store.scan(who, request);
                reply
                    .map(move |reply| (node, ticket, reply.map(Reply::Scan)))
                    .boxed()
            }
        }
    }
}
