//! What the routes work on.

use std::{sync::Arc, time::Duration};

use axum::extract::FromRef;
use tokio::time::timeout;

use super::{
    state_queries::{NoStateQueries, StateQueries},
    state_tier::{NoStateNodes, StateNodes},
};
use crate::{
    Statements,
    caps::STATE_STATUS_PATIENCE,
    membership::{Alone, Membership},
    state_tier::{StateTier, StateTierStatus},
};

/// What the routes work on. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    /// Statements, and the jobs behind them.
    pub statements: Arc<Statements>,
    /// How the state nodes are.
    pub state_nodes: Arc<dyn StateNodes>,
    /// The nodes of the control plane.
    pub membership: Arc<dyn Membership>,
    /// Who copies savepoints; `None`: state is in memory only.
    pub state_tier: Option<StateTier>,
    /// Who reads the state of operators.
    pub queries: Arc<dyn StateQueries>,
}

impl Backend {
    /// Of one process with everything in it, which clients reach at `address`.
    #[must_use]
    pub fn alone(statements: Arc<Statements>, address: String) -> Backend {
        Backend {
            statements,
            state_nodes: Arc::new(NoStateNodes),
            membership: Arc::new(Alone::new(address)),
            state_tier: None,
            queries: Arc::new(NoStateQueries),
        }
    }

    /// How the state nodes are; `None`: nobody says so in time.
    pub(super) async fn state_status(&self) -> Option<StateTierStatus> {
        const PATIENCE: Duration = STATE_STATUS_PATIENCE;
        timeout(PATIENCE, self.state_nodes.status()).await.ok()?
    }
}

impl FromRef<Backend> for Arc<Statements> {
    fn from_ref(backend: &Backend) -> Self {
        Arc::clone(&backend.statements)
    }
}
