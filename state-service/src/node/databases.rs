//! Databases of a job's shards as files: which there are, and deleting those that nothing needs.

use proto::{
    state_control::{JobLine, JobReferences},
    types::{JobId, KeyGroupCount, ShardId},
};

use crate::{
    epoch_log::LogError,
    pages::{PageError, PageStore, PageStoreConfig},
    shard::{ShardContext, database_at, database_path, databases_folder},
};

/// A database of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Database {
    of: JobLine,
    shard: ShardId,
}

/// The databases of a job of which there are files.
pub(super) async fn databases(
    context: &ShardContext,
    job: JobId,
) -> Result<Vec<Database>, LogError> {
    let folder = databases_folder(&context.root, job);
    let found = context.log.list_folders(&folder).await?;
    let found = found.iter().filter_map(|path| database_at(path.as_ref()));
    Ok(found.map(|(of, shard)| Database { of, shard }).collect())
}

/// Deletes those of the databases that nothing needs, as the answer says that came after they were
/// listed; how many there were.
pub(super) async fn delete_unneeded(
    context: &ShardContext,
    listed: &[Database],
    references: &JobReferences,
) -> Result<usize, LogError> {
    let needed = |database: &&Database| references.manifests(database.of.line, database.shard);
    let unneeded = listed.iter().filter(|database| needed(database).is_none());
    let mut count = 0;
    for database in unneeded {
        release(context, database).await?;
        let path = database_path(&context.root, database.of, database.shard);
        context.log.delete_folder(&path).await?;
        count += 1;
    }
    Ok(count)
}

/// Deletes what no state of the kept databases of an ended job refers to.
pub(super) async fn tidy_kept(
    context: &ShardContext,
    listed: &[Database],
    references: &JobReferences,
) -> Result<(), LogError> {
    for database in listed {
        let manifests = references.manifests(database.of.line, database.shard);
        let Some(manifests) = manifests.filter(|manifests| !manifests.is_empty()) else {
            continue;
        };
        let config = config_of(context, database);
        let tidied = PageStore::tidy(&config, manifests.to_vec()).await;
        tidied.map_err(log_error)?;
    }
    Ok(())
}

/// Lets go of what a database, which is to be deleted, refers to in others.
pub(super) async fn release(context: &ShardContext, database: &Database) -> Result<(), LogError> {
    let released = PageStore::release(&config_of(context, database)).await;
    released.map_err(log_error)
}

fn config_of(context: &ShardContext, database: &Database) -> PageStoreConfig {
    let node = &context.config;
    PageStoreConfig {
        path: database_path(&context.root, database.of, database.shard).into(),
        store: node.store.store.clone(),
        // It is not opened.
        key_groups: KeyGroupCount::DEFAULT,
        range: KeyGroupCount::DEFAULT.range(0, 1),
        block_cache: None,
        page_cache: None,
        seed: node.seed,
        clock: node.clock.clone(),
        runtime: node.runtime.clone(),
        limits: node.page_limits.clone(),
    }
}

fn log_error(error: PageError) -> LogError {
    match error {
        PageError::Damaged(why) => LogError::Damaged(why),
        other => LogError::Unavailable(other.to_string()),
    }
}
