//! Whether a store keeps its promises: of two that make one object one wins, a stale change is
//! refused, and what was written is read and listed at once. All that keeps two writers apart
//! rests on this, so nothing runs on a store that breaks it.
//!
//! Each probe has a folder of its own and leaves nothing behind.

use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
    path::Path,
};

use super::{
    error::StoreError,
    open::{OpenStore, StoreKind},
};

/// Folder of all probes.
pub(super) const PROBES: &str = "probe";
/// A store that takes longer is not fit.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// Races of two; one may look fine by luck.
const RACES: usize = 3;
/// How often a race is run again that nobody won.
const REPEATS_MAX: usize = 5;

/// Tries the store out; `nonce` is drawn at random for this probe.
///
/// # Errors
/// When it cannot be used, or breaks a promise.
pub async fn probe(open: &OpenStore, nonce: u64) -> Result<(), StoreError> {
    let folder = open.path(&format!("{PROBES}/{nonce:016x}"));
    let probe = Probe { open, folder };
    let probed = tokio::time::timeout(PROBE_MAX, probe.run()).await;
    // Whatever was found: nothing stays.
    let cleaned = tokio::time::timeout(PROBE_MAX, probe.clean()).await;
    probed.unwrap_or_else(|_| Err(open.too_slow()))?;
    cleaned.unwrap_or_else(|_| Err(open.too_slow()))
}

struct Probe<'a> {
    open: &'a OpenStore,
    folder: Path,
}

impl Probe<'_> {
    fn store(&self) -> &dyn ObjectStore {
        &*self.open.store
    }

    fn explain(&self, error: &Error) -> StoreError {
        self.open.explain(error)
    }

    async fn run(&self) -> Result<(), StoreError> {
        for race in 0..RACES {
            let path = self.folder.clone().join(format!("race-{race}"));
            let winner = self.race(&path).await?;
            self.look(&path, winner).await?;
            if race == 0 {
                self.come_late(&path).await?;
            }
        }
        if self.open.kind != StoreKind::Directory {
            self.change().await?;
        }
        Ok(())
    }

    /// Two make one object; who it was that won.
    async fn race(&self, path: &Path) -> Result<u8, StoreError> {
        for _ in 0..REPEATS_MAX {
            let (first, second) =
                futures::future::join(self.create(path, 1), self.create(path, 2)).await;
            match (first?, second?) {
                (true, true) => return Err(self.open.refuse(IGNORES_CREATE)),
                (true, false) => return Ok(1),
                (false, true) => return Ok(2),
                // The winner's answer was lost and its repetition refused, or both were asked to
                // come again.
                (false, false) => {
                    if let Some(winner) = self.content(path).await? {
                        return Ok(winner);
                    }
                }
            }
        }
        Err(self.open.refuse("lets nobody win who makes an object"))
    }

    async fn come_late(&self, path: &Path) -> Result<(), StoreError> {
        match self.create(path, 3).await? {
            true => Err(self.open.refuse(IGNORES_CREATE)),
            false => Ok(()),
        }
    }

    /// What was written is there, and in lists.
    async fn look(&self, path: &Path, winner: u8) -> Result<(), StoreError> {
        match self.content(path).await? {
            Some(content) if content == winner => {}
            Some(_) => return Err(self.open.refuse(IGNORES_CREATE)),
            None => return Err(self.open.refuse("does not show what was just written")),
        }
        match self.list().await?.contains(path) {
            true => Ok(()),
            false => Err(self.open.refuse("does not list what was just written")),
        }
    }

    /// Replaces an object on condition that it is as it was.
    async fn change(&self) -> Result<(), StoreError> {
        let path = self.folder.clone().join("change");
        let put = self.store().put(&path, payload(1)).await;
        let old = UpdateVersion::from(put.map_err(|error| self.explain(&error))?);
        let update = |content, version: &UpdateVersion| {
            let options = PutOptions::from(PutMode::Update(version.clone()));
            self.store().put_opts(&path, payload(content), options)
        };
        let new = update(2, &old).await;
        new.map_err(|error| self.explain(&error))?;
        match update(3, &old).await {
            Ok(_) => Err(self.open.refuse(IGNORES_UPDATE)),
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// Whether it was ours to make.
    async fn create(&self, path: &Path, content: u8) -> Result<bool, StoreError> {
        let options = PutOptions::from(PutMode::Create);
        match self.store().put_opts(path, payload(content), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(Error::NotImplemented { .. }) => Err(self.open.refuse(IGNORES_CREATE)),
            Err(error) => Err(self.explain(&error)),
        }
    }

    async fn content(&self, path: &Path) -> Result<Option<u8>, StoreError> {
        let got = async { self.store().get(path).await?.bytes().await };
        match got.await {
            Ok(bytes) => Ok(Some(bytes.first().copied().unwrap_or_default())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.explain(&error)),
        }
    }

    async fn list(&self) -> Result<Vec<Path>, StoreError> {
        let listed = self.store().list(Some(&self.folder));
        let listed = listed.map_ok(|object| object.location).try_collect().await;
        listed.map_err(|error| self.explain(&error))
    }

    /// Deletes all of it, and looks whether it is gone.
    async fn clean(&self) -> Result<(), StoreError> {
        for path in self.list().await? {
            match self.store().delete(&path).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.explain(&error)),
            }
            if self.content(&path).await?.is_some() {
                return Err(self.open.refuse("still shows what was just deleted"));
            }
        }
        Ok(())
    }
}

const IGNORES_CREATE: &str = "ignores the condition that an object is new (If-None-Match), so two \
                              writers would destroy each other's data: use a store that heeds it";
const IGNORES_UPDATE: &str = "ignores the condition that an object is unchanged (If-Match), so two \
                              writers would destroy each other's data: use a store that heeds it";

fn payload(content: u8) -> PutPayload {
    PutPayload::from(vec![content])
}
