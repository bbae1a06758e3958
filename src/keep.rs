//! Where a process keeps what it commits, as arguments.

use std::{env, path::PathBuf};

use clap::Args;
use state_service::object::StoreUrl;

/// Where to keep jobs and their state; in memory if nothing is given.
#[derive(Args, Debug, Default)]
pub(crate) struct KeepArgs {
    /// Keep jobs and their state in this directory, which is made if it is not there.
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    data_dir: Option<PathBuf>,
    /// Keep jobs and their state in an object store: s3://bucket/prefix (AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_REGION; S3_ENDPOINT for another server than Amazon's), or
    /// file:///directory.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl KeepArgs {
    /// The store that is asked for; `None`: memory.
    ///
    /// # Errors
    /// When it cannot be one.
    pub(crate) fn url(&self) -> anyhow::Result<Option<StoreUrl>> {
        let text = match (&self.data_dir, &self.store) {
            (Some(directory), _) => {
                return Ok(Some(StoreUrl::File(std::path::absolute(directory)?)));
            }
            (None, Some(text)) => text,
            (None, None) => return Ok(None),
        };
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Ok(Some(StoreUrl::parse(text, &variable)?))
    }
}
