//! Maintenance, one bounded piece at a time: compaction when flushed files pile up, then
//! rewriting of what it found too large, and the deletion of what nothing refers to.

use std::sync::atomic::Ordering;

use super::{
    PageStore, Pins,
    checkpoint::collect_files,
    error::PageError,
    store::{Shared, locked, within},
};

/// Garbage is collected after every so many compactions.
const COMPACTIONS_PER_COLLECTION: u64 = 4;

impl PageStore {
    /// Does the next piece of maintenance; whether there is more to do. Never two at a time.
    /// Flushes may run meanwhile: they wait for steps of rewriting, not for compactions.
    /// Checkpoints that `pins` names are kept however old.
    ///
    /// # Errors
    /// After [`PageError::Unavailable`] it may be called again; after other errors as after those
    /// of [`PageStore::flush`].
    pub async fn maintain(&self, pins: impl Into<Pins>) -> Result<bool, PageError> {
        let (shared, pins) = (self.shared.clone(), pins.into());
        self.detached(async move {
            let maintenance = shared.maintenance.lock().await;
            shared.check_writable()?;
            if shared.db.manifest().l0().len() >= shared.config.limits.l0_files_max {
                shared.compact_and_plan().await?;
                let compactions = shared.counters.compactions.load(Ordering::Relaxed);
                if compactions.is_multiple_of(COMPACTIONS_PER_COLLECTION) {
                    shared.collect(&pins).await?;
                }
            } else if !locked(&shared.rewriting).is_empty() {
                shared.rewrite_step().await?;
            } else {
                return Ok(false);
            }
            drop(maintenance);
            let l0_files = shared.db.manifest().l0().len();
            Ok(l0_files >= shared.config.limits.l0_files_max
                || !locked(&shared.rewriting).is_empty())
        })
        .await
    }

    /// Compacts whatever was flushed, however little it is.
    ///
    /// # Errors
    /// As [`PageStore::maintain`].
    pub async fn compact(&self) -> Result<(), PageError> {
        let shared = self.shared.clone();
        self.detached(async move {
            let _maintenance = shared.maintenance.lock().await;
            shared.check_writable()?;
            shared.compact_and_plan().await
        })
        .await
    }

    /// Deletes files and checkpoints that nothing needs; maintenance does it now and then.
    ///
    /// # Errors
    /// As [`PageStore::maintain`].
    pub async fn collect_garbage(&self, pins: impl Into<Pins>) -> Result<(), PageError> {
        let (shared, pins) = (self.shared.clone(), pins.into());
        self.detached(async move {
            let _maintenance = shared.maintenance.lock().await;
            // Of one that was closed, all files may be about to be deleted.
            shared.check_writable()?;
            shared.collect(&pins).await
        })
        .await
    }
}

impl Shared {
    async fn compact_and_plan(&self) -> Result<(), PageError> {
        let weights = self.compact().await?;
        let layout = self.layout().await;
        locked(&self.rewriting).plan(&layout, &weights, self.config.limits.page_bytes_max);
        Ok(())
    }

    /// One step of rewriting, and a flush when many have piled up.
    pub(super) async fn rewrite_step(&self) -> Result<(), PageError> {
        let mut writer = self.writer.lock().await;
        self.check_writable()?;
        self.rewrite(&mut writer).await?;
        if writer.rewritten_bytes >= self.config.limits.rewritten_bytes_max {
            let layout = self.layout().await;
            self.persist(&mut writer, layout, None).await?;
        }
        Ok(())
    }

    async fn collect(&self, pins: &Pins) -> Result<(), PageError> {
        let deadline = self.config.limits.deadline;
        let collecting = collect_files(&self.config, self.seed(), pins);
        within(deadline, "collecting garbage", collecting).await
    }
}
