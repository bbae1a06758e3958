//! Opening a store: no request is made yet.
//!
//! Files of a directory are synced before a write is answered, names included, so that what was
//! acknowledged is there after a power cut. It costs about 6 ms per object and no
//! computing (measured on a virtual disk, 1 KiB to 1 MiB: 0.3-0.5 ms without), and objects are
//! few: one per epoch and node, and the LSM's.

use std::{fmt, io, path, sync::Arc, time::Duration};

use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory, path::Path};

use super::{
    directory::DirectoryStore,
    error::{Fault, StoreError, Target},
    full::{Full, FullStore},
    s3::S3Bucket,
    url::StoreUrl,
};

/// What a store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreKind {
    /// A local directory. An object can be made if it is not there yet, but not be replaced on
    /// condition.
    Directory,
    /// This process's memory.
    Memory,
    /// A bucket.
    S3,
}

/// A store that is open.
#[derive(Clone)]
pub struct OpenStore {
    /// Its objects.
    pub store: Arc<dyn ObjectStore>,
    /// The part of it that is ours; empty: all.
    pub prefix: Path,
    /// What it is.
    pub kind: StoreKind,
    target: Target,
    /// Of a directory.
    full: Option<Full>,
}

impl OpenStore {
    /// A store that somebody else has opened, a wrapped one for instance.
    #[must_use]
    pub fn with_store(&self, store: Arc<dyn ObjectStore>) -> OpenStore {
        let store = match self.full.clone() {
            Some(full) => Arc::new(FullStore::new(store, full)),
            None => store,
        };
        OpenStore {
            store,
            ..self.clone()
        }
    }

    /// Waits until a write finds no space left on the disk of a directory; what to do, in one line.
    /// Whoever works on the directory stops then: what was acknowledged is there, and nothing that
    /// waits makes room. A bucket's operator makes room while its users wait.
    pub async fn full(&self) -> String {
        match &self.full {
            Some(full) => full.found().await,
            None => std::future::pending().await,
        }
    }

    /// The name of an object below our prefix.
    #[must_use]
    pub fn path(&self, name: &str) -> Path {
        let parts = name.split('/').map(object_store::path::PathPart::from);
        self.prefix.parts().chain(parts).collect()
    }

    /// What happened and what to do, in one line.
    #[must_use]
    pub fn explain(&self, error: &object_store::Error) -> StoreError {
        self.target.explain(error)
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.target.place()
    }

    /// Whether one of the two has the other, or a part of it.
    #[must_use]
    pub fn overlaps(&self, other: &OpenStore) -> bool {
        match (&self.target, &other.target) {
            (Target::Directory(one), Target::Directory(two)) => {
                // As they are, whatever leads there.
                let real = |path: &path::Path| path.canonicalize().unwrap_or(path.to_owned());
                let (one, two) = (real(one), real(two));
                one.starts_with(&two) || two.starts_with(&one)
            }
            (Target::Bucket(one), Target::Bucket(two)) if one == two => {
                self.prefix.prefix_matches(&other.prefix)
                    || other.prefix.prefix_matches(&self.prefix)
            }
            _ => false,
        }
    }

    pub(super) fn refuse(&self, why: &str) -> StoreError {
        StoreError {
            fault: Fault::Other,
            line: format!("{} {why}", self.target.place()),
        }
    }

    /// That it does not answer though `waited` have passed.
    #[must_use]
    pub fn slow(&self, waited: Duration) -> StoreError {
        let (place, seconds) = (self.target.place(), waited.as_secs_f64());
        StoreError {
            fault: Fault::Unreachable,
            line: format!("{place} answers slowly: a request has waited for more than {seconds} s"),
        }
    }

    pub(super) fn too_slow(&self) -> StoreError {
        StoreError {
            fault: Fault::Unreachable,
            line: format!("{} does not answer in time", self.target.place()),
        }
    }
}

impl fmt::Debug for OpenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStore")
            .field("place", &self.target.place())
            .field("prefix", &self.prefix)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Opens a store; a directory is made if it is not there.
///
/// # Errors
/// When the directory cannot be one, or the bucket's options do not fit together.
pub fn open(url: &StoreUrl) -> Result<OpenStore, StoreError> {
    match url {
        StoreUrl::Memory => Ok(OpenStore {
            store: Arc::new(InMemory::new()),
            prefix: Path::default(),
            kind: StoreKind::Memory,
            target: Target::Memory,
            full: None,
        }),
        StoreUrl::File(directory) => open_directory(directory),
        StoreUrl::S3(bucket) => open_bucket(bucket),
    }
}

fn open_directory(directory: &path::Path) -> Result<OpenStore, StoreError> {
    let target = Target::Directory(directory.to_owned());
    let made = std::fs::create_dir_all(directory);
    let made = made.and_then(|()| match directory.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    made.map_err(|error| target.explain_io(&error))?;
    let store = LocalFileSystem::new_with_prefix(directory);
    let store = store.map_err(|error| target.explain(&error))?;
    let full = Full::new(target.clone());
    let directory: Arc<dyn ObjectStore> = Arc::new(DirectoryStore::new(store));
    Ok(OpenStore {
        store: Arc::new(FullStore::new(directory, full.clone())),
        prefix: Path::default(),
        kind: StoreKind::Directory,
        target,
        full: Some(full),
    })
}

fn open_bucket(bucket: &S3Bucket) -> Result<OpenStore, StoreError> {
    // The client would panic without one. Another part of the process may have been faster.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let target = Target::Bucket(bucket.place());
    let client = bucket.client().map_err(|error| target.explain(&error))?;
    Ok(OpenStore {
        store: Arc::new(client),
        prefix: bucket.prefix.clone(),
        kind: StoreKind::S3,
        target,
        full: None,
    })
}
