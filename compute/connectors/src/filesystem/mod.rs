//! Files of records: a path that is a file, or a directory with all files below it.
//!
//! Looking up: all files are read, one after the other.
//! Reading: a split is a file, or a range of bytes of a large one; an offset is a position in it.
//! Writing: rows are staged as encoded lines and become files under names fixed by job,
//! epoch, generation, sink and slot, so that publishing twice changes nothing and nobody else has
//! the name.

mod list;
mod lookup;
mod partition;
mod publish;
mod reader;
mod records;
mod row_sizes;
mod sink;
mod source;
mod split;
mod stage;

#[cfg(test)]
mod filesystem_test;

pub(crate) use lookup::FileLookup;
pub(crate) use sink::FileSink;
pub(crate) use source::FileSource;

use std::{io, path::PathBuf};

use engine::source::SourceError;

/// What a file's error means for the job: some causes pass, others do not.
fn failed(what: String, error: &io::Error) -> SourceError {
    let cause = error.to_string();
    match lasts(error) {
        true => SourceError::Refused { what, cause },
        false => SourceError::Io { what, cause },
    }
}

/// Whether it will not pass by itself.
fn lasts(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AlreadyExists, InvalidData, InvalidFilename, InvalidInput, IsADirectory, NotADirectory,
        NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported,
    };
    matches!(
        error.kind(),
        AlreadyExists
            | InvalidData
            | InvalidFilename
            | InvalidInput
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
            | Unsupported
    )
}

/// The local path that a table's `path` option means: a path, or a URI of one. As in Flink what
/// stands before a colon in the first name is a scheme.
fn local_path(path: &str) -> Result<PathBuf, String> {
    let refuse = |cause: &str| Err(format!("cannot open path `{path}`: {cause}"));
    let scheme = path
        .split_once(':')
        .filter(|(scheme, _)| !scheme.is_empty() && !scheme.contains('/'));
    let local = match scheme {
        None => path,
        Some(("file", uri)) => match uri.strip_prefix("//") {
            None => uri,
            Some(rest) => {
                let at = rest.find('/').unwrap_or(rest.len());
                match rest.split_at(at) {
                    ("" | "localhost", local) => local,
                    (host, _) => {
                        return refuse(&format!(
                            "`{host}` would be the name of another machine, write `file:///…` \
                             for a file of this one"
                        ));
                    }
                }
            }
        },
        Some((scheme, _)) => {
            return refuse(&format!(
                "scheme `{scheme}` is not supported, only local files are"
            ));
        }
    };
    if path.trim().is_empty() {
        return Err("the path of a filesystem table is empty".to_owned());
    }
    if scheme.is_some() && !local.starts_with('/') {
        return refuse("a URI has an absolute path, as in `file:///data/x`");
    }
    Ok(PathBuf::from(local))
}
