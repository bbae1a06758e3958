//! Reads of parts of files that the system has in memory, without a change of threads.
//!
//! Who reads keys here and there of state that was written or read lately asks for thousands of parts a second,
//! and the two changes of threads for each take longer than the read. What is not in memory at once is left to a
//! thread that may wait.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use object_store::{
    Attributes, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta,
    local::LocalFileSystem, path::Path,
};

/// To copy more takes longer than a change of threads.
const BYTES_MAX: u64 = 256 << 10;

/// Whether files are read without waiting.
#[derive(Debug, Default)]
pub(super) struct ReadNow {
    /// The file system does not offer it.
    is_refused: AtomicBool,
}

impl ReadNow {
    /// A part of a file, if nothing else is asked and all of the part is in memory. No tag of the file is told.
    pub(super) fn get(
        &self,
        files: &LocalFileSystem,
        location: &Path,
        options: &GetOptions,
    ) -> Option<GetResult> {
        let range = plain_range(options)?;
        if self.is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let file = self.unless_refused(open(&files.path_to_filesystem(location).ok()?))?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || range.end > metadata.len() {
            return None;
        }
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: metadata.modified().ok()?.into(),
            size: metadata.len(),
            e_tag: None,
            version: None,
        };
        let bytes = self.unless_refused(read(&file, &range))?;
        Some(GetResult {
            payload: GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed()),
            meta,
            range,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        })
    }

    /// What is there at once; remembers if that is never so.
    fn unless_refused<T>(&self, found: io::Result<Option<T>>) -> Option<T> {
        found.unwrap_or_else(|error| {
            let refused = matches!(
                error.kind(),
                io::ErrorKind::Unsupported
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::PermissionDenied
            );
            self.is_refused.fetch_or(refused, Ordering::Relaxed);
            None
        })
    }
}

/// The part that is asked for, if it is not long and nothing but it is asked.
fn plain_range(options: &GetOptions) -> Option<Range<u64>> {
    let GetOptions {
        range: Some(GetRange::Bounded(range)),
        if_match: None,
        if_none_match: None,
        if_modified_since: None,
        if_unmodified_since: None,
        version: None,
        head: false,
        extensions: _,
    } = options
    else {
        return None;
    };
    let bytes = range.end.checked_sub(range.start)?;
    (1..=BYTES_MAX).contains(&bytes).then(|| range.clone())
}

/// A file, if the system knows all of its path.
#[cfg(target_os = "linux")]
fn open(path: &std::path::Path) -> io::Result<Option<File>> {
    use rustix::{
        fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
        io::Errno,
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(file) => Ok(Some(file.into())),
        // Not in memory, or not there.
        Err(Errno::AGAIN | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn open(_path: &std::path::Path) -> io::Result<Option<File>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// All of a part, or nothing.
#[cfg(target_os = "linux")]
fn read(file: &File, range: &Range<u64>) -> io::Result<Option<Bytes>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let bytes = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut buffer = vec![0; bytes];
    let mut parts = [IoSliceMut::new(&mut buffer)];
    match preadv2(file, &mut parts, range.start, ReadWriteFlags::NOWAIT) {
        Ok(read) => Ok((read == bytes).then(|| buffer.into())),
        // Not in memory, or not all of it.
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn read(_file: &File, _range: &Range<u64>) -> io::Result<Option<Bytes>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStore as _, ObjectStoreExt as _};

    use super::*;

    #[tokio::test]
    async fn a_part_is_the_same_as_when_it_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = LocalFileSystem::new_with_prefix(folder.path()).expect("open");
        let path = Path::from("a/b");
        let content: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        files.put(&path, content.into()).await.expect("put");
        let now = ReadNow::default();
        for range in [0..1, 0..100_000, 99_999..100_000, 777..40_000] {
            let options = GetOptions::new().with_range(Some(range.clone()));
            let Some(found) = now.get(&files, &path, &options) else {
                assert!(
                    now.is_refused.load(Ordering::Relaxed),
                    "it was just written"
                );
                continue;
            };
            let expected = files.get_opts(&path, options).await.expect("a part");
            assert_eq!(found.range, expected.range);
            assert_eq!(found.meta.size, expected.meta.size);
            assert_eq!(found.meta.last_modified, expected.meta.last_modified);
            let (found, expected) = (found.bytes().await, expected.bytes().await);
            assert_eq!(found.expect("its bytes"), expected.expect("its bytes"));
        }
    }

    #[tokio::test]
    async fn what_is_not_plainly_there_is_left_to_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = LocalFileSystem::new_with_prefix(folder.path()).expect("open");
        let path = Path::from("a");
        files.put(&path, "abc".into()).await.expect("put");
        let now = ReadNow::default();
        let part = |range: Range<u64>| GetOptions::new().with_range(Some(range));
        let tagged = part(0..2).with_if_match(Some("x"));
        let cases = [
            ("a", part(0..4)),
            ("a", part(3..3)),
            ("a", GetOptions::new()),
            ("a", tagged),
            ("a", part(0..2).with_head(true)),
            ("b", part(0..2)),
        ];
        for (path, options) in cases {
            let found = now.get(&files, &Path::from(path), &options);
            assert!(found.is_none(), "{path} {options:?}");
        }
        let long = part(0..BYTES_MAX + 1);
        assert!(now.get(&files, &path, &long).is_none());
    }
}
