//! Where a process puts state that its memory has no room for, as arguments.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Args;
use compute::DiskScratch;
use engine::spill::{NoScratch, Scratch};
use state_service::object::StoreUrl;
use tokio::runtime::Handle;

use crate::memory::{SizeError, size};

/// Bytes of scratch files if nothing is said.
const BYTES: u64 = 16 << 30;

/// Where to put state that memory has no room for.
#[derive(Args, Clone, Debug, Default)]
pub struct ScratchArgs {
    /// Keep state that memory has no room for in files of this directory, on a local disk, rather than
    /// read it from the store again [default: the directory of --data-dir or --store, if it is one]
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,
    /// Bytes that these files may have together [default: 16GiB]; 0: keep none
    #[arg(long, value_name = "SIZE", value_parser = scratch_size)]
    scratch_size: Option<u64>,
}

/// A place for scratch files, before there is a runtime to use it on.
#[derive(Clone, Debug)]
pub struct ScratchPlan {
    directory: Option<PathBuf>,
    bytes: u64,
}

impl ScratchArgs {
    /// Where they go, by the store that is used.
    ///
    /// # Errors
    /// When files cannot be written there.
    pub fn plan(&self, store: Option<&StoreUrl>) -> anyhow::Result<ScratchPlan> {
        if let Some(directory) = &self.scratch_dir {
            let prepared = DiskScratch::prepare(directory);
            prepared.with_context(|| {
                format!(
                    "failed to write into --scratch-dir `{}`",
                    directory.display()
                )
            })?;
        }
        let of_store = match store {
            Some(StoreUrl::File(directory)) => Some(directory.clone()),
            _ => None,
        };
        let directory = self.scratch_dir.clone().or(of_store);
        if directory.is_none() && self.scratch_size.is_some_and(|bytes| bytes > 0) {
            bail!("--scratch-size says how much, but not where: give --scratch-dir");
        }
        Ok(ScratchPlan {
            directory,
            bytes: self.scratch_size.unwrap_or(BYTES),
        })
    }

    /// For a process that keeps all state in memory.
    ///
    /// # Errors
    /// When anything is given.
    pub(crate) fn check_unused(&self) -> anyhow::Result<()> {
        if self.scratch_dir.is_some() || self.scratch_size.is_some() {
            bail!("--scratch-dir and --scratch-size need a store: give --data-dir or --store");
        }
        Ok(())
    }
}

impl ScratchPlan {
    /// No place.
    #[must_use]
    pub fn none() -> ScratchPlan {
        ScratchPlan {
            directory: None,
            bytes: 0,
        }
    }

    /// The place, on the current runtime.
    #[must_use]
    pub fn open(&self) -> Arc<dyn Scratch> {
        match &self.directory {
            Some(directory) if self.bytes > 0 => {
                let scratch = DiskScratch::new(directory.clone(), self.bytes, Handle::current());
                Arc::new(scratch)
            }
            _ => Arc::new(NoScratch),
        }
    }
}

fn scratch_size(text: &str) -> Result<u64, String> {
    match text.trim() {
        "0" => Ok(0),
        text => size(text).map_err(|error| match error {
            SizeError::TooSmall => "less than 256MiB is of no use; 0 keeps no files".to_owned(),
            error => error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_without_a_place_is_refused() {
        let size = |bytes| ScratchArgs {
            scratch_dir: None,
            scratch_size: bytes,
        };
        let directory = StoreUrl::File("/data".into());
        assert!(size(Some(1 << 30)).plan(Some(&directory)).is_ok());
        let error = size(Some(1 << 30))
            .plan(None)
            .expect_err("nowhere to put it");
        assert!(error.to_string().contains("--scratch-dir"), "{error}");
        assert!(size(Some(0)).plan(None).is_ok());
        assert!(size(None).plan(None).is_ok());
        assert!(size(None).check_unused().is_ok());
        assert!(size(Some(0)).check_unused().is_err());
    }

    #[test]
    fn sizes_are_read_and_refused() {
        assert_eq!(scratch_size(" 0 "), Ok(0));
        assert_eq!(scratch_size("1GiB"), Ok(1 << 30));
        let error = scratch_size("1MiB").expect_err("too small");
        assert!(error.contains("0 keeps no files"), "{error}");
        assert!(scratch_size("much").is_err());
    }
}
