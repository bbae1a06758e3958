//! One split on its way through a task.

use engine::{
    TIMESTAMP_MIN, Timestamp,
    source::{Source, SourceError, Split, SplitReader},
};

use super::offsets::{Progress, SavedSplit};

/// A split, its reader and its time.
pub(super) struct SplitState {
    pub(super) split: Split,
    /// Number among all of the table's.
    pub(super) place: u32,
    reader: Option<Box<dyn SplitReader>>,
    /// How far it had been read when it was restored, or since it has ended.
    progress: Progress,
    pub(super) watermark: Timestamp,
    pub(super) idle: bool,
    /// Its turn has come.
    pub(super) begun: bool,
    /// When it was first asked in vain.
    pub(super) silent_since_ns: Option<u64>,
    /// Since the last checkpoint.
    pub(super) changed: bool,
}

impl SplitState {
    /// A split that nobody has read. It is saved all the same: a restart must know it.
    pub(super) fn new(split: Split, place: u32) -> Self {
        SplitState {
            split,
            place,
            reader: None,
            progress: Progress::Unread,
            watermark: TIMESTAMP_MIN,
            idle: false,
            begun: false,
            silent_since_ns: None,
            changed: true,
        }
    }

    pub(super) fn restore(id: String, saved: SavedSplit) -> Self {
        let split = Split {
            id,
            descriptor: saved.descriptor,
        };
        SplitState {
            progress: saved.progress,
            watermark: saved.watermark,
            changed: false,
            ..SplitState::new(split, saved.place)
        }
    }

    pub(super) fn open(
        &mut self,
        source: &dyn Source,
    ) -> Result<&mut dyn SplitReader, SourceError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => source.open(&self.split, self.offset())?,
        };
        Ok(&mut **self.reader.insert(reader))
    }

    /// Where it is to be opened.
    fn offset(&self) -> Option<&[u8]> {
        match &self.progress {
            Progress::Reading(offset) => Some(offset),
            Progress::Unread | Progress::Finished => None,
        }
    }

    /// Rows that wait to be read; `None`: that is not to be told.
    pub(super) fn lag_rows(&self, source: &dyn Source) -> Option<u64> {
        match &self.reader {
            _ if self.is_finished() => Some(0),
            Some(reader) => reader.lag_rows(),
            None => source.lag_rows(&self.split, self.offset()),
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.progress == Progress::Finished
    }

    pub(super) fn finish(&mut self) {
        self.reader = None;
        self.progress = Progress::Finished;
        self.changed = true;
    }

    pub(super) fn save(&self) -> SavedSplit {
        SavedSplit {
            progress: match &self.reader {
                Some(reader) => Progress::Reading(reader.offset()),
                None => self.progress.clone(),
            },
            watermark: self.watermark,
            place: self.place,
            descriptor: self.split.descriptor.clone(),
        }
    }
}
