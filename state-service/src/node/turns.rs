//! Turns at the files of jobs. Sweeps and the end of a job delete files of it, and write to its databases
//! and to those that they were cloned from; the end is told when nobody of this node does so any more,
//! for what is written after that nobody would delete. So one at a time is at a job's files.

use std::collections::BTreeSet;

use proto::types::JobId;
use tokio::sync::watch;

/// Whose files somebody is at.
pub(super) struct Turns(watch::Sender<BTreeSet<JobId>>);

impl Default for Turns {
    fn default() -> Self {
        Turns(watch::channel(BTreeSet::new()).0)
    }
}

/// A turn at a job's files, until it is dropped.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    job: JobId,
}

impl Turns {
    /// Waits until nobody else is at the files of the job.
    pub(super) async fn take(&self, job: JobId) -> Turn<'_> {
        let mut taken = self.0.subscribe();
        while !self.0.send_if_modified(|taken| taken.insert(job)) {
            // The sender is ours.
            drop(taken.wait_for(|taken| !taken.contains(&job)).await);
        }
        Turn { turns: self, job }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.0.send_modify(|taken| {
            taken.remove(&self.job);
        });
    }
}
