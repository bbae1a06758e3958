//! Compaction: one at a time, by a compactor of our own that is started for it and stopped after.
//! All flushed files go into one run, together with the newer runs that are not much larger.

use std::sync::{Arc, Mutex, atomic::Ordering};

use slatedb::{
    CloseReason, CompactorBuilder, VersionedManifest,
    compactor::{
        CompactionScheduler, CompactionSchedulerSupplier, CompactionSpec, CompactorStateView,
        SourceId,
    },
    config::{CompactionWorkerOptions, CompactorOptions},
};
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    error::PageError,
    filter::{PageFilters, Weights},
    open::BLOCK_SIZE,
    operator::PageMerge,
    store::{Shared, locked},
    warm::files,
};

const DOING: &str = "compacting";
/// What is read ahead of each file that is compacted, in so many requests: of many files together enough for
/// what one core merges though requests take 30 ms, and not much memory.
const READ_AHEAD_BYTES: usize = 128 << 10;
const READS_AHEAD: usize = 2;

/// Proposes one compaction and tells when none is under way any more.
struct OneCompaction {
    state: Mutex<Proposal>,
    done: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proposal {
    Wanted,
    Made,
    Done,
}

/// Lends the scheduler to the compactor.
struct Lent(Arc<OneCompaction>);

impl CompactionSchedulerSupplier for Lent {
    fn compaction_scheduler(
        &self,
        _: &CompactorOptions,
    ) -> Box<dyn CompactionScheduler + Send + Sync> {
        Box::new(Lent(self.0.clone()))
    }
}

impl CompactionScheduler for Lent {
    fn propose(&self, view: &CompactorStateView) -> Vec<CompactionSpec> {
        let mut compactions = view
            .compactions()
            .into_iter()
            .flat_map(|c| c.recent_compactions());
        if compactions.any(|compaction| compaction.active()) {
            return Vec::new();
        }
        let mut state = locked(&self.0.state);
        let spec = match *state {
            Proposal::Wanted => plan(view),
            Proposal::Made | Proposal::Done => None,
        };
        *state = if spec.is_some() {
            Proposal::Made
        } else {
            Proposal::Done
        };
        if *state == Proposal::Done {
            self.0.done.notify_one();
        }
        spec.into_iter().collect()
    }
}

fn plan(view: &CompactorStateView) -> Option<CompactionSpec> {
    let manifest = view.manifest();
    if manifest.l0().is_empty() {
        return None;
    }
    let flushed: u64 = manifest.l0().iter().map(|file| file.estimate_size()).sum();
    let runs = manifest.compacted();
    let sizes: Vec<u64> = runs.iter().map(|run| run.estimate_size()).collect();
    let taken = runs_to_take(flushed, &sizes);
    let files = manifest.l0().iter().map(|file| SourceId::SstView(file.id));
    let of_runs = runs[..taken].iter().map(|run| SourceId::SortedRun(run.id));
    let destination = match runs[..taken].last() {
        Some(oldest) => oldest.id,
        None => runs.iter().map(|run| run.id + 1).max().unwrap_or(0),
    };
    Some(CompactionSpec::new(
        files.chain(of_runs).collect(),
        destination,
    ))
}

/// How many of the runs, newest first, a compaction of `flushed` bytes takes along: those that
/// are not much larger than what they would be merged with. So a row is rewritten a logarithmic
/// number of times, and the number of runs is logarithmic too.
fn runs_to_take(flushed: u64, runs: &[u64]) -> usize {
    let mut sum = flushed;
    let mut taken = 0;
    for (index, bytes) in runs.iter().enumerate() {
        if *bytes <= sum + sum / 2 {
            taken = index + 1;
        }
        sum += bytes;
    }
    taken
}

impl Shared {
    /// Compacts all flushed files; what the lowest pages weigh, if the compaction went that deep.
    pub(super) async fn compact(&self) -> Result<Weights, PageError> {
        let limits = &self.config.limits;
        let weights = Arc::new(Mutex::new(Weights::default()));
        // First what is durable: no view that comes later can be of before that.
        let durable = self.durable_layout();
        let filters = PageFilters {
            viewed: self.viewed_layouts(),
            durable,
            page_bytes_max: limits.page_bytes_max,
            weights: weights.clone(),
        };
        let one = Arc::new(OneCompaction {
            state: Mutex::new(Proposal::Wanted),
            done: Notify::new(),
        });
        let builder = CompactorBuilder::new(self.config.path.clone(), self.config.store.clone())
            .with_runtime(self.config.runtime.clone())
            .with_options(self.compactor_options())
            .with_seed(self.seed())
            .with_scheduler_supplier(Arc::new(Lent(one.clone())))
            .with_merge_operator(Arc::new(PageMerge))
            .with_compaction_filter_supplier(Arc::new(filters))
            .with_sst_block_size(BLOCK_SIZE);
        let builder = match &self.config.clock {
            Some(clock) => builder.with_system_clock(clock.clone()),
            None => builder,
        };
        let compactor = builder.build();
        let before = self.db.manifest();
        let running = compactor.clone();
        let mut running: JoinHandle<Result<(), slatedb::Error>> = self
            .config
            .runtime
            .spawn(async move { running.run().await });
        let result = tokio::select! {
            () = one.done.notified() => Ok(()),
            ended = &mut running => Err(match ended {
                Ok(Err(error)) => self.compactor_error(error),
                Ok(Ok(())) => PageError::deadline(DOING),
                Err(error) => PageError::Reopen(error.to_string()),
            }),
            why = self.broken() => Err(why),
            () = tokio::time::sleep(limits.compaction_deadline) => Err(PageError::deadline(DOING)),
        };
        if !running.is_finished() {
            self.stop(&compactor, running).await;
        }
        result?;
        let refreshed = self.db.refresh_manifest().await;
        refreshed.map_err(PageError::of(DOING))?;
        let newest = |manifest: &VersionedManifest| manifest.last_compacted_l0_sst_view_id();
        if !before.l0().is_empty() && newest(&self.db.manifest()) == newest(&before) {
            let why = "no file was compacted".to_string();
            let doing = DOING;
            return Err(PageError::Unavailable { doing, why });
        }
        self.warm(&files(&before)).await;
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        let weights = std::mem::take(&mut *locked(&weights));
        Ok(weights)
    }

    /// A compactor is fenced by any other: only if the writer is too, the shard is lost.
    fn compactor_error(&self, error: slatedb::Error) -> PageError {
        match (PageError::of(DOING)(error), self.db.status().close_reason) {
            (PageError::Fenced, Some(CloseReason::Fenced)) => PageError::Fenced,
            (PageError::Fenced, _) => PageError::Unavailable {
                doing: DOING,
                why: "another compactor has started".to_string(),
            },
            (error, _) => error,
        }
    }

    /// Stops the compactor. Stopping does nothing before it runs, so it is repeated.
    async fn stop(
        &self,
        compactor: &slatedb::compactor::Compactor,
        mut running: JoinHandle<Result<(), slatedb::Error>>,
    ) {
        let patience = self.config.limits.deadline / 8;
        for _ in 0..8 {
            let stopped = tokio::time::timeout(patience, async {
                // Its own failure is of no interest any more.
                drop(compactor.stop().await);
                drop((&mut running).await);
            });
            if stopped.await.is_ok() {
                return;
            }
        }
        running.abort();
    }

    fn compactor_options(&self) -> CompactorOptions {
        let limits = &self.config.limits;
        CompactorOptions {
            poll_interval: limits.compaction_poll,
            commit_compacted_interval: limits.compaction_poll,
            manifest_update_timeout: limits.deadline,
            max_concurrent_compactions: 1,
            checkpoint_lifetime: limits.garbage_age,
            // What a process that died in the middle of it has begun is taken over after this.
            worker_heartbeat_timeout: limits.compaction_poll * 600,
            object_store_max_retries: Some(limits.store_retries_max),
            worker: Some(CompactionWorkerOptions {
                max_concurrent_compactions: 1,
                compactions_poll_interval: limits.compaction_poll,
                heartbeat_interval: limits.compaction_poll * 150,
                bytes_to_fetch: READ_AHEAD_BYTES,
                max_fetch_tasks: READS_AHEAD,
                max_sst_size: limits.file_bytes_max,
                // Each has its own files open. Another shard's compaction is what else there is to do.
                max_subcompactions: 1,
                ..CompactionWorkerOptions::default()
            }),
            ..CompactorOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::runs_to_take;

    #[test]
    fn runs_are_taken_while_they_are_not_much_larger() {
        assert_eq!(runs_to_take(100, &[]), 0);
        assert_eq!(runs_to_take(100, &[150]), 1);
        assert_eq!(runs_to_take(100, &[151]), 0);
        assert_eq!(runs_to_take(100, &[100, 250, 2000]), 2);
        // A large run is taken when what lies below it is.
        assert_eq!(runs_to_take(100, &[160, 300]), 2);
    }

    #[test]
    fn rows_are_rewritten_and_runs_are_few() {
        let mut runs: Vec<u64> = Vec::new();
        let mut written = 0;
        for _ in 0..500 {
            let taken = runs_to_take(10, &runs);
            let merged: u64 = 10 + runs.drain(..taken).sum::<u64>();
            written += merged;
            runs.insert(0, merged);
            assert!(runs.len() < 10, "{runs:?}");
        }
        assert!(
            written / 5000 < 12,
            "each row was written {} times",
            written / 5000
        );
    }
}
