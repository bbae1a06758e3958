//! Whose a store is: the object `millstream.json`, made by the first who comes and never changed.

use std::fmt;

use futures::TryStreamExt as _;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{error::StoreError, open::OpenStore, probe::PROBES};

/// Version of everything below the prefix: folders, and the formats of what has no version itself.
pub const FORMAT: u32 = 1;
/// Name of the object.
pub const IDENTITY: &str = "millstream.json";
/// How often it is looked for again while others make it.
const LOOKS_MAX: usize = 5;

/// Tells a cluster from every other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(String);

impl ClusterId {
    /// A new one.
    #[must_use]
    pub fn draw(random: &mut impl Rng) -> ClusterId {
        ClusterId(format!("{:032x}", random.random::<u128>()))
    }
}

impl From<&str> for ClusterId {
    fn from(text: &str) -> Self {
        ClusterId(text.to_owned())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who keeps the metadata of what is in a store: numbers of jobs, owners of shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeper {
    /// One process with all tiers, in the store itself.
    Embedded,
    /// The control plane of a cluster.
    Cluster,
}

/// Whose a store is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// [`FORMAT`] of who made it.
    pub format: u32,
    /// Cluster.
    pub cluster: ClusterId,
    /// Tells the store from every other, also of the same cluster: drawn at random when it was made.
    #[serde(default)]
    pub store: String,
    /// Who keeps its metadata; `None`: it was made before that was written down.
    #[serde(default)]
    pub metadata: Option<Keeper>,
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
}

impl Identity {
    /// That of a cluster whose first start this may be.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        metadata: Keeper,
        created_ms: u64,
        random: &mut impl Rng,
    ) -> Identity {
        Identity {
            format: FORMAT,
            cluster,
            store: format!("{:032x}", random.random::<u128>()),
            metadata: Some(metadata),
            created_ms,
        }
    }

    /// Reads it; `None`: the store is empty.
    pub(super) async fn read(open: &OpenStore) -> Result<Option<Identity>, StoreError> {
        let path = open.path(IDENTITY);
        for _ in 0..LOOKS_MAX {
            let got = async { open.store.get(&path).await?.bytes().await };
            match got.await {
                Ok(bytes) => return parse(open, &bytes).map(Some),
                Err(Error::NotFound { source, .. })
                    if !source.to_string().contains("NoSuchBucket") => {}
                Err(error) => return Err(open.explain(&error)),
            }
            match first_object(open).await? {
                None => return Ok(None),
                // Made since we looked.
                Some(name) if name == path.as_ref() => {}
                Some(_) if open.store.head(&path).await.is_ok() => {}
                Some(name) => {
                    let name = name.strip_prefix(open.prefix.as_ref()).unwrap_or(&name);
                    let why = format!(
                        "is not empty and not a Millstream store (it has `{}` but no \
                         `{IDENTITY}`): use another prefix or directory",
                        name.trim_start_matches('/')
                    );
                    return Err(open.refuse(&why));
                }
            }
        }
        Err(open.refuse("lists objects that cannot be read"))
    }

    /// Makes it, unless somebody was faster: then it is that one's.
    pub(super) async fn make(self, open: &OpenStore) -> Result<Identity, StoreError> {
        let path = open.path(IDENTITY);
        let bytes = serde_json::to_vec(&self).expect("an identity is plain data");
        for _ in 0..LOOKS_MAX {
            let options = PutOptions::from(PutMode::Create);
            let payload = PutPayload::from(bytes.clone());
            match open.store.put_opts(&path, payload, options).await {
                Ok(_) => return Ok(self),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => return Err(open.explain(&error)),
            }
            if let Some(identity) = Identity::read(open).await? {
                return Ok(identity);
            }
        }
        Err(open.refuse(&format!("lets nobody make `{IDENTITY}`")))
    }

    /// Whether it is whom we expect: of `expected`, and used in the way of `ours`. Two who number jobs
    /// on their own would destroy each other's shards.
    pub(super) fn check(
        &self,
        open: &OpenStore,
        ours: &Identity,
        expected: Option<&ClusterId>,
    ) -> Result<(), StoreError> {
        if let (Some(found), Some(wanted)) = (self.metadata, ours.metadata)
            && found != wanted
        {
            return Err(open.refuse(match found {
                Keeper::Embedded => {
                    "belongs to a single process (`dev`, `run`), which keeps the metadata of its jobs in \
                     it: give the cluster another prefix or directory"
                }
                Keeper::Cluster => {
                    "belongs to a cluster, whose control plane keeps the metadata of its jobs: use \
                     another prefix or directory"
                }
            }));
        }
        let Some(expected) = expected.filter(|expected| self.cluster != **expected) else {
            return Ok(());
        };
        let found = &self.cluster;
        let why = format!(
            "belongs to cluster {found}, and this process to {expected}: give each its own store"
        );
        Err(open.refuse(&why))
    }
}

/// Whose a store is; `None`: it is empty.
///
/// # Errors
/// When it cannot be read, or is no store of ours.
pub async fn identity(open: &OpenStore) -> Result<Option<Identity>, StoreError> {
    Identity::read(open).await
}

/// What is read of any format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn parse(open: &OpenStore, bytes: &[u8]) -> Result<Identity, StoreError> {
    let damaged = |error: serde_json::Error| {
        open.refuse(&format!("has a damaged `{IDENTITY}` ({error}): restore it"))
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format != FORMAT {
        let why = format!(
            "was made by a newer version of Millstream (format {format}, this one knows \
             {FORMAT}): use that version"
        );
        return Err(open.refuse(&why));
    }
    let mut identity: Identity = serde_json::from_slice(bytes).map_err(damaged)?;
    if identity.store.is_empty() {
        // Made before stores had ids: the only one of its cluster.
        identity.store = identity.cluster.to_string();
    }
    Ok(identity)
}

/// Some object that is no probe's.
async fn first_object(open: &OpenStore) -> Result<Option<String>, StoreError> {
    let probes = open.path(PROBES);
    let prefix = (!open.prefix.as_ref().is_empty()).then_some(&open.prefix);
    let mut listed = open.store.list(prefix);
    loop {
        let next = listed.try_next().await;
        match next.map_err(|error| open.explain(&error))? {
            None => return Ok(None),
            Some(object) if object.location.prefix_matches(&probes) => {}
            Some(object) => return Ok(Some(object.location.to_string())),
        }
    }
}
