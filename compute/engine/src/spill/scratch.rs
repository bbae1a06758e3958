//! What scratch files are: named by numbers, written in order, read in pieces, of no use to anyone after
//! their process.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

/// A scratch file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u64);

/// A part of a scratch file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// File.
    pub file: FileId,
    /// First byte.
    pub at: u64,
    /// Bytes.
    pub len: u32,
}

/// A scratch file cannot be written or read, for this reason. What was in it is lost, which is no harm.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ScratchError(pub String);

/// Room for scratch files. Futures make progress by themselves once polled and may be dropped at any time.
pub trait Scratch: fmt::Debug + Send + Sync {
    /// Bytes that a file may have.
    fn file_bytes(&self) -> u64;

    /// Begins a file; `None`: there is no room for it.
    fn create(&self) -> Option<FileId>;

    /// Appends to a file: `at` is where it ends. One call after the other.
    fn write(
        &self,
        file: FileId,
        at: u64,
        bytes: Bytes,
    ) -> BoxFuture<'static, Result<(), ScratchError>>;

    /// Reads what has been written. Files may be removed once this has been called.
    fn read(&self, pieces: Vec<Piece>) -> BoxFuture<'static, Result<Vec<Bytes>, ScratchError>>;

    /// Forgets a file.
    fn remove(&self, file: FileId);
}

/// No room at all.
#[derive(Clone, Copy, Debug)]
pub struct NoScratch;

impl Scratch for NoScratch {
    fn file_bytes(&self) -> u64 {
        0
    }

    fn create(&self) -> Option<FileId> {
        None
    }

    fn write(
        &self,
        _file: FileId,
        _at: u64,
        _bytes: Bytes,
    ) -> BoxFuture<'static, Result<(), ScratchError>> {
        futures::future::ready(Err(missing())).boxed()
    }

    fn read(&self, _pieces: Vec<Piece>) -> BoxFuture<'static, Result<Vec<Bytes>, ScratchError>> {
        futures::future::ready(Err(missing())).boxed()
    }

    fn remove(&self, _file: FileId) {}
}

fn missing() -> ScratchError {
    ScratchError("there is no such file".to_owned())
}

/// Scratch files in memory, for tests.
#[derive(Debug)]
pub struct MemoryScratch {
    file_bytes: u64,
    files_max: usize,
    files: Mutex<MemoryFiles>,
}

#[derive(Debug, Default)]
struct MemoryFiles {
    next: u64,
    bytes: BTreeMap<FileId, Vec<u8>>,
    broken: bool,
}

impl MemoryScratch {
    /// Room for so many files of this size.
    #[must_use]
    pub fn new(file_bytes: u64, files_max: usize) -> Self {
        MemoryScratch {
            file_bytes,
            files_max,
            files: Mutex::default(),
        }
    }

    /// Whether nothing can be written or read from now on.
    pub fn set_broken(&self, broken: bool) {
        self.lock().broken = broken;
    }

    /// Number of files.
    #[must_use]
    pub fn files(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Turns a bit of every byte that was written.
    pub fn damage(&self) {
        let mut files = self.lock();
        let bytes = files.bytes.values_mut().flatten();
        bytes.for_each(|byte| *byte ^= 16);
    }

    fn lock(&self) -> MutexGuard<'_, MemoryFiles> {
        // Nothing panics while it is held.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scratch for MemoryScratch {
    fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    fn create(&self) -> Option<FileId> {
        let mut files = self.lock();
        if files.bytes.len() >= self.files_max {
            return None;
        }
        files.next += 1;
        let file = FileId(files.next);
        files.bytes.insert(file, Vec::new());
        Some(file)
    }

    fn write(
        &self,
        file: FileId,
        at: u64,
        bytes: Bytes,
    ) -> BoxFuture<'static, Result<(), ScratchError>> {
        let mut files = self.lock();
        let written = match files.bytes.get_mut(&file) {
            Some(content) if at == content.len() as u64 => {
                content.extend_from_slice(&bytes);
                Ok(())
            }
            _ => Err(missing()),
        };
        let written = match files.broken {
            true => Err(ScratchError("broken".to_owned())),
            false => written,
        };
        futures::future::ready(written).boxed()
    }

    fn read(&self, pieces: Vec<Piece>) -> BoxFuture<'static, Result<Vec<Bytes>, ScratchError>> {
        let files = self.lock();
        let read = |piece: &Piece| {
            let content = files.bytes.get(&piece.file).filter(|_| !files.broken)?;
            let at = piece.at as usize;
            let part = content.get(at..at + piece.len as usize)?;
            Some(Bytes::copy_from_slice(part))
        };
        let read: Option<Vec<Bytes>> = pieces.iter().map(read).collect();
        futures::future::ready(read.ok_or_else(missing)).boxed()
    }

    fn remove(&self, file: FileId) {
        self.lock().bytes.remove(&file);
    }
}
