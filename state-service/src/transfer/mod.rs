//! Copies of savepoints outside of the store, for other clusters: writing them and taking them in.
//!
//! ```text
//! {place}/export.json                 whose copy it is: made first, so that a place has one
//! {place}/shards/{shard}/{part}.part  records of the shard as of its manifest, then rows of the log
//! {place}/savepoint.json              what it is, and the list of its files: made last
//! ```
//! A copy refers to nothing outside of it, and nothing in it depends on how SlateDB lays its files
//! out. It has no key of any store. Parts are cut by their bytes alone, so a copy that was broken off
//! is gone on with by whoever comes next, and two who are at it write the same.
//!
//! Invariants
//! - Memory is bounded by the parts that are under way, whatever the size of the state.
//! - Where there is a list of files, they were all there before it. What is taken in is compared with
//!   it, byte by byte.

mod depot;
mod export;
mod files;
mod import;
mod part;
mod run;

use std::{fmt, sync::Arc};

pub(crate) use run::Transfers;

use crate::{
    epoch_log::LogError,
    object::{OpenStore, StoreUrl, UrlError, open},
    objects::ObjectError,
    pages::PageError,
};

/// Shards that are copied at the same time, each with a part in memory.
const SHARDS_AT_ONCE: usize = 2;
/// Parts that are asked for at the same time where only their ends are read.
const ENDS_AT_ONCE: usize = 16;
/// Bytes of parts that are taken in before they are made durable, at least.
const PERSIST_BYTES: u64 = 64 << 20;

/// Opens stores outside of the node's own, as its environment says.
#[derive(Clone)]
pub struct Places {
    variable: Variable,
}

type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

impl Places {
    /// `variable` gives the environment's variables, which say how to reach a bucket.
    pub fn new(variable: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Places {
        Places {
            variable: Arc::new(variable),
        }
    }

    fn url(&self, url: &str) -> Result<StoreUrl, UrlError> {
        StoreUrl::parse(url, &*self.variable)
    }

    /// Opens a place; a directory is made only if `make`.
    fn open(&self, url: &str, make: bool) -> Result<OpenStore, TransferError> {
        let url = self.url(url).map_err(|error| fatal(error.to_string()))?;
        match &url {
            StoreUrl::Memory => Err(fatal(
                "memory: is another one for every process: name a bucket or a directory",
            )),
            StoreUrl::File(directory) if !make && !directory.is_dir() => Err(fatal(format!(
                "there is no directory `{}` on the state node's machine",
                directory.display()
            ))),
            _ => open(&url).map_err(|error| fatal(error.to_string())),
        }
    }
}

impl Default for Places {
    /// An environment without variables.
    fn default() -> Self {
        Places::new(|_| None)
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places")
    }
}

/// Why a transfer did not come to its end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// For good, or until somebody does something about it; why, for people.
    #[error("{0}")]
    Failed(String),
    /// It was asked to stop.
    #[error("it was stopped")]
    Stopped,
}

fn fatal(why: impl Into<String>) -> TransferError {
    TransferError::Failed(why.into())
}

impl From<ObjectError> for TransferError {
    fn from(error: ObjectError) -> Self {
        fatal(error.to_string())
    }
}

impl From<LogError> for TransferError {
    fn from(error: LogError) -> Self {
        fatal(error.to_string())
    }
}

impl From<PageError> for TransferError {
    fn from(error: PageError) -> Self {
        fatal(error.to_string())
    }
}
