//! Writing and deleting objects of the log.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStoreExt as _, path::Path};
use planted::Bug;
use proto::{log::LogObject, types::JobId};
use state_client::StateError;

use super::{
    NewObject,
    name::{job_folder, log_folder, object_path},
};
use crate::{
    caps::{ATTEMPTS_MAX, DELETIONS_AT_ONCE},
    objects::{ObjectError, Objects, Patience, Trouble},
};

/// Why the log could not be read or written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// It would not help.
    #[error("{0}")]
    Damaged(String),
    /// Nobody wants it any more.
    #[error("given up")]
    GivenUp,
}

impl From<ObjectError> for LogError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Unavailable { .. } => LogError::Unavailable(error.to_string()),
            ObjectError::Missing(_) | ObjectError::Damaged(_) => {
                LogError::Damaged(error.to_string())
            }
            ObjectError::GivenUp => LogError::GivenUp,
        }
    }
}

impl From<LogError> for StateError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged(why) => StateError::Damaged(why),
            LogError::Unavailable(why) => StateError::Unavailable(why),
            LogError::GivenUp => StateError::Unavailable(error.to_string()),
        }
    }
}

/// The logs of all jobs.
#[derive(Clone)]
pub(crate) struct EpochLog {
    pub(super) objects: Arc<Objects>,
    root: Path,
}

impl EpochLog {
    pub(crate) fn new(objects: Arc<Objects>, root: Path) -> Self {
        EpochLog { objects, root }
    }

    pub(super) fn path(&self, job: JobId, name: &str) -> Path {
        object_path(&self.root, job, name)
    }

    /// Writes an object, for as long as `wanted`. A failed attempt may have succeeded unseen; the
    /// next one writes the same bytes under the same name, so it does not matter which it was.
    pub(crate) async fn put(
        &self,
        job: JobId,
        name: String,
        object: NewObject,
        wanted: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<LogObject, LogError> {
        let path = self.path(job, &name);
        let put = || async {
            let put = self.objects.store.put(&path, object.payload.clone());
            put.await.map(drop).map_err(Trouble::from)
        };
        if planted::is(Bug::AckBeforeDurable) {
            let (store, payload, path) = (self.objects.store.clone(), object.payload, path.clone());
            tokio::spawn(async move { store.put(&path, payload).await });
            return Ok(LogObject {
                name,
                bytes: object.bytes,
                holds: object.holds,
            });
        }
        let patience = Patience::While(wanted);
        self.objects
            .repeat("writing the epoch log", patience, put)
            .await?;
        Ok(LogObject {
            name,
            bytes: object.bytes,
            holds: object.holds,
        })
    }

    /// Names of all objects of the job's log.
    pub(crate) async fn list(&self, job: JobId) -> Result<BTreeSet<String>, LogError> {
        let folder = log_folder(&self.root, job);
        let listed = self.list_below(&folder).await?;
        let prefix = format!("{folder}/");
        let names = listed.iter();
        let names = names.filter_map(|path| path.as_ref().strip_prefix(&prefix));
        Ok(names.map(str::to_owned).collect())
    }

    async fn list_below(&self, folder: &Path) -> Result<Vec<Path>, LogError> {
        let list = || async {
            let listed = self.objects.store.list(Some(folder));
            let paths = listed.map_ok(|meta| meta.location).try_collect();
            paths.await.map_err(Trouble::from)
        };
        let attempts = Patience::Attempts(ATTEMPTS_MAX);
        Ok(self.objects.repeat("listing files", attempts, list).await?)
    }

    /// Deletes objects; those that are gone already are no trouble.
    pub(crate) async fn delete(
        &self,
        job: JobId,
        names: impl IntoIterator<Item = String>,
    ) -> Result<(), LogError> {
        let paths = names.into_iter().map(|name| self.path(job, &name));
        self.delete_paths(paths.collect()).await
    }

    /// Folders in a folder.
    pub(crate) async fn list_folders(&self, folder: &Path) -> Result<Vec<Path>, LogError> {
        let list = || async {
            let listed = self.objects.store.list_with_delimiter(Some(folder)).await;
            Ok(listed?.common_prefixes)
        };
        let attempts = Patience::Attempts(ATTEMPTS_MAX);
        Ok(self.objects.repeat("listing files", attempts, list).await?)
    }

    /// Deletes every file in a folder.
    pub(crate) async fn delete_folder(&self, folder: &Path) -> Result<(), LogError> {
        let paths = self.list_below(folder).await?;
        self.delete_paths(paths).await
    }

    /// Deletes every file of a job.
    pub(crate) async fn delete_job(&self, job: JobId) -> Result<(), LogError> {
        self.delete_folder(&job_folder(&self.root, job)).await
    }

    async fn delete_paths(&self, paths: Vec<Path>) -> Result<(), LogError> {
        let delete = |path: Path| async move {
            let delete = || async { Ok(self.objects.store.delete(&path).await?) };
            let attempts = Patience::Attempts(ATTEMPTS_MAX);
            match self
                .objects
                .repeat("deleting files", attempts, delete)
                .await
            {
                Ok(()) | Err(ObjectError::Missing(_)) => Ok(()),
                Err(error) => Err(LogError::from(error)),
            }
        };
        let deletions = stream::iter(paths).map(delete);
        deletions
            .buffer_unordered(DELETIONS_AT_ONCE)
            .try_collect()
            .await
    }
}
