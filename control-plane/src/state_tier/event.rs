//! What the tier's loop hears.

use std::{fmt, sync::Arc};

use proto::{
    log::LogObject,
    state_control::StateReport,
    types::{Epoch, JobId, SinkId, StateNodeId},
};
use state_client::{Begun, Incarnation, StateError};
use tokio::sync::oneshot;
use tracing::Span;

use super::{
    StateTierStatus,
    transfers::{TransferAsk, TransferReply},
};
use crate::StateNodeLink;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StateError>>;

/// One stream to a node, from joining to leaving. What an earlier stream of the same node brings
/// late can be told from what the present one does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StateNodeSession {
    pub(super) node: StateNodeId,
    pub(super) number: u64,
}

impl StateNodeSession {
    /// The node.
    #[must_use]
    pub fn node(&self) -> StateNodeId {
        self.node
    }
}

impl fmt::Display for StateNodeSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.number)
    }
}

/// Everything that can happen to the tier from outside.
pub(super) enum Event {
    Join {
        session: StateNodeSession,
        address: String,
        link: Arc<dyn StateNodeLink>,
    },
    Leave(StateNodeSession),
    Report(StateNodeSession, StateReport),
    Ask(JobId, Request),
    Published {
        job: JobId,
        sink: SinkId,
        epoch: Epoch,
        reply: Reply<()>,
    },
    Drop {
        job: JobId,
        reply: Reply<()>,
    },
    /// A savepoint or a state of the job was let go, and with it these objects of its log.
    Released {
        job: JobId,
        objects: Vec<String>,
    },
    /// A savepoint is to be copied, or not any more.
    Transfer {
        ask: TransferAsk,
        reply: TransferReply,
    },
    Status {
        reply: oneshot::Sender<StateTierStatus>,
    },
}

/// What is done in the order in which it is asked for.
pub(super) enum Request {
    Begin {
        who: Incarnation,
        reply: Reply<Begun>,
        span: Span,
    },
    Commit {
        who: Incarnation,
        epoch: Epoch,
        objects: Vec<LogObject>,
        overtaken_bytes: u64,
        reply: Reply<()>,
        span: Span,
    },
}

impl Request {
    /// Whether nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Request::Begin { reply, .. } => reply.is_closed(),
            Request::Commit { reply, .. } => reply.is_closed(),
        }
    }

    pub(super) fn fail(self, error: StateError) {
        // Nobody waits any more.
        match self {
            Request::Begin { reply, .. } => drop(reply.send(Err(error))),
            Request::Commit { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
