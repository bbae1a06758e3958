//! The start: what the log says, and our mark at its end.

use std::collections::BTreeSet;

use coordinator::meta::MetaState;
use futures::{StreamExt as _, stream};

use super::{
    files::{Files, Folder, Made, Trouble},
    limits::{OPEN_ATTEMPTS_MAX, OPEN_ROUNDS_MAX, OVERTAKEN_MAX, READS_MAX},
    pauses::Pauses,
    record::{Entry, Snapshot, Unreadable, WriterId, write_entry},
};

/// Why metadata cannot be opened. Nothing was changed, but for a mark perhaps.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BucketError {
    /// An object is not what was written.
    #[error("metadata is damaged: `{object}`: {why}; restore it from a copy")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// An entry of the log is not there.
    #[error(
        "metadata is damaged: `{object}` is missing, and later entries are there; restore it from a copy"
    )]
    Gap {
        /// The object.
        object: String,
    },
    /// A newer version wrote it.
    #[error(
        "metadata was written by a newer version of Millstream (`{object}` has format {format}): \
         use that version"
    )]
    Newer {
        /// The object.
        object: String,
        /// Its format.
        format: u32,
    },
    /// The store fails.
    #[error("metadata cannot be read and written: {0}")]
    Unavailable(String),
    /// Another process works too hard to be stopped.
    #[error("another process works on this store and writes all the time: stop it")]
    Busy,
}

/// The log as we take it over.
pub(super) struct Opened {
    pub(super) state: MetaState,
    /// Our mark.
    pub(super) last: u64,
    /// The newest snapshot; zero: there is none.
    pub(super) snapshot: u64,
    pub(super) trimmed: u64,
    /// Marks after `trimmed`.
    pub(super) marks: BTreeSet<u64>,
}

/// Why a round ended.
enum Stop {
    /// Another process wrote a snapshot and deleted what we wanted to read. If that cannot be, this
    /// is the reason.
    Again(BucketError),
    Error(BucketError),
}

impl From<BucketError> for Stop {
    fn from(error: BucketError) -> Self {
        Stop::Error(error)
    }
}

/// Opens the log.
pub(super) struct Opener<'a> {
    pub(super) files: &'a Files,
    pub(super) writer: WriterId,
    pub(super) process: &'a str,
    pub(super) pauses: &'a mut Pauses,
}

impl Opener<'_> {
    pub(super) async fn open(mut self) -> Result<Opened, BucketError> {
        let mut before = None;
        for round in 1..=OPEN_ROUNDS_MAX {
            let reason = match self.round().await {
                Ok(opened) => return Ok(opened),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Again(reason)) => reason,
            };
            // A process that works goes on; what is missing twice is missing.
            if reason != BucketError::Busy && before.as_ref() == Some(&reason) {
                return Err(reason);
            }
            before = Some(reason);
            tokio::time::sleep(self.pauses.after(round)).await;
        }
        Err(BucketError::Busy)
    }

    async fn round(&mut self) -> Result<Opened, Stop> {
        let mut opened = self.snapshot().await?;
        let snapshot = opened.snapshot;
        let trimmed = opened.trimmed;
        let files = self.files;
        let indices = self.patiently(|| files.list(Folder::Log, trimmed)).await?;
        let following = indices.iter().filter(|index| **index > snapshot);
        for (expected, index) in (snapshot + 1..).zip(following) {
            if *index != expected {
                return Err(Stop::Again(self.gap(expected)));
            }
        }
        for some in indices.chunks(READS_MAX) {
            let read = some.iter().copied();
            let read = read.map(|index| files.read::<Entry>(Folder::Log, index));
            let read: Vec<_> = stream::iter(read).buffered(READS_MAX).collect().await;
            for (index, entry) in some.iter().zip(read) {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(_) => self.entry(*index).await?,
                };
                opened.take(*index, entry);
            }
        }
        self.put_mark(&mut opened).await?;
        Ok(opened)
    }

    async fn snapshot(&mut self) -> Result<Opened, Stop> {
        let files = self.files;
        let snapshots = self.patiently(|| files.list(Folder::Snapshots, 0)).await?;
        let Some(index) = snapshots.last().copied() else {
            return Ok(Opened {
                state: MetaState::default(),
                last: 0,
                snapshot: 0,
                trimmed: 0,
                marks: BTreeSet::new(),
            });
        };
        let read = self.patiently(|| files.read::<Snapshot>(Folder::Snapshots, index));
        let Snapshot { trimmed, state, .. } = read.await?;
        Ok(Opened {
            state,
            last: index,
            snapshot: index,
            trimmed,
            marks: BTreeSet::new(),
        })
    }

    async fn entry(&mut self, index: u64) -> Result<Entry, Stop> {
        let files = self.files;
        self.patiently(|| files.read(Folder::Log, index)).await
    }

    /// Puts our mark after the last entry. Reading what another one was faster with and trying the
    /// next place go on at the same time: one after the other, we would never catch up. If an answer
    /// is lost, there are two marks of ours in a row, which says no more than one.
    async fn put_mark(&mut self, opened: &mut Opened) -> Result<(), Stop> {
        let mark = write_entry(self.writer, Some(self.process), &[]);
        let files = self.files;
        let first = opened.last + 1;
        let mut made = self.make(first, &mark).await?;
        while made == Made::Exists {
            let index = opened.last + 1;
            if index - first > OVERTAKEN_MAX {
                return Err(BucketError::Busy.into());
            }
            let (entry, next) = futures::future::join(
                files.read::<Entry>(Folder::Log, index),
                files.make(Folder::Log, index + 1, mark.clone()),
            )
            .await;
            let entry = match entry {
                Ok(entry) => entry,
                Err(_) => self.entry(index).await?,
            };
            opened.take(index, entry);
            made = match next {
                Ok(made) => made,
                Err(_) => self.make(index + 1, &mark).await?,
            };
        }
        opened.last += 1;
        opened.marks.insert(opened.last);
        self.check_mark(opened.last).await
    }

    /// Whether our mark is at the log's end. Its place may have been free because the other process
    /// was long past it, and had written a snapshot and deleted what was there.
    async fn check_mark(&mut self, mark: u64) -> Result<(), Stop> {
        let files = self.files;
        let snapshots = self.patiently(|| files.list(Folder::Snapshots, 0)).await?;
        match snapshots.last() {
            Some(newest) if *newest >= mark => Err(Stop::Again(BucketError::Busy)),
            _ => Ok(()),
        }
    }

    async fn make(&mut self, index: u64, mark: &[u8]) -> Result<Made, Stop> {
        let files = self.files;
        self.patiently(|| files.make(Folder::Log, index, mark.to_vec()))
            .await
    }

    /// Makes a request some times.
    async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(
        &mut self,
        request: impl Fn() -> F,
    ) -> Result<T, Stop> {
        let mut attempt = 1;
        loop {
            let error = match request().await {
                Ok(done) => return Ok(done),
                Err(Trouble::Missing(object)) => {
                    return Err(Stop::Again(BucketError::Gap { object }));
                }
                Err(Trouble::Unreadable(object, Unreadable::Newer(format))) => {
                    return Err(BucketError::Newer { object, format }.into());
                }
                // Perhaps it was cut on its way.
                Err(Trouble::Unreadable(object, Unreadable::Damaged(why))) => {
                    BucketError::Damaged { object, why }
                }
                Err(Trouble::Store(why)) => BucketError::Unavailable(why),
            };
            if attempt == OPEN_ATTEMPTS_MAX {
                return Err(error.into());
            }
            tokio::time::sleep(self.pauses.after(attempt)).await;
            attempt += 1;
        }
    }

    fn gap(&self, index: u64) -> BucketError {
        BucketError::Gap {
            object: self.files.path(Folder::Log, index).to_string(),
        }
    }
}

impl Opened {
    fn take(&mut self, index: u64, entry: Entry) {
        if entry.begins.is_some() {
            self.marks.insert(index);
        }
        // What is older is in the snapshot; it only was not deleted yet.
        if index > self.snapshot {
            self.last = index;
            for command in entry.commands {
                self.state.apply(command);
            }
        }
    }
}
