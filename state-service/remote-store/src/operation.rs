//! One request of a task: for whom it is, how long it may take, how it pauses.

use std::sync::Arc;

use proto::types::JobId;
use rpc::{Backoff, RetryPolicy};
use state_client::StateError;
use tokio::time::{Instant, sleep_until};

use crate::{RemoteLimits, Routes, caps::WARN_AFTER, routes::Route};

/// One request of a task.
pub(crate) struct Operation {
    pub(crate) routes: Routes,
    pub(crate) job: JobId,
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// `None`: whenever it can be done.
    deadline: Option<Instant>,
    pauses: RetryPolicy,
    seed: u64,
    warn_at: Instant,
}

impl Operation {
    /// A request that ends when the store's patience does, or never.
    pub(crate) fn new(
        routes: Routes,
        job: JobId,
        what: &'static str,
        limits: &RemoteLimits,
        is_patient: bool,
        seed: u64,
    ) -> Self {
        let now = Instant::now();
        Operation {
            routes,
            job,
            what,
            deadline: (!is_patient).then(|| now + limits.patience),
            pauses: RetryPolicy {
                attempts: u32::MAX,
                pause_min: limits.pause_min,
                pause_max: limits.pause_max,
            },
            seed,
            warn_at: now + WARN_AFTER,
        }
    }

    /// Pauses between attempts at one node.
    pub(crate) fn backoff(&self) -> Backoff {
        self.pauses.backoff(self.seed)
    }

    /// Waits until patience has ended.
    pub(crate) async fn out_of_patience(&self) {
        match self.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// What a task is told whose state is out of reach.
    pub(crate) fn given_up(&self, last: Option<&StateError>) -> StateError {
        let (what, job) = (self.what, self.job);
        let why = match last {
            Some(error) => format!("failed to {what} of {job} in time: {error}"),
            None => {
                format!("failed to {what} of {job} in time: no state node is known to serve it")
            }
        };
        StateError::Unavailable(why)
    }

    /// Tells people of a failure, once, if the request has been failing for long.
    pub(crate) fn failed(&mut self, address: &str, error: &StateError) {
        let (what, job) = (self.what, self.job);
        if Instant::now() < self.warn_at {
            tracing::debug!(%job, %address, %error, "failed to {what}, trying again");
        } else {
            tracing::warn!(%job, %address, %error, "failing to {what} for a while, trying on");
            self.warn_at = Instant::now() + 12 * WARN_AFTER;
        }
    }

    /// The job's route; waits for one.
    pub(crate) async fn route(&self) -> Result<Arc<Route>, StateError> {
        let mut table = self.routes.watch();
        let found = async {
            // The table lives as long as `self`.
            let table = table.wait_for(|table| table.of(self.job).is_some()).await;
            table.ok().and_then(|table| table.of(self.job))
        };
        tokio::select! {
            biased;
            found = found => found.ok_or_else(|| self.given_up(None)),
            () = self.out_of_patience() => Err(self.given_up(None)),
        }
    }
}
