//! Files that are written piece by piece, one file after the other, and given up as a whole. What is not
//! written yet is read from memory.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

use super::{
    scratch::{FileId, Piece, Scratch, ScratchError},
    tail::{Pages, Tail},
};
use crate::state::{Elsewhere, PieceId};

/// Bytes of a piece, which are written at once, in files that are large enough.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes that are read to find a record among them.
const PAGE_BYTES: usize = 2 << 10;
/// Longer records are not kept.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// A file has room for so many pieces at least, and a piece for so many pages.
const PARTS_MIN: usize = 8;
/// With more bytes on their way nothing is taken.
const PENDING_BYTES_MAX: usize = 16 << 20;

/// Where a record can be read, among others.
pub(super) enum Source {
    Memory(Bytes),
    File(Piece),
}

impl Source {
    /// The part of a file, if it is in one.
    pub(super) fn piece(&self) -> Option<Piece> {
        match self {
            Source::File(piece) => Some(*piece),
            Source::Memory(_) => None,
        }
    }
}

/// One file.
pub(super) struct Segment {
    pub(super) file: FileId,
    pub(super) pieces: Vec<PieceId>,
    /// Bytes of its pieces, but for the tail.
    bytes: u32,
    /// Pieces that are still to be written.
    pending: u32,
}

/// A part of a file, in the order of hashes.
struct Run {
    segment: u16,
    file: FileId,
    at: u32,
    bytes: u32,
    pages: Pages,
    /// Until they are written.
    pending: Option<Bytes>,
}

/// The files of one operator.
pub(super) struct Segments {
    scratch: Arc<dyn Scratch>,
    file_bytes: usize,
    piece_bytes: usize,
    page_bytes: usize,
    record_bytes: usize,
    slots: Vec<Option<Segment>>,
    /// Slots, the oldest file first.
    order: VecDeque<u16>,
    /// The one that is appended to.
    open: Option<u16>,
    /// By number of the piece.
    runs: Vec<Option<Run>>,
    /// The piece that the tail becomes, at the end of the open file.
    tail_piece: Option<PieceId>,
    tail: Tail,
    /// Pieces that are to be written, in order.
    queue: VecDeque<(PieceId, FileId)>,
    writing: Option<BoxFuture<'static, Result<(), ScratchError>>>,
    pending_bytes: usize,
    /// What pages of pieces take of memory.
    pages_bytes: usize,
    /// Bytes of all files, but for the tail.
    bytes: u64,
}

impl Segments {
    pub(super) fn new(scratch: Arc<dyn Scratch>) -> Segments {
        let file_bytes = scratch.file_bytes().min(u64::from(u32::MAX)) as usize;
        let piece_bytes = PIECE_BYTES.min(file_bytes / PARTS_MIN);
        Segments {
            scratch,
            file_bytes,
            piece_bytes,
            page_bytes: PAGE_BYTES.min(piece_bytes / PARTS_MIN),
            record_bytes: RECORD_BYTES_MAX.min(file_bytes / 4),
            slots: Vec::new(),
            order: VecDeque::new(),
            open: None,
            runs: Vec::new(),
            tail_piece: None,
            tail: Tail::default(),
            queue: VecDeque::new(),
            writing: None,
            pending_bytes: 0,
            pages_bytes: 0,
            bytes: 0,
        }
    }

    pub(super) fn scratch(&self) -> &Arc<dyn Scratch> {
        &self.scratch
    }

    /// Longer records are not kept.
    pub(super) fn record_bytes_max(&self) -> usize {
        self.record_bytes
    }

    /// Whether there are no files.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes of all files, but for what no file has yet.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether so much waits to be written that nothing more is taken.
    pub(super) fn is_busy(&self) -> bool {
        self.pending_bytes + self.tail.len() > PENDING_BYTES_MAX
    }

    /// Bytes that wait to be written, but for the tail.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether a record can be appended; makes a new file for it if need be. `None`: there is no room for
    /// one.
    pub(super) fn make_room(&mut self, elsewhere: &mut Elsewhere) -> Option<()> {
        if self.tail_piece.is_some() {
            return Some(());
        }
        let most = (self.file_bytes).saturating_sub(self.piece_bytes + self.record_bytes);
        let has_room = |segment: &Segment| segment.bytes as usize <= most;
        let open = self.open.take();
        let open = open.filter(|slot| self.segment(*slot).is_some_and(has_room));
        let slot = match open {
            Some(slot) => slot,
            None => self.create()?,
        };
        self.tail_piece = self.begin_piece(slot, elsewhere);
        // If no piece can be named any more it may be the only file to be given up.
        let is_empty = |segment: &Segment| segment.pieces.is_empty();
        let stays = self.tail_piece.is_some() || self.segment(slot).is_some_and(is_empty);
        self.open = stays.then_some(slot);
        self.tail_piece.map(|_| ())
    }

    fn create(&mut self) -> Option<u16> {
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.unwrap_or(self.slots.len());
        // There are no more files than pieces, but for one.
        let number = u16::try_from(slot).ok()?;
        let file = self.scratch.create()?;
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(Segment {
            file,
            pieces: Vec::new(),
            bytes: 0,
            pending: 0,
        });
        self.order.push_back(number);
        Some(number)
    }

    fn begin_piece(&mut self, slot: u16, elsewhere: &mut Elsewhere) -> Option<PieceId> {
        let segment = self.slots[usize::from(slot)].as_mut()?;
        let piece = elsewhere.begin_piece(slot)?;
        segment.pieces.push(piece);
        if self.runs.len() <= piece.number() {
            self.runs.resize_with(piece.number() + 1, || None);
        }
        self.runs[piece.number()] = Some(Run {
            segment: slot,
            file: segment.file,
            at: segment.bytes,
            bytes: 0,
            pages: Pages::default(),
            pending: None,
        });
        Some(piece)
    }

    /// Appends a record of a hash that `write` appends to the bytes, `false` if it does not; only after
    /// [`Segments::make_room`].
    pub(super) fn append(
        &mut self,
        hash: u64,
        elsewhere: &mut Elsewhere,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let Some(piece) = self.tail_piece else { return };
        let part = |hash| elsewhere.part(hash);
        let (written, other) = self.tail.append(hash, part, write);
        if let Some(other) = other {
            elsewhere.take_piece(other);
        }
        if written {
            elsewhere.set_piece(hash, piece);
        }
        if self.tail.len() >= self.piece_bytes.max(1) {
            self.seal(piece, elsewhere);
        }
    }

    /// The tail is to be written as this piece. If most of it is of no use that makes room for more instead: there
    /// are not so many pieces that one could be of a few records.
    fn seal(&mut self, piece: PieceId, elsewhere: &mut Elsewhere) {
        let part = |hash| elsewhere.part(hash);
        let is_wanted = |hash| elsewhere.piece(hash) == Some(piece);
        let Some(sealed) = self.tail.seal(self.page_bytes, part, is_wanted) else {
            return;
        };
        self.tail_piece = None;
        let bytes = sealed.bytes.len();
        elsewhere.end_piece(piece, bytes as u32 / sealed.records.max(1));
        let Some(run) = &mut self.runs[piece.number()] else {
            return;
        };
        (run.bytes, run.pages) = (bytes as u32, sealed.pages);
        run.pending = Some(sealed.bytes);
        self.pages_bytes += run.pages.memory();
        self.pending_bytes += bytes;
        self.bytes += bytes as u64;
        self.queue.push_back((piece, run.file));
        if let Some(segment) = &mut self.slots[usize::from(run.segment)] {
            segment.bytes += bytes as u32;
            segment.pending += 1;
        }
    }

    pub(super) fn segment(&self, slot: u16) -> Option<&Segment> {
        self.slots[usize::from(slot)].as_ref()
    }

    fn run(&self, piece: PieceId) -> Option<&Run> {
        self.runs.get(piece.number())?.as_ref()
    }

    /// All of a piece.
    pub(super) fn whole(&self, piece: PieceId) -> Option<Piece> {
        let run = self.run(piece)?;
        Some(Piece {
            file: run.file,
            at: u64::from(run.at),
            len: run.bytes,
        })
    }

    /// Where the record of a hash can be read, which is in this piece.
    pub(super) fn source(
        &self,
        hash: u64,
        piece: PieceId,
        elsewhere: &Elsewhere,
    ) -> Option<Source> {
        if self.tail_piece == Some(piece) {
            let record = self.tail.find(hash, |hash| elsewhere.part(hash))?;
            return Some(Source::Memory(Bytes::copy_from_slice(record)));
        }
        let run = self.run(piece)?;
        let page = run.pages.find(hash, run.bytes)?;
        Some(match &run.pending {
            Some(bytes) => Source::Memory(bytes.slice(page.start as usize..page.end as usize)),
            None => Source::File(Piece {
                file: run.file,
                at: u64::from(run.at + page.start),
                len: page.end - page.start,
            }),
        })
    }

    /// Bytes of memory that records take until they are a piece.
    #[cfg(test)]
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.memory()
    }

    /// Goes on writing. `Err`: the file in this slot cannot be written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), u16> {
        while let Some((piece, file)) = self.queue.front().copied() {
            let run = self.runs[piece.number()].as_mut();
            let run = run.filter(|run| run.file == file);
            if self.writing.is_none() {
                let Some((run, bytes)) = run.as_ref().and_then(|r| Some((r, r.pending.as_ref()?)))
                else {
                    // It was given up.
                    self.queue.pop_front();
                    continue;
                };
                let at = u64::from(run.at);
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
            let Some(run) = run else { continue };
            if let Some(bytes) = run.pending.take() {
                self.pending_bytes -= bytes.len();
                if let Some(segment) = &mut self.slots[usize::from(run.segment)] {
                    segment.pending -= 1;
                }
            }
            written.map_err(|_| run.segment)?;
        }
        Ok(())
    }

    /// Whether all of a file but the one that is appended to is written.
    pub(super) fn is_sealed(&self, slot: u16) -> bool {
        let is_written = |segment: &Segment| segment.pending == 0;
        self.open != Some(slot) && self.segment(slot).is_some_and(is_written)
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

    /// Gives a file up, and what is in it.
    pub(super) fn remove(&mut self, slot: u16, elsewhere: &mut Elsewhere) {
        let Some(segment) = self.slots[usize::from(slot)].take() else {
            return;
        };
        if self.open == Some(slot) {
            self.open = None;
            self.tail_piece = None;
            self.tail.clear();
        }
        self.order.retain(|other| *other != slot);
        elsewhere.give_up(slot, &segment.pieces);
        self.bytes -= u64::from(segment.bytes);
        for piece in segment.pieces {
            let run = self.runs[piece.number()].take();
            self.pages_bytes -= run.as_ref().map_or(0, |run| run.pages.memory());
            let pending = run.and_then(|run| run.pending);
            self.pending_bytes -= pending.map_or(0, |bytes| bytes.len());
        }
        self.scratch.remove(segment.file);
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.tail.memory()
            + self.pending_bytes
            + self.pages_bytes
            + self.runs.capacity() * size_of::<Option<Run>>()
            + self.slots.len() * size_of::<Segment>()
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        for segment in self.slots.drain(..).flatten() {
            self.scratch.remove(segment.file);
        }
    }
}
