//! Committed output becomes files. A file is written under a hidden name, made durable and then
//! renamed: it is there whole or not at all, and the name says which epoch it is.
//!
//! Two publishers may be at one epoch, when the first was only held up while its work was given to a
//! second. Their hidden names differ, so that neither touches what the other is writing; both make
//! the same file. What publishers that died have left hidden is removed by their successor.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use engine::sink::{EpochOutput, Publisher, SinkError};
use futures::{FutureExt as _, future::BoxFuture};
use planted::Bug;
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
    /// Tells this publisher's hidden files from those of every other, whatever the process.
    nonce: u64,
    /// Directories that are known to be there for good, and without leftovers of the slot.
    made: BTreeSet<(PathBuf, u32)>,
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
            // The system's own randomness, by the one way that std has to it.
            nonce: RandomState::new().build_hasher().finish(),
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
            self.prepare(&directory, output.slot)
                .map_err(|error| failed(&directory, &error))?;
            for (nth, frames) in self.roll(&frames).into_iter().enumerate() {
                let name = self.file_name(output, nth);
                write_once(&directory, &name, self.nonce, frames)
                    .map_err(|error| failed(&directory.join(&name), &error))?;
            }
            // Makes the renames durable.
            sync_directory(&directory).map_err(|error| failed(&directory, &error))?;
        }
        Ok(())
    }

    /// Makes a directory and removes what earlier publishers of the slot left hidden in it.
    fn prepare(&mut self, directory: &Path, slot: u32) -> io::Result<()> {
        let made = (directory.to_owned(), slot);
        if self.made.contains(&made) {
            return Ok(());
        }
        make_directory(&self.root, directory)?;
        for file in fs::read_dir(directory)? {
            let name = file?.file_name();
            if name.to_str().is_some_and(|name| self.is_left(name, slot)) {
                match fs::remove_file(directory.join(&name)) {
                    // Whose it was has finished or removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
        }
        if self.made.len() == DIRECTORIES_KNOWN_MAX {
            self.made.clear();
        }
        self.made.insert(made);
        Ok(())
    }

    /// Whether a name is that of a hidden file of the slot that another publisher made.
    fn is_left(&self, name: &str, slot: u32) -> bool {
        let hidden = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp"));
        let Some((file, nonce)) = hidden.and_then(|hidden| hidden.rsplit_once('.')) else {
            return false;
        };
        let WriterName {
            created_ms,
            run,
            sink: SinkId(sink),
        } = self.writer;
        let job = format!("part-{created_ms:013}-{run:016x}-");
        let of_slot = || {
            let rest = file.strip_prefix(&job)?;
            let mut numbers = rest.split('-').skip(2);
            let sink_slot = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
            Some(sink_slot == (sink, slot))
        };
        of_slot() == Some(true) && nonce != format!("{:016x}", self.nonce)
    }

    /// Names sort in the order in which a job writes, and jobs in the order of their creation.
    fn file_name(&self, output: &EpochOutput, nth: usize) -> String {
        let WriterName {
            created_ms,
            run,
            sink: SinkId(sink),
        } = self.writer;
        let (slot, generation, epoch) = (output.slot, output.generation.0, output.epoch.0);
        let run = match planted::is(Bug::PublishUnmarked) {
            // Nobody finds what is there under a name of one's own.
            true => run ^ self.nonce,
            false => run,
        };
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

fn write_once(directory: &Path, name: &str, nonce: u64, frames: &[&[u8]]) -> io::Result<()> {
    let path = directory.join(name);
    if path.try_exists()? {
        return check_same(&path, frames);
    }
    let mut file = HiddenFile::create(directory, name, nonce)?;
    let written = file.write(frames).and_then(|()| file.reveal(&path));
    settle(&file, written, &path, frames)
}

/// What it means that a file was revealed, or not.
fn settle(
    file: &HiddenFile,
    written: io::Result<()>,
    path: &Path,
    frames: &[&[u8]],
) -> io::Result<()> {
    let Err(error) = written else {
        return Ok(());
    };
    // Best effort: on a full disk the space is better free.
    fs::remove_file(&file.hidden).ok();
    if error.kind() != io::ErrorKind::NotFound {
        return Err(error);
    }
    // Another publisher of the slot has begun and taken it for a leftover.
    match path.try_exists()? {
        true => check_same(path, frames),
        false => Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "another process of the job publishes the same epoch",
        )),
    }
}

/// A file on its way: under a name of its own until it is whole.
struct HiddenFile {
    hidden: PathBuf,
    file: File,
}

impl HiddenFile {
    fn create(directory: &Path, name: &str, nonce: u64) -> io::Result<HiddenFile> {
        let hidden = directory.join(format!(".{name}.{nonce:016x}.tmp"));
        let file = File::create(&hidden)?;
        Ok(HiddenFile { hidden, file })
    }

    /// Writes all of it, durably.
    fn write(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        for frame in frames {
            self.file.write_all(frame)?;
        }
        self.file.sync_all()
    }

    fn reveal(&self, path: &Path) -> io::Result<()> {
        fs::rename(&self.hidden, path)
    }
}

/// That the file is just these bytes.
fn check_same(path: &Path, frames: &[&[u8]]) -> io::Result<()> {
    match holds(path, frames)? {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file is there with other content: move it away",
        )),
    }
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

#[cfg(test)]
mod tests {
    use proto::types::{Epoch, Generation};

    use super::{super::stage::Stage, *};

    const WRITER: WriterName = WriterName {
        created_ms: 7,
        run: 9,
        sink: SinkId(0),
    };
    const FRAMES: &[&[u8]] = &[b"one\n", b"two\n"];
    const NAME: &str = "part-0000000000007-0000000000000009-0000000005-0001-000-000-0000.json";

    /// How far a file is when its publisher is held up.
    #[derive(Clone, Copy, Debug)]
    enum Stop {
        Created,
        Half,
        Written,
    }

    fn publisher(root: &Path) -> FilePublisher {
        FilePublisher::new(root.to_owned(), WRITER, "json", 0)
    }

    fn output() -> EpochOutput {
        let piece = |lines: &[u8]| {
            let mut stage = Stage::default();
            let line = stage.line("", |line| {
                line.extend_from_slice(lines);
                Ok::<(), ()>(())
            });
            line.expect("a line");
            stage.take().into()
        };
        EpochOutput {
            generation: Generation(1),
            epoch: Epoch(5),
            slot: 0,
            pieces: FRAMES.iter().map(|lines| piece(lines)).collect(),
        }
    }

    /// Begins to write the file and stops.
    fn begin(publisher: &FilePublisher, stop: Stop) -> HiddenFile {
        let mut file = HiddenFile::create(&publisher.root, NAME, publisher.nonce).expect("created");
        match stop {
            Stop::Created => {}
            Stop::Half => file.write(&FRAMES[..1]).expect("written"),
            Stop::Written => file.write(FRAMES).expect("written"),
        }
        file
    }

    /// Goes on where it stopped.
    fn go_on(publisher: &FilePublisher, mut file: HiddenFile, stop: Stop) -> io::Result<()> {
        let path = publisher.root.join(NAME);
        let rest = match stop {
            Stop::Created => FRAMES,
            Stop::Half => &FRAMES[1..],
            Stop::Written => &[],
        };
        let written = file.write(rest).and_then(|()| file.reveal(&path));
        settle(&file, written, &path, FRAMES)
    }

    fn names(root: &Path) -> Vec<String> {
        let files = fs::read_dir(root).expect("a folder");
        let name = |file: io::Result<fs::DirEntry>| file.expect("a file").file_name();
        let mut names: Vec<String> = files
            .map(|file| name(file).into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    fn check_whole(root: &Path) {
        assert_eq!(fs::read(root.join(NAME)).expect("a file"), b"one\ntwo\n");
    }

    #[test]
    fn a_publisher_that_was_held_up_spoils_nothing_of_its_successor() {
        for stop in [Stop::Created, Stop::Half, Stop::Written] {
            let folder = tempfile::tempdir().expect("a folder");
            let root = folder.path();
            // Held up while it writes; its successor takes its file for a leftover.
            let (mut zombie, mut successor) = (publisher(root), publisher(root));
            zombie.prepare(root, 0).expect("made");
            let file = begin(&zombie, stop);
            successor.publish_now(&output()).expect("published");
            assert_eq!(names(root), [NAME], "{stop:?}");
            go_on(&zombie, file, stop).expect("it is there");
            check_whole(root);
            // Held up before it writes, it goes on while its successor does.
            for prepared in [true, false] {
                fs::remove_file(root.join(NAME)).expect("removed");
                let (mut zombie, mut successor) = (publisher(root), publisher(root));
                if prepared {
                    zombie.prepare(root, 0).expect("made");
                }
                successor.prepare(root, 0).expect("made");
                let file = begin(&successor, stop);
                zombie.publish_now(&output()).expect("published");
                check_whole(root);
                go_on(&successor, file, stop).expect("published");
                check_whole(root);
                assert_eq!(names(root), [NAME], "{stop:?}");
            }
        }
    }

    #[test]
    fn a_file_that_was_taken_for_a_leftover_is_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let (mut zombie, mut successor) = (publisher(root), publisher(root));
        successor.prepare(root, 0).expect("made");
        let file = begin(&successor, Stop::Half);
        // It removes what it finds and is held up again.
        zombie.prepare(root, 0).expect("made");
        let error = go_on(&successor, file, Stop::Half).expect_err("taken away");
        assert!(!lasts(&error), "{error}");
        successor.publish_now(&output()).expect("published");
        check_whole(root);
    }

    #[test]
    fn what_dead_publishers_left_hidden_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let job = "part-0000000000007-0000000000000009-0000000004-0001";
        let other = "part-0000000000007-000000000000000a-0000000004-0001";
        let left = format!(".{job}-000-000-0000.json.00000000000000ff.tmp");
        let stays = [
            format!(".{job}-000-001-0000.json.00000000000000ff.tmp"),
            format!(".{job}-001-000-0000.json.00000000000000ff.tmp"),
            format!(".{other}-000-000-0000.json.00000000000000ff.tmp"),
            ".theirs.tmp".to_owned(),
        ];
        for name in stays.iter().chain([&left]) {
            fs::write(root.join(name), "half").expect("written");
        }
        publisher(root).publish_now(&output()).expect("published");
        let mut expected = stays.to_vec();
        expected.push(NAME.to_owned());
        expected.sort();
        assert_eq!(names(root), expected);
    }
}
