//! Checkpoints of a shard, clones at them, and its end: what is done to the files as a whole.

use proto::types::Epoch;
use slatedb::{
    CloneSourceSpec,
    admin::{Admin, AdminBuilder},
    config::{
        GarbageCollectorDirectoryOptions, GarbageCollectorOptions, GarbageCollectorScheduleOptions,
    },
};

use super::{
    PageStore,
    config::PageStoreConfig,
    error::PageError,
    store::{Shared, mixed, within},
};

/// Name of the checkpoint that a flush of `epoch` makes.
pub(super) fn checkpoint_name(epoch: Epoch) -> String {
    format!("epoch-{}", epoch.0)
}

fn epoch_of(name: &str) -> Option<Epoch> {
    name.strip_prefix("epoch-")?.parse().ok().map(Epoch)
}

/// Repeats failed requests without end: each use has a deadline.
pub(super) fn admin(config: &PageStoreConfig, seed: u64) -> Admin {
    let admin = AdminBuilder::new(config.path.clone(), config.store.clone()).with_seed(seed);
    match &config.clock {
        Some(clock) => admin.with_system_clock(clock.clone()).build(),
        None => admin.build(),
    }
}

impl PageStore {
    /// Epochs of which there is a checkpoint, in order.
    ///
    /// # Errors
    /// When the object store fails.
    pub async fn checkpoints(&self) -> Result<Vec<Epoch>, PageError> {
        let shared = &*self.shared;
        let admin = admin(&shared.config, shared.seed());
        let listing = async {
            let found = admin.list_checkpoints(None).await;
            found.map_err(PageError::of("listing checkpoints"))
        };
        let found = within(
            shared.config.limits.deadline,
            "listing checkpoints",
            listing,
        )
        .await?;
        let names = found.iter().filter_map(|found| found.name.as_deref());
        let mut epochs: Vec<Epoch> = names.filter_map(epoch_of).collect();
        epochs.sort_unstable();
        epochs.dedup();
        Ok(epochs)
    }

    /// Makes the shard of `config` a copy of the one at `source` as of its checkpoint of `epoch`.
    /// Only metadata is copied: the files stay those of the source, which must not be destroyed
    /// as long as the copy refers to them.
    ///
    /// # Errors
    /// [`PageError::Invalid`] when there is no such checkpoint.
    pub async fn clone_from(
        config: &PageStoreConfig,
        source: &str,
        epoch: Epoch,
    ) -> Result<(), PageError> {
        let doing = "cloning a shard";
        let of_source = PageStoreConfig {
            path: source.to_string(),
            ..config.clone()
        };
        let cloning = async {
            let source_admin = admin(&of_source, config.seed);
            let name = checkpoint_name(epoch);
            let found = source_admin.list_checkpoints(Some(&name)).await;
            let found = found.map_err(PageError::of(doing))?;
            let Some(checkpoint) = found.last() else {
                let why = format!("{source} has no checkpoint of epoch {epoch}");
                return Err(PageError::Invalid(why));
            };
            let from = CloneSourceSpec::with_checkpoint(source.to_string(), checkpoint.id);
            // The clone's checkpoint in the source gets an id of its own, whoever else has cloned
            // it with the same seed.
            let seed = mixed(config.shard_seed(), epoch.0);
            let admin = admin(config, seed);
            let cloned = admin.create_clone_builder_from_source(from).build().await;
            cloned.map_err(PageError::of(doing))
        };
        within(config.limits.deadline, doing, cloning).await
    }

    /// Deletes every file of the shard. The store of it must be closed, and no clone may refer to
    /// its files any more.
    ///
    /// # Errors
    /// When the object store fails; a second call goes on.
    pub async fn destroy(config: &PageStoreConfig) -> Result<(), PageError> {
        let doing = "deleting a shard";
        let destroying = async {
            let deleted = admin(config, config.seed).delete_db(true).await;
            deleted.map(|_| ()).map_err(PageError::of(doing))
        };
        within(config.limits.deadline, doing, destroying).await
    }
}

impl Shared {
    /// Drops checkpoints beyond those that are kept, then files that nothing refers to.
    pub(super) async fn collect_garbage(&self, pinned: &[Epoch]) -> Result<(), PageError> {
        let doing = "collecting garbage";
        let admin = admin(&self.config, self.seed());
        let found = admin
            .list_checkpoints(None)
            .await
            .map_err(PageError::of(doing))?;
        let mut ours: Vec<_> = found
            .iter()
            .filter_map(|found| Some((epoch_of(found.name.as_deref()?)?, found.id)))
            .collect();
        ours.sort_unstable_by_key(|(epoch, _)| *epoch);
        let old = ours
            .len()
            .saturating_sub(self.config.limits.checkpoints_kept);
        for (epoch, id) in &ours[..old] {
            if !pinned.contains(epoch) {
                let deleted = admin.delete_checkpoint(*id).await;
                deleted.map_err(PageError::of(doing))?;
            }
        }
        let directory = GarbageCollectorDirectoryOptions {
            interval: None,
            min_age: self.config.limits.garbage_age,
            dry_run: false,
        };
        let options = GarbageCollectorOptions {
            manifest_options: Some(directory),
            wal_options: None,
            wal_fence_options: None,
            compacted_options: Some(directory),
            compactions_options: Some(directory),
            detach_options: Some(GarbageCollectorScheduleOptions { interval: None }),
            metric_level: None,
            boundary_files_enabled: self.config.limits.conditional_overwrite,
            object_store_max_retries: Some(self.config.limits.store_retries_max),
        };
        admin
            .run_gc_once(options)
            .await
            .map_err(PageError::of(doing))
    }
}
