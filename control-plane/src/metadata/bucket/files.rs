//! The objects of the log: their names, and requests with deadlines.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, path::Path};
use serde::de::DeserializeOwned;

use super::{
    Explain,
    limits::DELETES_MAX,
    record::{self, Unreadable},
};

/// Why a request came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// There is no such object.
    Missing(String),
    /// The object is not what was written, or not what we can read.
    Unreadable(String, Unreadable),
    /// The store failed; another attempt may do.
    Store(String),
}

/// Where entries and snapshots are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Folder {
    Log,
    Snapshots,
}

/// What became of an object that was to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    Ours,
    /// There is one, which may be ours.
    Exists,
}

/// The objects.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) root: Path,
    pub(super) explain: Explain,
    pub(super) attempt_max: Duration,
}

impl Files {
    pub(super) fn path(&self, folder: Folder, index: u64) -> Path {
        self.folder(folder).join(format!("{index:020}.json"))
    }

    fn folder(&self, folder: Folder) -> Path {
        let name = match folder {
            Folder::Log => "log",
            Folder::Snapshots => "snapshot",
        };
        self.root.clone().join("meta").join(name)
    }

    /// Indices of objects after this one, in order.
    pub(super) async fn list(&self, folder: Folder, after: u64) -> Result<Vec<u64>, Trouble> {
        let path = self.folder(folder);
        let offset = self.path(folder, after);
        let listed = self.store.list_with_offset(Some(&path), &offset);
        let locations = listed.map_ok(|object| object.location);
        let locations: Vec<Path> = self.request(locations.try_collect()).await?;
        let mut indices = Vec::with_capacity(locations.len());
        for location in locations {
            let name = location.filename().unwrap_or_default();
            let number = name.strip_suffix(".json").filter(|n| n.len() == 20);
            match number.and_then(|number| number.parse().ok()) {
                Some(index) if self.path(folder, index) == location => indices.push(index),
                _ => {
                    let why = Unreadable::Damaged("no such name was ever given".to_owned());
                    return Err(Trouble::Unreadable(location.to_string(), why));
                }
            }
        }
        indices.sort_unstable();
        Ok(indices)
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        folder: Folder,
        index: u64,
    ) -> Result<T, Trouble> {
        let path = self.path(folder, index);
        let got = async {
            let got = async { self.store.get(&path).await?.bytes().await };
            match got.await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let bytes = self
            .request(got)
            .await?
            .ok_or_else(|| Trouble::Missing(path.to_string()))?;
        record::read(&bytes).map_err(|why| Trouble::Unreadable(path.to_string(), why))
    }

    /// Makes an object if there is none.
    pub(super) async fn make(
        &self,
        folder: Folder,
        index: u64,
        bytes: Vec<u8>,
    ) -> Result<Made, Trouble> {
        let path = self.path(folder, index);
        let options = PutOptions::from(PutMode::Create);
        let put = async {
            match self.store.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(Made::Ours),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Made::Exists),
                Err(error) => Err(error),
            }
        };
        self.request(put).await
    }

    /// Writes an object, whatever is there.
    pub(super) async fn write(
        &self,
        folder: Folder,
        index: u64,
        bytes: Vec<u8>,
    ) -> Result<(), Trouble> {
        let path = self.path(folder, index);
        let put = async { self.store.put(&path, bytes.into()).await };
        self.request(put).await.map(|_| ())
    }

    /// Deletes objects; those that are gone already count as deleted.
    pub(super) async fn delete(&self, folder: Folder, indices: Vec<u64>) -> Result<(), Trouble> {
        for some in indices.chunks(DELETES_MAX) {
            let paths = some.iter().map(|index| Ok(self.path(folder, *index)));
            let paths: Vec<_> = paths.collect();
            let mut deleted = self.store.delete_stream(stream::iter(paths).boxed());
            let delete = async {
                while let Some(deleted) = deleted.next().await {
                    match deleted {
                        Ok(_) | Err(Error::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            };
            self.request(delete).await?;
        }
        Ok(())
    }

    async fn request<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout(self.attempt_max, request).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Trouble::Store((self.explain)(&error))),
            Err(_) => {
                let waited = self.attempt_max;
                Err(Trouble::Store(format!(
                    "the store gives no answer within {waited:?}"
                )))
            }
        }
    }
}
