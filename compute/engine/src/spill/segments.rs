//! Files that are written one after the other and given up as a whole. What is not written yet is read
//! from memory.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

use super::{
    index::{Place, SEGMENT_UNITS_MAX, SEGMENTS_MAX},
    record::{BYTES_MAX, UNIT},
    scratch::{FileId, Piece, Scratch, ScratchError},
};

/// Bytes that are written at once.
const PIECE_BYTES: usize = 256 << 10;
/// With more bytes on their way nothing is taken.
const PENDING_BYTES_MAX: usize = 16 << 20;

/// Where a record can be read.
pub(super) enum Source {
    Memory(Bytes),
    File(Piece),
}

/// One file.
pub(super) struct Segment {
    pub(super) file: FileId,
    /// Units that were appended.
    pub(super) units: u32,
    /// Of them, those that are not forgotten.
    pub(super) live: u32,
    /// Pieces that are not written, with the units at which they begin.
    pending: VecDeque<(u32, Bytes)>,
}

/// The files of one operator.
pub(super) struct Segments {
    scratch: Arc<dyn Scratch>,
    slots: Vec<Option<Segment>>,
    /// Slots, the oldest file first.
    order: VecDeque<u16>,
    /// The one that is appended to.
    open: Option<u16>,
    /// The end of that, from this unit on.
    tail: Vec<u8>,
    tail_at: u32,
    /// Slots of pieces that are to be written, in order.
    queue: VecDeque<(u16, FileId)>,
    writing: Option<BoxFuture<'static, Result<(), ScratchError>>>,
    pending_bytes: usize,
    /// A file may have become useless since it was last asked.
    is_stale: bool,
}

impl Segments {
    pub(super) fn new(scratch: Arc<dyn Scratch>) -> Segments {
        Segments {
            scratch,
            slots: Vec::new(),
            order: VecDeque::new(),
            open: None,
            tail: Vec::new(),
            tail_at: 0,
            queue: VecDeque::new(),
            writing: None,
            pending_bytes: 0,
            is_stale: false,
        }
    }

    pub(super) fn scratch(&self) -> &Arc<dyn Scratch> {
        &self.scratch
    }

    /// Whether so much waits to be written that nothing more is taken.
    pub(super) fn is_busy(&self) -> bool {
        self.pending_bytes + self.tail.len() > PENDING_BYTES_MAX
    }

    /// Bytes that wait to be written, but for the last piece, which is not full.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether a record can be appended; makes a new file for it if need be. `None`: there is no room for
    /// one.
    pub(super) fn make_room(&mut self) -> Option<()> {
        let file_bytes = self.scratch.file_bytes() as usize;
        let file_bytes = file_bytes.min(SEGMENT_UNITS_MAX as usize * UNIT);
        let is_full = |segment: &Segment| segment.units as usize * UNIT + BYTES_MAX > file_bytes;
        if let Some(open) = self.open {
            if !self.segment(open).is_some_and(is_full) {
                return Some(());
            }
            self.flush_tail();
            self.open = None;
        }
        let file = self.scratch.create()?;
        let segment = Segment {
            file,
            units: 0,
            live: 0,
            pending: VecDeque::new(),
        };
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.slots.len() < SEGMENTS_MAX => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => {
                self.scratch.remove(file);
                return None;
            }
        };
        self.slots[slot] = Some(segment);
        self.order.push_back(slot as u16);
        self.open = Some(slot as u16);
        self.tail_at = 0;
        Some(())
    }

    /// Appends a record that `write` appends to the bytes; only after [`Segments::make_room`].
    pub(super) fn append(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Option<u16>,
    ) -> Option<Place> {
        let slot = self.open?;
        let units = write(&mut self.tail)?;
        let segment = self.slots[usize::from(slot)].as_mut()?;
        let place = Place {
            segment: slot,
            units,
            at: segment.units,
        };
        segment.units += u32::from(units);
        segment.live += u32::from(units);
        if self.tail.len() >= PIECE_BYTES {
            self.flush_tail();
        }
        Some(place)
    }

    fn flush_tail(&mut self) {
        let Some(slot) = self.open.filter(|_| !self.tail.is_empty()) else {
            return;
        };
        let Some(segment) = &mut self.slots[usize::from(slot)] else {
            return;
        };
        let room = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        let bytes = Bytes::from(std::mem::replace(&mut self.tail, room));
        self.pending_bytes += bytes.len();
        segment.pending.push_back((self.tail_at, bytes));
        self.tail_at = segment.units;
        self.queue.push_back((slot, segment.file));
    }

    /// A record is forgotten.
    pub(super) fn release(&mut self, place: Place) {
        if let Some(segment) = &mut self.slots[usize::from(place.segment)] {
            segment.live -= u32::from(place.units);
            self.is_stale = true;
        }
    }

    pub(super) fn segment(&self, slot: u16) -> Option<&Segment> {
        self.slots[usize::from(slot)].as_ref()
    }

    /// Where a record can be read.
    pub(super) fn source(&self, place: Place) -> Option<Source> {
        let segment = self.segment(place.segment)?;
        let bytes = usize::from(place.units) * UNIT;
        let part = |at: u32| {
            let start = (place.at - at) as usize * UNIT;
            start..start + bytes
        };
        if self.open == Some(place.segment) && place.at >= self.tail_at {
            let tail = self.tail.get(part(self.tail_at))?;
            return Some(Source::Memory(Bytes::copy_from_slice(tail)));
        }
        let pending = segment.pending.iter().rev();
        if let Some((at, piece)) = pending.into_iter().find(|(at, _)| *at <= place.at) {
            return Some(Source::Memory(piece.slice(part(*at))));
        }
        Some(Source::File(Piece {
            file: segment.file,
            at: u64::from(place.at) * UNIT as u64,
            len: bytes as u32,
        }))
    }

    /// Goes on writing. `Err`: the file in this slot cannot be written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), u16> {
        loop {
            let Some((slot, file)) = self.queue.front().copied() else {
                return Ok(());
            };
            let segment = self.slots[usize::from(slot)].as_mut();
            let segment = segment.filter(|segment| segment.file == file);
            if self.writing.is_none() {
                let Some((at, bytes)) = segment.as_ref().and_then(|s| s.pending.front()) else {
                    // It was given up.
                    self.queue.pop_front();
                    continue;
                };
                let at = u64::from(*at) * UNIT as u64;
                self.writing = Some(self.scratch.write(file, at, bytes.clone()));
            }
            let Some(writing) = &mut self.writing else {
                return Ok(());
            };
            let Poll::Ready(written) = writing.poll_unpin(cx) else {
                return Ok(());
            };
            self.writing = None;
            self.queue.pop_front();
            let Some(segment) = segment else { continue };
            if let Some((_, bytes)) = segment.pending.pop_front() {
                self.pending_bytes -= bytes.len();
                self.is_stale = true;
            }
            written.map_err(|_| slot)?;
        }
    }

    /// Whether a record was forgotten, or a piece written, since this was last asked.
    pub(super) fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.is_stale)
    }

    /// Whether all of a file but the one that is appended to is written.
    pub(super) fn is_sealed(&self, slot: u16) -> bool {
        let pending = |segment: &Segment| segment.pending.is_empty();
        self.open != Some(slot) && self.segment(slot).is_some_and(pending)
    }

    /// The oldest file that is not appended to.
    pub(super) fn oldest(&self) -> Option<u16> {
        let oldest = self.order.front().copied();
        oldest.filter(|slot| self.open != Some(*slot))
    }

    /// Slots of all files.
    pub(super) fn slots(&self) -> impl Iterator<Item = u16> + '_ {
        self.order.iter().copied()
    }

    /// Gives a file up. Nothing may refer to it any more.
    pub(super) fn remove(&mut self, slot: u16) {
        let Some(segment) = self.slots[usize::from(slot)].take() else {
            return;
        };
        if self.open == Some(slot) {
            self.open = None;
            self.tail.clear();
        }
        self.order.retain(|other| *other != slot);
        let pending: usize = segment.pending.iter().map(|(_, bytes)| bytes.len()).sum();
        self.pending_bytes -= pending;
        self.scratch.remove(segment.file);
    }

    /// Units in all files, and those of them that are not forgotten.
    pub(super) fn units(&self) -> (u64, u64) {
        let segments = self.slots.iter().flatten();
        segments.fold((0, 0), |(units, live), segment| {
            (
                units + u64::from(segment.units),
                live + u64::from(segment.live),
            )
        })
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.tail.capacity() + self.pending_bytes + self.slots.len() * size_of::<Segment>()
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        for segment in self.slots.drain(..).flatten() {
            self.scratch.remove(segment.file);
        }
    }
}
