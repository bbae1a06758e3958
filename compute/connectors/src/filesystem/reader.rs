//! Reads the records of one file split.

use std::{
    io,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use engine::{
    ChangeBatch,
    source::{DeadLetter, SourceError, Split, SplitEvent, SplitReader},
};
use proto::{plan::FilesystemSpec, types::Field};

use super::{
    failed,
    partition::{PartitionColumns, split_fields},
    records::Records,
    row_sizes::RowSizes,
    split::{FileSplit, Offset},
};
use crate::{
    column::Rows,
    dead_letters::DeadLetters,
    format::{BadRecord, Decoder, open_decoder},
};

/// A batch ends, whatever its rows, when this much of the file was read for it.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Reads one split.
pub(super) struct FileReader {
    split: FileSplit,
    id: String,
    records: Records,
    /// Records before the next one, counted from the split's start.
    record: u64,
    decoder: Decoder,
    rows: Rows,
    partition: Option<PartitionColumns>,
    dead_letters: DeadLetters,
    /// Of all that is read of the table.
    sizes: Arc<RowSizes>,
}

impl FileReader {
    pub(super) fn open(
        spec: &FilesystemSpec,
        fields: &[Field],
        split: &Split,
        offset: Option<&[u8]>,
        sizes: Arc<RowSizes>,
    ) -> Result<FileReader, SourceError> {
        let foreign = |what: &str| SourceError::Refused {
            what: format!("split `{}`", split.id),
            cause: format!("its {what} is not one of a filesystem table"),
        };
        let file = FileSplit::from_split(split).ok_or_else(|| foreign("descriptor"))?;
        let offset = offset
            .map(|bytes| Offset::from_bytes(bytes).ok_or_else(|| foreign("offset")))
            .transpose()?;
        let (in_file, _) = split_fields(fields, &spec.partition_by);
        let decoder = open_decoder(spec.format.as_ref(), &in_file)?;
        let partition = PartitionColumns::new(fields, &spec.partition_by, &file.directories)
            .map_err(|cause| SourceError::Refused {
                what: format!("`{}`", file.path),
                cause,
            })?;
        let path = Path::new(&file.path);
        let framing = decoder.framing();
        let records = match offset {
            Some(offset) => Records::open(path, framing, offset.position, file.end),
            None => {
                Records::open_range(path, framing, file.start, file.end).and_then(|mut records| {
                    if !decoder.keeps_byte_order_mark() {
                        records.skip_byte_order_mark()?;
                    }
                    Ok(records)
                })
            }
        };
        let records = records.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SourceError::Refused {
                what: format!("`{}`", file.path),
                cause: "it was there when the job started, and has gone before it was read to its \
                        end; put it back and start the job again"
                    .to_owned(),
            },
            _ => failed(format!("`{}`", file.path), &error),
        })?;
        Ok(FileReader {
            id: split.id.clone(),
            split: file,
            records,
            record: offset.map_or(0, |offset| offset.record),
            decoder,
            rows: Rows::new(&in_file),
            partition,
            dead_letters: DeadLetters::default(),
            sizes,
        })
    }

    /// Reads records until there are enough rows; `false` at the split's end.
    fn fill(&mut self, max_rows: usize) -> Result<bool, SourceError> {
        let (position, rows) = (self.records.position(), self.rows.len());
        let more = self.decode(max_rows)?;
        let bytes = self.records.position() - position;
        self.sizes.add(bytes, self.rows.len() - rows);
        Ok(more)
    }

    fn decode(&mut self, max_rows: usize) -> Result<bool, SourceError> {
        let start = self.records.position();
        while self.rows.len() < max_rows && self.records.position() - start < BATCH_BYTES_MAX {
            let at = self.records.position();
            let next = self.records.next();
            let next = next
                .map_err(|error| failed(format!("`{}` at byte {at}", self.split.path), &error))?;
            let Some(record) = next else {
                return Ok(false);
            };
            self.record += 1;
            let bytes = self.records.bytes(record);
            if let Err(BadRecord(cause)) = self.decoder.decode(bytes, &mut self.rows) {
                // Lines can be counted from the start of a file only.
                let position = match self.split.start {
                    0 => format!("record {}", self.record),
                    _ => format!("byte {at}"),
                };
                // Kept in either case: the job that fails for it should be able to show it.
                self.dead_letters
                    .push(&self.id, position.clone(), bytes, cause.clone());
                if !self.decoder.ignores_bad_records() {
                    return Err(SourceError::BadRecord {
                        split: format!("`{}`", self.split.path),
                        position,
                        cause,
                    });
                }
            }
        }
        Ok(true)
    }

    /// The next rows, at most about `max_rows`; `None` at the split's end.
    pub(super) fn read(&mut self, max_rows: usize) -> Result<Option<ChangeBatch>, SourceError> {
        // A round may have read nothing but records that are left out.
        while self.fill(max_rows)? && self.rows.len() == 0 {}
        match self.rows.len() {
            0 => Ok(None),
            _ => self.take_rows().map(Some),
        }
    }

    /// How many records were left out since the last call.
    pub(super) fn take_skipped(&mut self) -> u64 {
        let letters = self.dead_letters.take();
        letters.iter().map(|letter| letter.count).sum()
    }

    fn take_rows(&mut self) -> Result<ChangeBatch, SourceError> {
        let batch = self.rows.finish().and_then(|batch| match &self.partition {
            Some(partition) => partition.add(batch),
            None => Ok(batch),
        });
        batch.map_err(|error| SourceError::Refused {
            what: format!("`{}`", self.split.path),
            cause: error.to_string(),
        })
    }
}

impl SplitReader for FileReader {
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        max_rows: usize,
    ) -> Poll<Result<SplitEvent, SourceError>> {
        let more = self.fill(max_rows)?;
        if self.rows.len() == 0 {
            if !more {
                return Poll::Ready(Ok(SplitEvent::Finished));
            }
            // Nothing but skipped records so far: let others run.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.take_rows().map(SplitEvent::Batch))
    }

    fn offset(&self) -> Vec<u8> {
        let offset = Offset {
            position: self.records.position(),
            record: self.record,
        };
        offset.to_bytes()
    }

    fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        self.dead_letters.take()
    }

    fn lag_rows(&self) -> Option<u64> {
        let position = self.records.position();
        self.sizes.rows_between(position, self.split.end)
    }
}
