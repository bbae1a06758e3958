//! Keeps the log short: a snapshot of the state, then what it contains goes.

use std::collections::BTreeSet;

use coordinator::meta::MetaState;

use super::{
    files::{Files, Folder, Trouble},
    record::{Snapshot, write_snapshot},
};

/// The state after an entry, to be written.
pub(super) struct Shorten {
    pub(super) files: Files,
    pub(super) state: MetaState,
    pub(super) index: u64,
    /// Up to here nothing but marks is left of the log.
    pub(super) trimmed: u64,
    /// Marks after that; they stay.
    pub(super) marks: BTreeSet<u64>,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shortened {
    /// The snapshot.
    pub(super) snapshot: u64,
    /// Up to here nothing but marks is left of the log.
    pub(super) trimmed: u64,
}

impl Shorten {
    /// Writes it and deletes what it contains. A process that lost the store may do so, too: what
    /// it writes is what the log says.
    pub(super) async fn run(self) -> Result<Shortened, Trouble> {
        let Shorten { files, index, .. } = self;
        let snapshot = Snapshot {
            index,
            trimmed: self.trimmed,
            state: self.state,
        };
        let bytes = write_snapshot(&snapshot);
        files.write(Folder::Snapshots, index, bytes).await?;
        // Others rely on the older one until this one is there.
        let older = files.list(Folder::Snapshots, 0).await?;
        let older = older.into_iter().filter(|older| *older < index);
        let log = (self.trimmed + 1..=index).filter(|index| !self.marks.contains(index));
        let deleted = async {
            files.delete(Folder::Log, log.collect()).await?;
            files.delete(Folder::Snapshots, older.collect()).await
        };
        let trimmed = match deleted.await {
            Ok(()) => index,
            // The next snapshot takes it along.
            Err(trouble) => {
                tracing::debug!(
                    ?trouble,
                    "metadata could not be shortened; it is tried again"
                );
                self.trimmed
            }
        };
        Ok(Shortened {
            snapshot: index,
            trimmed,
        })
    }
}
