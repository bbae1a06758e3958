//! Checkpoints of a shard, clones at them, and its end: what is done to the files as a whole.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use proto::types::Epoch;
use slatedb::{
    Checkpoint, CloneSourceSpec, Db,
    admin::{Admin, AdminBuilder},
    config::{
        CheckpointOptions, CheckpointScope, GarbageCollectorDirectoryOptions,
        GarbageCollectorOptions, GarbageCollectorScheduleOptions,
    },
};

use super::{
    PageStore,
    config::PageStoreConfig,
    error::PageError,
    store::{mixed, within},
};

/// Name of the checkpoint that a flush of `epoch` makes.
pub(super) fn checkpoint_name(epoch: Epoch) -> String {
    format!("epoch-{}", epoch.0)
}

/// A checkpoint of that name.
pub(super) fn named(epoch: Epoch) -> CheckpointOptions {
    CheckpointOptions {
        name: Some(checkpoint_name(epoch)),
        ..CheckpointOptions::default()
    }
}

/// Makes the checkpoint of what was flushed last, unless there is one: a clone has none of its own,
/// and what was flushed is there before its checkpoint is.
pub(super) async fn ensure_named(db: &Db, durable: Epoch) -> Result<(), PageError> {
    let name = checkpoint_name(durable);
    let known = |known: &Checkpoint| known.name.as_ref() == Some(&name);
    if durable == Epoch::ZERO || db.manifest().checkpoints().iter().any(known) {
        return Ok(());
    }
    let made = db
        .create_checkpoint(CheckpointScope::All, &named(durable))
        .await;
    made.map(|_| ()).map_err(PageError::of("opening"))
}

/// Which checkpoints somebody needs. It is asked after they were listed, so that what is listed and
/// is not among the answer is needed by nobody and never will be. Those of later epochs than the
/// last of the answer may only not have been heard of: they stay.
#[derive(Clone)]
pub struct Pins(Ask);

type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<Epoch>, String>> + Send + Sync>;

impl Pins {
    /// Asks for them.
    pub fn new(
        ask: impl Fn() -> BoxFuture<'static, Result<Vec<Epoch>, String>> + Send + Sync + 'static,
    ) -> Pins {
        Pins(Arc::new(ask))
    }
}

impl From<Vec<Epoch>> for Pins {
    fn from(epochs: Vec<Epoch>) -> Pins {
        Pins::new(move || {
            let epochs = epochs.clone();
            async move { Ok(epochs) }.boxed()
        })
    }
}

pub(super) fn epoch_of(name: &str) -> Option<Epoch> {
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

    /// Paths of the shards whose files this one refers to.
    #[must_use]
    pub fn parents(&self) -> Vec<String> {
        let manifest = self.shared.db.manifest();
        let parents = manifest.external_dbs().iter();
        let mut paths: Vec<String> = parents.map(|parent| parent.path.clone()).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// As [`PageStore::clone_from`], unless the shard is there already. What was left half done is
    /// finished.
    ///
    /// # Errors
    /// As [`PageStore::clone_from`].
    pub async fn clone_once(
        config: &PageStoreConfig,
        source: &str,
        epoch: Epoch,
    ) -> Result<(), PageError> {
        let doing = "reading the manifest";
        let there = async {
            let manifest = admin(config, config.seed).read_manifest(None).await;
            manifest.map_err(PageError::of(doing))
        };
        let there = within(config.limits.deadline, doing, there).await?;
        match there.is_some_and(|manifest| manifest.initialized()) {
            true => Ok(()),
            false => PageStore::clone_from(config, source, epoch).await,
        }
    }

    /// Lets go of the files of other shards that a shard refers to. It is to be deleted: it cannot
    /// be opened any more.
    ///
    /// # Errors
    /// When the object store fails; a second call goes on.
    pub async fn release(config: &PageStoreConfig) -> Result<(), PageError> {
        let doing = "letting go of other shards' files";
        let releasing = async {
            let manifest = admin(config, config.seed).read_manifest(None).await;
            let Some(manifest) = manifest.map_err(PageError::of(doing))? else {
                return Ok(());
            };
            for parent in manifest.external_dbs() {
                let of_parent = PageStoreConfig {
                    path: parent.path.clone(),
                    ..config.clone()
                };
                let admin = admin(&of_parent, config.seed);
                let there = admin
                    .read_manifest(None)
                    .await
                    .map_err(PageError::of(doing))?;
                if let Some(checkpoint) = parent.final_checkpoint_id
                    && there.is_some_and(|there| {
                        there.checkpoints().iter().any(|held| held.id == checkpoint)
                    })
                {
                    let deleted = admin.delete_checkpoint(checkpoint).await;
                    deleted.map_err(PageError::of(doing))?;
                }
            }
            Ok(())
        };
        within(config.limits.deadline, doing, releasing).await
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
            // All of one name are the same; the first one stays the first.
            let Some(checkpoint) = found.first() else {
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

impl PageStore {
    /// As [`PageStore::collect_garbage`], of a shard that nobody has open.
    ///
    /// # Errors
    /// When the object store fails; a second call goes on.
    pub async fn tidy(config: &PageStoreConfig, pins: impl Into<Pins>) -> Result<(), PageError> {
        let pins = pins.into();
        let collecting = collect_files(config, config.shard_seed(), &pins);
        within(config.limits.deadline, "collecting garbage", collecting).await
    }
}

/// Drops checkpoints that nobody needs, then files that nothing refers to.
pub(super) async fn collect_files(
    config: &PageStoreConfig,
    seed: u64,
    pins: &Pins,
) -> Result<(), PageError> {
    let doing = "collecting garbage";
    let admin = admin(config, seed);
    let found = admin
        .list_checkpoints(None)
        .await
        .map_err(PageError::of(doing))?;
    let ours = found
        .iter()
        .filter_map(|found| Some((epoch_of(found.name.as_deref()?)?, found.id)));
    // After they were listed.
    let pinned = (pins.0)().await;
    let pinned = pinned.map_err(|why| PageError::Unavailable { doing, why })?;
    let newest = pinned.iter().max().copied().unwrap_or_default();
    for (_, id) in ours.filter(|(epoch, _)| *epoch < newest && !pinned.contains(epoch)) {
        let deleted = admin.delete_checkpoint(id).await;
        deleted.map_err(PageError::of(doing))?;
    }
    let directory = GarbageCollectorDirectoryOptions {
        interval: None,
        min_age: config.limits.garbage_age,
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
        boundary_files_enabled: config.limits.conditional_overwrite,
        object_store_max_retries: Some(config.limits.store_retries_max),
    };
    admin
        .run_gc_once(options)
        .await
        .map_err(PageError::of(doing))
}
