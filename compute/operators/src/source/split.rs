//! One split on its way through a task.

use engine::{
    TIMESTAMP_MIN, Timestamp,
    source::{Source, SourceError, Split, SplitReader},
};

use super::offsets::SavedSplit;

/// A split, its reader and its time.
pub(super) struct SplitState {
    pub(super) split: Split,
    reader: Option<Box<dyn SplitReader>>,
    /// Where to open it, when it is not open yet.
    offset: Option<Vec<u8>>,
    pub(super) watermark: Timestamp,
    pub(super) finished: bool,
    pub(super) idle: bool,
    pub(super) read_at_ns: Option<u64>,
    /// Since the last checkpoint.
    pub(super) changed: bool,
}

impl SplitState {
    pub(super) fn new(split: Split) -> Self {
        SplitState {
            split,
            reader: None,
            offset: None,
            watermark: TIMESTAMP_MIN,
            finished: false,
            idle: false,
            read_at_ns: None,
            changed: false,
        }
    }

    pub(super) fn open(
        &mut self,
        source: &dyn Source,
    ) -> Result<&mut dyn SplitReader, SourceError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => source.open(&self.split, self.offset.as_deref())?,
        };
        Ok(&mut **self.reader.insert(reader))
    }

    pub(super) fn finish(&mut self) {
        self.offset = Some(self.place());
        self.reader = None;
        self.finished = true;
        self.changed = true;
    }

    fn place(&self) -> Vec<u8> {
        match &self.reader {
            Some(reader) => reader.offset(),
            None => self.offset.clone().unwrap_or_default(),
        }
    }

    pub(super) fn save(&self) -> SavedSplit {
        SavedSplit {
            finished: self.finished,
            watermark: self.watermark,
            offset: self.place(),
        }
    }

    pub(super) fn restore(&mut self, saved: SavedSplit) {
        self.finished = saved.finished;
        self.watermark = saved.watermark;
        self.offset = Some(saved.offset);
    }
}
