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
}

/// A part of a file, in the order of hashes.
struct Run {
    segment: u16,
    file: FileId,
    at: u32,
    bytes: u32,
    records: u32,
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
    free: Vec<PieceId>,
    /// The piece that the tail becomes, at the end of the open file.
    tail_piece: Option<PieceId>,
    tail: Tail,
    /// Pieces that are to be written, in order.
    queue: VecDeque<(PieceId, FileId)>,
    writing: Option<BoxFuture<'static, Result<(), ScratchError>>>,
    pending_bytes: usize,
    /// What pages of pieces take of memory.
    pages_bytes: usize,
    /// A piece was written since this was last asked.
    has_written: bool,
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
            free: Vec::new(),
            tail_piece: None,
            tail: Tail::default(),
            queue: VecDeque::new(),
            writing: None,
            pending_bytes: 0,
            pages_bytes: 0,
            has_written: false,
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

    /// Pieces of all files, or more.
    pub(super) fn pieces(&self) -> usize {
        self.runs.len()
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
    pub(super) fn make_room(&mut self) -> Option<()> {
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
        self.open = Some(slot);
        self.tail_piece = Some(self.begin_piece(slot)?);
        Some(())
    }

    fn create(&mut self) -> Option<u16> {
        let file = self.scratch.create()?;
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(Segment {
            file,
            pieces: Vec::new(),
            bytes: 0,
        });
        // There are no more files than pieces.
        self.order.push_back(slot as u16);
        Some(slot as u16)
    }

    fn begin_piece(&mut self, slot: u16) -> Option<PieceId> {
        let piece = match self.free.pop() {
            Some(piece) => piece,
            None if self.runs.len() < PieceId::COUNT => {
                self.runs.push(None);
                PieceId::new(self.runs.len() - 1)
            }
            None => return None,
        };
        let segment = self.slots[usize::from(slot)].as_mut()?;
        segment.pieces.push(piece);
        self.runs[piece.number()] = Some(Run {
            segment: slot,
            file: segment.file,
            at: segment.bytes,
            bytes: 0,
            records: 0,
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
        if self.tail.append(hash, |hash| elsewhere.part(hash), write) {
            elsewhere.set_piece(hash, piece);
        }
        if self.tail.len() >= self.piece_bytes {
            self.seal(elsewhere);
        }
    }

    /// The tail is to be written.
    fn seal(&mut self, elsewhere: &Elsewhere) {
        let Some(piece) = self.tail_piece.take() else {
            return;
        };
        let is_wanted = |hash| elsewhere.piece(hash) == Some(piece);
        let sealed = self.tail.seal(self.page_bytes, is_wanted);
        let bytes = sealed.bytes.len();
        let Some(run) = &mut self.runs[piece.number()] else {
            return;
        };
        (run.bytes, run.records, run.pages) = (bytes as u32, sealed.records, sealed.pages);
        self.pages_bytes += run.pages.memory();
        if let Some(segment) = &mut self.slots[usize::from(run.segment)] {
            segment.bytes += bytes as u32;
        }
        if bytes > 0 {
            run.pending = Some(sealed.bytes);
            self.pending_bytes += bytes;
            self.queue.push_back((piece, run.file));
        }
    }

    pub(super) fn segment(&self, slot: u16) -> Option<&Segment> {
        self.slots[usize::from(slot)].as_ref()
    }

    fn run(&self, piece: PieceId) -> Option<&Run> {
        self.runs.get(piece.number())?.as_ref()
    }

    /// The file that a piece is in.
    pub(super) fn segment_of(&self, piece: PieceId) -> Option<u16> {
        self.run(piece).map(|run| run.segment)
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
                self.has_written = true;
            }
            written.map_err(|_| run.segment)?;
        }
        Ok(())
    }

    /// Whether a piece was written since this was last asked.
    pub(super) fn take_written(&mut self) -> bool {
        std::mem::take(&mut self.has_written)
    }

    /// Whether all of a file but the one that is appended to is written.
    pub(super) fn is_sealed(&self, slot: u16) -> bool {
        let is_written =
            |piece: &PieceId| self.run(*piece).is_some_and(|run| run.pending.is_none());
        let written = |segment: &Segment| segment.pieces.iter().all(is_written);
        self.open != Some(slot) && self.segment(slot).is_some_and(written)
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
            self.tail_piece = None;
            self.tail.clear();
        }
        self.order.retain(|other| *other != slot);
        for piece in segment.pieces {
            let run = self.runs[piece.number()].take();
            self.pages_bytes -= run.as_ref().map_or(0, |run| run.pages.memory());
            let pending = run.and_then(|run| run.pending);
            self.pending_bytes -= pending.map_or(0, |bytes| bytes.len());
            self.free.push(piece);
        }
        self.scratch.remove(segment.file);
    }

    /// Hashes of which the records in a file are wanted.
    pub(super) fn live(&self, slot: u16, elsewhere: &Elsewhere) -> u64 {
        let pieces = self
            .segment(slot)
            .into_iter()
            .flat_map(|segment| &segment.pieces);
        pieces.map(|piece| u64::from(elsewhere.live(*piece))).sum()
    }

    /// Bytes of a file, and about those of them that are wanted.
    pub(super) fn bytes(&self, slot: u16, elsewhere: &Elsewhere) -> (u64, u64) {
        let pieces = self
            .segment(slot)
            .into_iter()
            .flat_map(|segment| &segment.pieces);
        let runs = pieces.filter_map(|piece| Some((self.run(*piece)?, elsewhere.live(*piece))));
        runs.fold((0, 0), |(bytes, wanted), (run, live)| {
            let records = u64::from(run.records.max(1));
            let part = u64::from(run.bytes) * u64::from(live).min(records) / records;
            (bytes + u64::from(run.bytes), wanted + part)
        })
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
