//! Scratch files on a local disk. They have no names: whatever becomes of the process, the system
//! takes them back.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use engine::spill::{FileId, Piece, Scratch, ScratchError};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{runtime::Handle, time::Instant};

/// Bytes of a file: many enough that few are open, and few enough that little is lost with one.
const FILE_BYTES: u64 = 64 << 20;
/// After an error nothing new is begun for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Scratch files in a directory.
#[derive(Debug)]
pub struct DiskScratch {
    directory: PathBuf,
    files_max: usize,
    runtime: Handle,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    next: u64,
    open: BTreeMap<FileId, Arc<OnceLock<File>>>,
    paused_until: Option<Instant>,
}

impl DiskScratch {
    /// Files of at most about `bytes` bytes together; reading and writing goes on on `runtime`'s threads
    /// for what blocks.
    #[must_use]
    pub fn new(directory: PathBuf, bytes: u64, runtime: Handle) -> DiskScratch {
        DiskScratch {
            directory,
            files_max: usize::try_from(bytes / FILE_BYTES).unwrap_or(usize::MAX),
            runtime,
            shared: Arc::default(),
        }
    }

    /// Makes the directory, and tries whether files can be written there.
    ///
    /// # Errors
    /// When they cannot.
    pub fn prepare(directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        tempfile::tempfile_in(directory)?.write_all_at(b"scratch", 0)
    }

    fn file(&self, file: FileId) -> Result<Arc<OnceLock<File>>, ScratchError> {
        let files = self.shared.lock();
        let file = files.open.get(&file).cloned();
        file.ok_or_else(|| ScratchError("the file has been given up".to_owned()))
    }

    fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ScratchError>> {
        let shared = Arc::clone(&self.shared);
        let directory = self.directory.clone();
        let done = self.runtime.spawn_blocking(act);
        async move {
            let error = match done.await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            shared.pause(&directory, &error);
            Err(ScratchError(error))
        }
        .boxed()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Files> {
        // Nothing panics while it is held.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self, directory: &Path, error: &str) {
        let now = Instant::now();
        let mut files = self.lock();
        let was_paused = files.paused_until.is_some_and(|until| until > now);
        files.paused_until = Some(now + PAUSE);
        drop(files);
        if !was_paused {
            tracing::warn!(
                directory = %directory.display(),
                error,
                "state that memory has no room for cannot be kept on the local disk: it is read from the store"
            );
        }
    }
}

impl Scratch for DiskScratch {
    fn file_bytes(&self) -> u64 {
        FILE_BYTES
    }

    fn create(&self) -> Option<FileId> {
        let mut files = self.shared.lock();
        let is_paused = files
            .paused_until
            .is_some_and(|until| until > Instant::now());
        if is_paused || files.open.len() >= self.files_max {
            return None;
        }
        files.next += 1;
        let file = FileId(files.next);
        files.open.insert(file, Arc::default());
        Some(file)
    }

    fn write(
        &self,
        file: FileId,
        at: u64,
        bytes: Bytes,
    ) -> BoxFuture<'static, Result<(), ScratchError>> {
        let file = match self.file(file) {
            Ok(file) => file,
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        let directory = self.directory.clone();
        self.blocking(move || {
            let opened = match file.get() {
                Some(opened) => opened,
                None => {
                    let new = tempfile::tempfile_in(directory)?;
                    file.get_or_init(|| new)
                }
            };
            opened.write_all_at(&bytes, at)
        })
    }

    fn read(&self, pieces: Vec<Piece>) -> BoxFuture<'static, Result<Vec<Bytes>, ScratchError>> {
        let open = |piece: &Piece| Ok((self.file(piece.file)?, *piece));
        let pieces: Result<Vec<_>, ScratchError> = pieces.iter().map(open).collect();
        match pieces {
            Ok(pieces) => self.blocking(move || read(&pieces)),
            Err(error) => futures::future::ready(Err(error)).boxed(),
        }
    }

    fn remove(&self, file: FileId) {
        self.shared.lock().open.remove(&file);
    }
}

/// All pieces into one buffer.
fn read(pieces: &[(Arc<OnceLock<File>>, Piece)]) -> io::Result<Vec<Bytes>> {
    let bytes = pieces.iter().map(|(_, piece)| piece.len as usize).sum();
    let mut all = BytesMut::zeroed(bytes);
    let mut at = 0;
    for (file, piece) in pieces {
        let end = at + piece.len as usize;
        let file = file.get().ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(&mut all[at..end], piece.at)?;
        at = end;
    }
    let mut all = all.freeze();
    let piece = |(_, piece): &(_, Piece)| all.split_to(piece.len as usize);
    Ok(pieces.iter().map(piece).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_written_and_read_and_leave_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        DiskScratch::prepare(directory.path()).expect("it can be written");
        let path = directory.path().to_owned();
        let scratch = DiskScratch::new(path, 2 * FILE_BYTES, Handle::current());
        let (one, two) = (scratch.create(), scratch.create());
        let (one, two) = (one.expect("room"), two.expect("room"));
        assert!(scratch.create().is_none(), "there is room for two");
        let write = async |file, at, bytes: &'static [u8]| {
            let written = scratch.write(file, at, Bytes::from_static(bytes)).await;
            written.expect("written");
        };
        write(one, 0, b"abc").await;
        write(two, 0, b"xyz").await;
        write(one, 3, b"def").await;
        let piece = |file, at, len| Piece { file, at, len };
        let reading = scratch.read(vec![piece(two, 1, 2), piece(one, 2, 3)]);
        // Whoever reads has the file.
        scratch.remove(two);
        assert_eq!(reading.await.expect("read"), ["yz", "cde"]);
        assert!(scratch.create().is_some());
        let beyond = scratch.read(vec![piece(one, 5, 2)]).await;
        assert!(beyond.is_err());
        assert!(scratch.create().is_none(), "after an error it rests");
        let names = std::fs::read_dir(directory.path()).expect("a directory");
        assert_eq!(names.count(), 0);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("a file");
        assert!(DiskScratch::prepare(&file.join("below")).is_err());
        let scratch = DiskScratch::new(file.join("below"), 2 * FILE_BYTES, Handle::current());
        let one = scratch.create().expect("room");
        let written = scratch.write(one, 0, Bytes::from_static(b"a")).await;
        assert!(written.is_err());
    }
}
