//! Requests to the object store as all of the node makes them: each has a deadline, each failed
//! one is repeated after a growing, jittered pause.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use object_store::ObjectStore;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    caps::{RETRY_PAUSE, RETRY_PAUSE_MAX},
    health::{Health, Kind},
    object::OpenStore,
};

/// Why a request failed for good.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("{0} is not in the object store")]
    Missing(String),
    #[error("object store is unavailable while {doing}: {why}")]
    Unavailable { doing: &'static str, why: String },
    #[error("{0}")]
    Damaged(String),
    /// Nobody wants the result any more.
    #[error("given up")]
    GivenUp,
}

/// What went wrong in one attempt.
#[derive(Debug)]
pub(crate) enum Trouble {
    Store(object_store::Error),
    /// What was read is not what was written: perhaps it was cut on its way.
    Damaged(String),
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Self {
        Trouble::Store(error)
    }
}

/// How long a request is repeated.
pub(crate) enum Patience<'a> {
    /// So many attempts in all.
    Attempts(u32),
    /// As long as this is true.
    While(&'a (dyn Fn() -> bool + Send + Sync)),
}

/// The object store, with manners.
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn ObjectStore>,
    open: OpenStore,
    attempt_deadline: Duration,
    health: Health,
    random: Mutex<SmallRng>,
}

impl Objects {
    pub(crate) fn new(
        open: OpenStore,
        attempt_deadline: Duration,
        health: Health,
        seed: u64,
    ) -> Self {
        Objects {
            store: open.store.clone(),
            open,
            attempt_deadline,
            health,
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Makes a request until it succeeds or patience is at its end.
    pub(crate) async fn repeat<T, Fut>(
        &self,
        doing: &'static str,
        patience: Patience<'_>,
        request: impl Fn() -> Fut,
    ) -> Result<T, ObjectError>
    where
        Fut: Future<Output = Result<T, Trouble>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match tokio::time::timeout(self.attempt_deadline, request()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(Trouble::Store(object_store::Error::NotFound { path, .. }))) => {
                    return Err(ObjectError::Missing(path));
                }
                Ok(Err(Trouble::Store(error))) => {
                    let why = self.open.explain(&error).line;
                    ObjectError::Unavailable { doing, why }
                }
                Ok(Err(Trouble::Damaged(why))) => {
                    // The store takes its answer for a good one.
                    self.health.failed(Kind::Get, || why.clone());
                    ObjectError::Damaged(why)
                }
                Err(_) => {
                    let why = format!("no answer within {:?}", self.attempt_deadline);
                    ObjectError::Unavailable { doing, why }
                }
            };
            match &patience {
                Patience::Attempts(most) if attempt >= *most => return Err(error),
                Patience::While(wanted) if !wanted() => return Err(ObjectError::GivenUp),
                Patience::Attempts(_) | Patience::While(_) => {}
            }
            tracing::warn!(%error, attempt, "request to the object store failed, it is repeated");
            tokio::time::sleep(self.pause(attempt, RETRY_PAUSE, RETRY_PAUSE_MAX)).await;
        }
    }

    /// The pause after the `attempt`th failure: doubled each time, up to a half taken off.
    pub(crate) fn pause(&self, attempt: u32, first: Duration, most: Duration) -> Duration {
        let doubled = first.saturating_mul(1 << (attempt - 1).min(16)).min(most);
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        doubled.mul_f64(random.random_range(0.5..=1.0))
    }
}
