//! Files of records: a path that is a file, or a directory with all files below it.
//!
//! Reading: a split is a file, or a range of bytes of a large one; an offset is a position in it.
//! Writing: rows are staged as encoded lines and become files under names fixed by job,
//! epoch, generation, sink and slot, so that publishing twice changes nothing and nobody else has
//! the name.

mod list;
mod partition;
mod publish;
mod reader;
mod records;
mod sink;
mod source;
mod split;
mod stage;

#[cfg(test)]
mod filesystem_test;

pub(crate) use sink::FileSink;
pub(crate) use source::FileSource;

use std::path::PathBuf;

/// The local path that a table's `path` option means.
fn local_path(path: &str) -> Result<PathBuf, String> {
    let local = path.strip_prefix("file://").unwrap_or(path);
    match local.split_once("://") {
        Some((scheme, _)) => Err(format!(
            "cannot open path `{path}`: scheme `{scheme}` is not supported, only local files are"
        )),
        None if local.is_empty() => Err("the path of a filesystem table is empty".to_owned()),
        None => Ok(PathBuf::from(local)),
    }
}
