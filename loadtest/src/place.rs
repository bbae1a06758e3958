//! Where a run keeps its state: a fresh place in the store that is asked for, removed afterwards.

use std::{env, fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use state_service::object::{StoreUrl, open};
use tempfile::TempDir;

/// Where state is kept; in memory if nothing is given.
#[derive(Args, Debug)]
pub(crate) struct PlaceArgs {
    /// Keep state durably in a new directory within this one.
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    data_dir: Option<PathBuf>,
    /// Keep state durably below a new prefix in this store, s3://bucket/prefix for instance.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Leave there what the run has written; it is removed otherwise.
    #[arg(long)]
    keep_data: bool,
}

/// The place of one run.
pub(crate) struct Place {
    url: StoreUrl,
    /// A directory goes away with its owner, a run that failed too.
    directory: Option<TempDir>,
    keep: bool,
}

impl PlaceArgs {
    /// A new directory within this one, or within that for temporary files.
    pub(crate) fn within(directory: Option<PathBuf>) -> PlaceArgs {
        PlaceArgs {
            data_dir: Some(directory.unwrap_or_else(env::temp_dir)),
            store: None,
            keep_data: false,
        }
    }
}

impl Place {
    /// A place that nothing has used, `None` in memory. Its name begins with `prefix`.
    ///
    /// # Errors
    /// When there is no such store.
    pub(crate) fn make(args: &PlaceArgs, prefix: &str) -> anyhow::Result<Option<Place>> {
        let asked = match (&args.data_dir, &args.store) {
            (Some(directory), _) => StoreUrl::File(std::path::absolute(directory)?),
            (None, Some(text)) => parse(text)?,
            (None, None) => return Ok(None),
        };
        let within = match &asked {
            StoreUrl::File(directory) => directory.clone(),
            StoreUrl::Memory | StoreUrl::S3(_) => env::temp_dir(),
        };
        fs::create_dir_all(&within).with_context(|| format!("{}", within.display()))?;
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(&within);
        let directory = directory.with_context(|| format!("{}", within.display()))?;
        let (url, directory) = match asked {
            StoreUrl::File(_) => (StoreUrl::File(directory.path().to_owned()), Some(directory)),
            StoreUrl::Memory => (StoreUrl::Memory, None),
            StoreUrl::S3(bucket) => {
                // Only the name is of use, which no other run has.
                let name = directory.path().file_name().unwrap_or_default();
                let bucket = bucket.to_string();
                let below = format!("{}/{}", bucket.trim_end_matches('/'), name.display());
                (parse(&below)?, None)
            }
        };
        let keep = args.keep_data;
        Ok(Some(Place {
            url,
            directory,
            keep,
        }))
    }

    /// What a process is started with.
    pub(crate) fn url(&self) -> String {
        self.url.to_string()
    }

    /// Removes what the run has written, unless it was to stay.
    ///
    /// # Errors
    /// When the store refuses.
    pub(crate) fn remove(mut self) -> anyhow::Result<()> {
        if self.keep {
            if let Some(directory) = self.directory.take() {
                let _kept = directory.keep();
            }
            return Ok(());
        }
        if let Some(directory) = self.directory.take() {
            return directory.close().context("failed to remove the data");
        }
        if let StoreUrl::S3(_) = &self.url {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            return runtime.block_on(remove_objects(&self.url));
        }
        Ok(())
    }
}

fn parse(text: &str) -> anyhow::Result<StoreUrl> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    Ok(StoreUrl::parse(text, &variable)?)
}

async fn remove_objects(url: &StoreUrl) -> anyhow::Result<()> {
    let open = open(url)?;
    let objects = open.store.list(Some(&open.prefix));
    let names = objects.map_ok(|object| object.location).boxed();
    let removed = open
        .store
        .delete_stream(names)
        .try_for_each(|_| async { Ok(()) });
    removed
        .await
        .map_err(|error| open.explain(&error))
        .with_context(|| format!("failed to remove {url}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data_dir: &std::path::Path, keep_data: bool) -> PlaceArgs {
        PlaceArgs {
            data_dir: Some(data_dir.to_owned()),
            store: None,
            keep_data,
        }
    }

    #[test]
    fn a_directory_is_fresh_and_goes_away_unless_it_is_to_stay() {
        let within = tempfile::tempdir().expect("a folder");
        let make = |keep| {
            let place = Place::make(&args(within.path(), keep), "run-");
            let place = place.expect("a place").expect("not in memory");
            let directory = place.url().strip_prefix("file://").map(PathBuf::from);
            (place, directory.expect("a directory"))
        };
        let ((gone, gone_at), (kept, kept_at)) = (make(false), make(true));
        assert_ne!(gone_at, kept_at);
        for directory in [&gone_at, &kept_at] {
            assert!(directory.starts_with(within.path()));
            fs::write(directory.join("object"), "bytes").expect("a file");
        }
        gone.remove().expect("it can be removed");
        kept.remove().expect("nothing to do");
        assert!(!gone_at.exists() && kept_at.join("object").exists());
    }

    #[test]
    fn without_a_store_there_is_no_place() {
        let memory = PlaceArgs {
            data_dir: None,
            store: None,
            keep_data: false,
        };
        assert!(Place::make(&memory, "run-").expect("no error").is_none());
    }
}
