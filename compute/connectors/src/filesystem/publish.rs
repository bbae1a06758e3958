//! Committed output becomes files. A file is written under a hidden name, made durable and then
//! renamed: it is there whole or not at all, and the name says which epoch it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use engine::sink::{EpochOutput, Publisher, SinkError};
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::SinkId;

use super::{lasts, stage::frames};

/// Beyond so many partitions it is cheaper to look at a directory again.
const DIRECTORIES_KNOWN_MAX: usize = 10_000;

/// Who writes: in the name of every file, so that two never mean the same one.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriterName {
    pub(super) created_ms: u64,
    pub(super) run: u64,
    pub(super) sink: SinkId,
}

/// Writes files below one directory.
#[derive(Debug)]
pub(super) struct FilePublisher {
    root: PathBuf,
    writer: WriterName,
    extension: &'static str,
    /// A file that would grow beyond this is followed by another. 0: one file per epoch.
    rolling_bytes: u64,
    /// Directories that are known to be there for good.
    made: BTreeSet<PathBuf>,
}

impl FilePublisher {
    pub(super) fn new(
        root: PathBuf,
        writer: WriterName,
        extension: &'static str,
        rolling_bytes: u64,
    ) -> Self {
        FilePublisher {
            root,
            writer,
            extension,
            rolling_bytes,
            made: BTreeSet::new(),
        }
    }

    fn publish_now(&mut self, output: &EpochOutput) -> Result<(), SinkError> {
        let mut directories: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
        for piece in &output.pieces {
            let frames = frames(piece).ok_or_else(|| SinkError::Refused {
                what: format!("epoch {} to `{}`", output.epoch, self.root.display()),
                cause: "the staged output is damaged".to_owned(),
            })?;
            for (directory, lines) in frames {
                directories.entry(directory).or_default().push(lines);
            }
        }
        for (directory, frames) in directories {
            let directory = self.root.join(directory);
            if !self.made.contains(&directory) {
                make_directory(&self.root, &directory)
                    .map_err(|error| failed(&directory, &error))?;
                if self.made.len() == DIRECTORIES_KNOWN_MAX {
                    self.made.clear();
                }
                self.made.insert(directory.clone());
            }
            for (nth, frames) in self.roll(&frames).into_iter().enumerate() {
                let name = self.file_name(output, nth);
                write_once(&directory, &name, frames)
                    .map_err(|error| failed(&directory.join(&name), &error))?;
            }
            // Makes the renames durable.
            sync_directory(&directory).map_err(|error| failed(&directory, &error))?;
        }
        Ok(())
    }

    /// Names sort in the order in which a job writes, and jobs in the order of their creation.
    fn file_name(&self, output: &EpochOutput, nth: usize) -> String {
        let WriterName {
            created_ms,
            run,
            sink: SinkId(sink),
        } = self.writer;
        let (slot, generation, epoch) = (output.slot, output.generation.0, output.epoch.0);
        format!(
            "part-{created_ms:013}-{run:016x}-{epoch:010}-{generation:04}-{sink:03}-{slot:03}-{nth:04}.{}",
            self.extension
        )
    }

    /// Frames per file.
    fn roll<'f>(&self, frames: &'f [&'f [u8]]) -> Vec<&'f [&'f [u8]]> {
        let mut files = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (at, frame) in frames.iter().enumerate() {
            let frame = frame.len() as u64;
            if self.rolling_bytes > 0 && at > start && bytes + frame > self.rolling_bytes {
                files.push(&frames[start..at]);
                (start, bytes) = (at, 0);
            }
            bytes += frame;
        }
        files.push(&frames[start..]);
        files
    }
}

impl Publisher for FilePublisher {
    fn publish(&mut self, output: EpochOutput) -> BoxFuture<'_, Result<(), SinkError>> {
        async move { self.publish_now(&output) }.boxed()
    }
}

fn write_once(directory: &Path, name: &str, frames: &[&[u8]]) -> io::Result<()> {
    let path = directory.join(name);
    if path.try_exists()? {
        return match holds(&path, frames)? {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the file is there with other content: move it away",
            )),
        };
    }
    let hidden = directory.join(format!(".{name}.tmp"));
    let written = write_durably(&hidden, frames).and_then(|()| fs::rename(&hidden, &path));
    if written.is_err() {
        // Best effort: on a full disk the space is better free; the name is reused anyway.
        fs::remove_file(&hidden).ok();
    }
    written
}

/// Whether the file is just these bytes.
fn holds(path: &Path, frames: &[&[u8]]) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let bytes: u64 = frames.iter().map(|frame| frame.len() as u64).sum();
    if file.metadata()?.len() != bytes {
        return Ok(false);
    }
    let mut found = Vec::new();
    for frame in frames {
        found.resize(frame.len(), 0);
        file.read_exact(&mut found)?;
        if found != *frame {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_durably(path: &Path, frames: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create(path)?;
    for frame in frames {
        file.write_all(frame)?;
    }
    file.sync_all()
}

/// Makes a directory and those above it, durably: a file is not there after a loss of power unless
/// every directory on the way to it is.
pub(super) fn make_directory(root: &Path, directory: &Path) -> io::Result<()> {
    let is_new = !directory.is_dir();
    // An earlier process may have made those below the root and not have lived to sync them.
    if !is_new && (directory == root || !directory.starts_with(root)) {
        return Ok(());
    }
    let above = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => return Ok(()),
    };
    make_directory(root, above)?;
    if is_new {
        match fs::create_dir(directory) {
            // Another sink was faster.
            Err(_) if directory.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let error = format!("`{}` is not a directory", directory.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, error));
            }
            other => other?,
        }
    }
    sync_directory(above)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(super) fn failed(path: &Path, error: &io::Error) -> SinkError {
    let what = format!("`{}`", path.display());
    let cause = error.to_string();
    match lasts(error) {
        true => SinkError::Refused { what, cause },
        false => SinkError::Io { what, cause },
    }
}
