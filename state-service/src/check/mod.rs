//! Whether a store has what is needed, whole, and nothing else: what `millstream fsck` finds out, also
//! while jobs run.
//!
//! ```text
//! list ─▶ ask what is needed ─▶ read the manifests of these databases ─▶ what is missing, what is too much
//!   ▲                                                                        │
//!   └──── again, until two looks agree: what changes meanwhile is no news ◀──┘
//! ```
//! What is listed and not needed by a later answer never will be, so it is too much; what is needed and
//! was not listed may only be newer than the list, so it is looked for by name. What a look found missing
//! may be needed no more by now: it counts if the next look finds the same.

mod look;
mod read;
mod report;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use object_store::path::Path;
use proto::inventory::Inventory;

pub use report::{CheckReport, Finding, FindingKind};

use self::look::{Look, Unneeded, looked};
use crate::{
    health::Health,
    object::{OpenStore, StoreError},
    objects::{ObjectError, Objects},
    pages::PageError,
    reports::Reports,
};

/// Looks that are made until two agree on what is missing.
const LOOKS_MAX: usize = 4;
/// Pause between two looks after which something may still be missing.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Deadline of one request.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// How a store is checked.
pub struct CheckConfig {
    /// The store.
    pub store: OpenStore,
    /// Says what is needed, as of after it was asked.
    pub ask: Ask,
    /// The wall clock, in ms since 1970.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Whether everything is read, and not only looked for.
    pub deep: bool,
    /// Files that nothing needs are nodes' to delete until they are so old.
    pub grace: Duration,
    /// Between two looks at files that nothing needs.
    pub settle: Duration,
    /// Of what is random.
    pub seed: u64,
}

/// Asks what is needed.
pub type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<Inventory, String>> + Send + Sync>;

/// Why a store could not be checked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    /// The store cannot be read.
    #[error("{0}")]
    Store(String),
    /// What is needed is not known.
    #[error("what is needed is not known: {0}")]
    Ask(String),
    /// They do not belong together.
    #[error("{0}")]
    Other(String),
}

impl From<ObjectError> for CheckError {
    fn from(error: ObjectError) -> Self {
        CheckError::Store(error.to_string())
    }
}

impl From<PageError> for CheckError {
    fn from(error: PageError) -> Self {
        CheckError::Store(error.to_string())
    }
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        CheckError::Store(error.to_string())
    }
}

/// A check that is under way.
struct Check {
    config: CheckConfig,
    objects: Arc<Objects>,
    root: Path,
}

/// Checks a store. Nothing in it is changed.
///
/// # Errors
/// When it cannot be read, or nobody says what is needed.
pub async fn check(config: CheckConfig) -> Result<CheckReport, CheckError> {
    let health = Health::new(Reports::default());
    let check = Check {
        objects: Arc::new(Objects::new(
            config.store.clone(),
            REQUEST_MAX,
            health,
            config.seed,
        )),
        root: config.store.prefix.clone(),
        config,
    };
    check.run().await
}

impl Check {
    async fn run(&self) -> Result<CheckReport, CheckError> {
        self.check_owner().await?;
        let first = self.look().await?;
        let first = self.settled(first).await?;
        let (second, unneeded) = self.unneeded(first).await?;
        let mut findings = second.broken();
        let mut read = report::Read::default();
        if self.config.deep {
            let (damaged, counted) = self.read_all(&second).await?;
            findings.extend(damaged);
            read = counted;
        }
        Ok(self.report(&second, findings, &unneeded, read))
    }

    /// The store and who says what is needed belong together.
    async fn check_owner(&self) -> Result<(), CheckError> {
        let place = self.config.store.place();
        let Some(identity) = crate::object::identity(&self.config.store).await? else {
            return Err(CheckError::Other(format!(
                "{place} is no store of Millstream's"
            )));
        };
        let inventory = self.ask().await?;
        let (found, asked) = (identity.cluster.to_string(), inventory.cluster);
        match found == asked {
            true => Ok(()),
            false => Err(CheckError::Other(format!(
                "{place} belongs to cluster {found}, and the server to {asked}: check each with its own"
            ))),
        }
    }

    async fn ask(&self) -> Result<Inventory, CheckError> {
        (self.config.ask)().await.map_err(CheckError::Ask)
    }

    async fn look(&self) -> Result<Look, CheckError> {
        looked(self).await
    }

    /// Looks again as long as the last two looks do not agree on what is broken.
    async fn settled(&self, mut last: Look) -> Result<Look, CheckError> {
        for _ in 1..LOOKS_MAX {
            if last.is_whole() {
                return Ok(last);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            let next = self.look().await?;
            let same = next.keep_broken_of(&last);
            let agree = same.broken_names() == last.broken_names();
            last = same;
            if agree {
                break;
            }
        }
        Ok(last)
    }

    /// What nothing needs in two looks, some time apart: with the last look.
    async fn unneeded(&self, look: Look) -> Result<(Look, BTreeMap<String, Unneeded>), CheckError> {
        let old = |look: &Look| -> BTreeMap<String, Unneeded> {
            let grace = self.config.grace.as_millis() as u64;
            let old = look
                .unneeded
                .iter()
                .filter(|(_, file)| file.age_ms >= grace);
            old.map(|(path, file)| (path.clone(), file.clone()))
                .collect()
        };
        let first = old(&look);
        if first.is_empty() {
            return Ok((look, first));
        }
        tokio::time::sleep(self.config.settle).await;
        let next = self.look().await?.keep_broken_of(&look);
        let mut both = old(&next);
        both.retain(|path, _| first.contains_key(path));
        Ok((next, both))
    }
}
