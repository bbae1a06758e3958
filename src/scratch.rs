//! Where a process puts state that its memory has no room for, as arguments.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Args;
use compute::DiskScratch;
use engine::spill::{NoScratch, Scratch};
use state_service::object::StoreUrl;
use tokio::runtime::Handle;

use crate::memory::size;

/// Bytes of scratch files if nothing is said.
const BYTES: u64 = 16 << 30;

/// Where to put state that memory has no room for.
#[derive(Args, Clone, Debug, Default)]
pub struct ScratchArgs {
    /// Keep state that memory has no room for in files of this directory, on a local disk, rather than
    /// read it from the store again [default: the directory of the store, if it is one]
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
        Ok(ScratchPlan {
            directory: self.scratch_dir.clone().or(of_store),
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
        text => size(text).map_err(|error| error.to_string()),
    }
}
