//! Columns of generated rows: one value per event of a kind, and a place-holder per other event.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray},
    buffer::{NullBuffer, OffsetBuffer},
    error::ArrowError,
};

use crate::random::Words;

use super::{config::Kind, random::eight_of_padding, run::Run};

/// The rows of a batch, seen as rows of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) runs: &'a [Run],
    pub(super) kind: Kind,
    pub(super) length: usize,
    /// Which rows are of the kind, where not all are.
    pub(super) nulls: Option<&'a NullBuffer>,
}

impl Rows<'_> {
    /// A BIGINT column. `of_run` looks at what the events of a run share.
    #[inline(always)]
    pub(super) fn integers<V: FnMut(u64) -> i64>(&self, of_run: impl Fn(&Run) -> V) -> ArrayRef {
        Arc::new(Int64Array::new(
            self.values(of_run).into(),
            self.nulls.cloned(),
        ))
    }

    /// A TIMESTAMP(3) column.
    #[inline(always)]
    pub(super) fn timestamps<V: FnMut(u64) -> i64>(&self, of_run: impl Fn(&Run) -> V) -> ArrayRef {
        Arc::new(TimestampMillisecondArray::new(
            self.values(of_run).into(),
            self.nulls.cloned(),
        ))
    }

    #[inline(always)]
    fn values<V: FnMut(u64) -> i64>(&self, of_run: impl Fn(&Run) -> V) -> Vec<i64> {
        let mut values = Vec::with_capacity(self.length);
        for run in self.runs {
            if run.kind == self.kind {
                values.extend(run.events().map(of_run(run)));
            } else {
                values.extend(std::iter::repeat_n(0, run.length as usize));
            }
        }
        values
    }

    /// A STRING column. `write` appends one event's text, of about `average_bytes`.
    #[inline(always)]
    pub(super) fn texts(
        &self,
        average_bytes: usize,
        mut write: impl FnMut(u64, &mut Text),
    ) -> Result<ArrayRef, ArrowError> {
        let mut text = Text {
            bytes: vec![0; self.length * average_bytes + SPARE_BYTES],
            length: 0,
        };
        let mut offsets = Vec::with_capacity(self.length + 1);
        offsets.push(0);
        for run in self.runs {
            if run.kind == self.kind {
                for event in run.events() {
                    write(event, &mut text);
                    offsets.push(text.offset()?);
                }
            } else {
                let offset = text.offset()?;
                offsets.extend(std::iter::repeat_n(offset, run.length as usize));
            }
        }
        text.bytes.truncate(text.length);
        let array = StringArray::try_new(
            OffsetBuffer::new(offsets.into()),
            text.bytes.into(),
            self.nulls.cloned(),
        )?;
        Ok(Arc::new(array))
    }
}

/// Room that is always left at the end, so that short pieces need not be measured.
const SPARE_BYTES: usize = 64;

/// The bytes of a STRING column, written in whole words: what is written beyond a text's end is
/// overwritten by the next.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    length: usize,
}

impl Text {
    /// What was written.
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Bytes so far.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.length
    }

    fn offset(&self) -> Result<i32, ArrowError> {
        i32::try_from(self.length).map_err(|_| ArrowError::OffsetOverflowError(self.length))
    }

    #[inline(always)]
    fn reserve(&mut self, more: usize) {
        if self.length + more + SPARE_BYTES > self.bytes.len() {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let wanted = self.bytes.len() * 2 + more + SPARE_BYTES;
        self.bytes.resize(wanted, 0);
    }

    /// Appends bytes.
    #[inline(always)]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Appends `length` characters of padding.
    #[inline(always)]
    pub(super) fn push_padding(&mut self, mut words: Words, length: usize) {
        self.reserve(length);
        let end = self.length + length;
        let room = &mut self.bytes[self.length..end + 8];
        for piece in room.chunks_exact_mut(8) {
            piece.copy_from_slice(&eight_of_padding(words.next()));
        }
        self.length = end;
    }

    /// Drops blanks at the end, back to `start`; a text of blanks alone becomes empty.
    pub(super) fn trim_end(&mut self, start: usize) {
        while self.length > start && self.bytes[self.length - 1] == b' ' {
            self.length -= 1;
        }
    }
}
