//! What all runs over real processes have in common: the program, where its files are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use tempfile::TempDir;

/// What is measured, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct SetUp {
    /// The `millstream` binary; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Keep state and logs in a new directory within this one [default: that for temporary files].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Leave there what the run has written; it is removed otherwise.
    #[arg(long)]
    keep_data: bool,
    /// End with failure if a target is missed.
    #[arg(long)]
    pub(crate) check: bool,
}

impl SetUp {
    /// The program.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn binary(&self) -> anyhow::Result<PathBuf> {
        binary(self.binary.as_deref())
    }

    /// A folder for one run.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn folder(&self, prefix: &str) -> anyhow::Result<Folder> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(prefix);
        let made = match &self.data_dir {
            Some(within) => {
                let within = std::path::absolute(within)?;
                std::fs::create_dir_all(&within)?;
                builder.tempdir_in(within)
            }
            None => builder.tempdir(),
        };
        Ok(Folder {
            directory: Some(made.context("failed to make a folder for the run")?),
            keep: self.keep_data,
        })
    }
}

/// A folder that goes when it is dropped, unless it is to stay.
#[derive(Debug)]
pub(crate) struct Folder {
    directory: Option<TempDir>,
    keep: bool,
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        self.directory
            .as_ref()
            .map_or(Path::new("."), TempDir::path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep
            && let Some(directory) = self.directory.take()
        {
            eprintln!("kept: {}", directory.keep().display());
        }
    }
}

/// The `millstream` binary that is given, or the one beside this program.
///
/// # Errors
/// When there is none.
pub(crate) fn binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(binary) = given {
        return Ok(binary.to_owned());
    }
    let own = std::env::current_exe().context("failed to find this program")?;
    let beside = own.parent().unwrap_or(Path::new(".")).join("millstream");
    ensure!(
        beside.exists(),
        "{} is not there; build it or name it by --binary",
        beside.display()
    );
    Ok(beside)
}
