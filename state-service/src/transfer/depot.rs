//! The place of a copy: a bucket or a directory outside of the store, written and read with
//! deadlines and repeats as the store itself is.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, PutPayload, path::Path};

use super::{
    Places, TransferError, fatal,
    part::{END_READ_BYTES, PartEnd, read_end},
};
use crate::{
    caps::ATTEMPTS_MAX,
    health::Health,
    object::OpenStore,
    objects::{ObjectError, Objects, Patience, Trouble},
    reports::Reports,
};

/// A place.
pub(super) struct Depot {
    objects: Objects,
    open: OpenStore,
}

/// Whether an object was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    Now,
    Before,
}

impl Depot {
    /// Opens a place; a directory is made only if `make`.
    pub(super) fn open(
        places: &Places,
        url: &str,
        make: bool,
        own: &OpenStore,
        attempt_deadline: Duration,
        seed: u64,
    ) -> Result<Depot, TransferError> {
        let open = places.open(url, make)?;
        if own.overlaps(&open) {
            return Err(fatal(format!(
                "{url} is in the store that the state is in, or has it: use another bucket, prefix or \
                 directory"
            )));
        }
        // Trouble there is none of the store's.
        let health = Health::new(Reports::default());
        Ok(Depot {
            objects: Objects::new(open.clone(), attempt_deadline, health, seed),
            open,
        })
    }

    /// Where it is, for people.
    pub(super) fn name(&self, name: &str) -> String {
        format!("`{}` in {}", self.open.path(name), self.open.place())
    }

    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), TransferError> {
        let path = self.open.path(name);
        let put = || async {
            let put = self.objects.store.put(&path, bytes.clone().into());
            put.await.map(drop).map_err(Trouble::from)
        };
        Ok(self.ask("writing a copy", put).await?)
    }

    /// Makes an object unless there is one.
    pub(super) async fn make(&self, name: &str, bytes: Bytes) -> Result<Made, TransferError> {
        let path = self.open.path(name);
        let put = || async {
            let options = PutOptions::from(PutMode::Create);
            let payload = PutPayload::from(bytes.clone());
            match self.objects.store.put_opts(&path, payload, options).await {
                Ok(_) => Ok(Made::Now),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => Ok(Made::Before),
                Err(error) => Err(Trouble::from(error)),
            }
        };
        Ok(self.ask("writing a copy", put).await?)
    }

    /// An object, if it is there.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, TransferError> {
        let path = self.open.path(name);
        let get = || async {
            let got = self.objects.store.get(&path).await?;
            Ok(got.bytes().await?)
        };
        match self.ask("reading a copy", get).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ObjectError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The end of a part of so many bytes.
    pub(super) async fn end(&self, name: &str, bytes: u64) -> Result<PartEnd, TransferError> {
        let damaged = || {
            fatal(format!(
                "{} is no part of a copy: delete it",
                self.name(name)
            ))
        };
        let mut wanted = END_READ_BYTES.min(bytes);
        loop {
            let path = self.open.path(name);
            let get = || async {
                let range = bytes - wanted..bytes;
                Ok(self.objects.store.get_range(&path, range).await?)
            };
            let read = self.ask("reading a copy", get).await?;
            match read_end(&read) {
                Ok(end) => return Ok(end),
                Err(more) if more as u64 > wanted && more as u64 <= bytes => wanted = more as u64,
                Err(_) => return Err(damaged()),
            }
        }
    }

    /// Names and lengths of everything there.
    pub(super) async fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>, TransferError> {
        let within = match folder {
            "" => self.open.prefix.clone(),
            folder => self.open.path(folder),
        };
        let list = || async {
            let within = (within != Path::default()).then_some(&within);
            let listed = self.objects.store.list(within);
            let listed = listed.map_ok(|meta| (meta.location, meta.size));
            Ok(listed.try_collect::<Vec<_>>().await?)
        };
        let listed = self.ask("listing a copy", list).await?;
        let name = |path: &Path| {
            let parts = path.prefix_match(&self.open.prefix)?;
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        let named = listed.into_iter();
        Ok(named
            .filter_map(|(path, size)| Some((name(&path)?, size)))
            .collect())
    }

    async fn ask<T, Fut>(
        &self,
        doing: &'static str,
        request: impl Fn() -> Fut,
    ) -> Result<T, ObjectError>
    where
        Fut: Future<Output = Result<T, Trouble>>,
    {
        let attempts = Patience::Attempts(ATTEMPTS_MAX);
        self.objects.repeat(doing, attempts, request).await
    }
}
