//! What an operator has in scratch files.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::TableId;
use state_client::ReadRequest;

use super::{
    evicted::Evicted,
    read::SpilledRead,
    record::{self, Row},
    scratch::{FileId, Scratch, ScratchError},
    segments::Segments,
};
use crate::state::{Elsewhere, FrozenRows, PieceId};

/// Rows that went from memory and have not changed since. Where they are is known by the operator's index
/// ([`Elsewhere`]), always the same one.
pub struct Spill {
    segments: Segments,
    cleaning: Option<Cleaning>,
}

/// A file is read to append what is still wanted of it anew.
struct Cleaning {
    slot: u16,
    file: FileId,
    /// Pieces that have been looked at.
    done: usize,
    reading: Option<BoxFuture<'static, Result<Vec<Bytes>, ScratchError>>>,
}

impl Spill {
    /// Nothing yet.
    #[must_use]
    pub fn new(scratch: Arc<dyn Scratch>) -> Spill {
        Spill {
            segments: Segments::new(scratch),
            cleaning: None,
        }
    }

    /// Keeps rows that go from memory, as far as there is room in files. For as long as [`Spill::is_busy`]
    /// nothing should go from memory that is of use.
    pub fn put(&mut self, evicted: &Evicted, elsewhere: &mut Elsewhere) {
        let tables: Vec<Sorted<'_>> = evicted.tables.iter().map(sorted).collect();
        let mut at = vec![0; tables.len()];
        let mut record: Vec<(TableId, &[(u64, Row<'_>)])> = Vec::with_capacity(tables.len());
        let bytes_max = self.segments.record_bytes_max();
        loop {
            let next = tables.iter().zip(&at);
            let next = next.filter_map(|((_, rows), at)| rows.get(*at).map(|(hash, _)| *hash));
            let Some(hash) = next.min() else { return };
            record.clear();
            for ((table, rows), at) in tables.iter().zip(&mut at) {
                let start = *at;
                while rows.get(*at).is_some_and(|(other, _)| *other == hash) {
                    *at += 1;
                }
                record.push((*table, &rows[start..*at]));
            }
            // It may be too long, or find no room, and what was there is not its own.
            elsewhere.take_piece(hash);
            if self.make_room(elsewhere).is_none() {
                continue;
            }
            let write = |out: &mut Vec<u8>| record::write(hash, &record, bytes_max, out);
            self.segments.append(hash, elsewhere, write);
        }
    }

    fn make_room(&mut self, elsewhere: &mut Elsewhere) -> Option<()> {
        if self.segments.make_room(elsewhere).is_some() {
            return Some(());
        }
        let oldest = self.segments.oldest()?;
        self.segments.remove(oldest, elsewhere);
        self.segments.make_room(elsewhere)
    }

    /// What of a read is here, and from now on is not; the request, if nothing is.
    ///
    /// # Errors
    /// The request, if nothing of it is here.
    pub fn take(
        &mut self,
        request: ReadRequest,
        elsewhere: &mut Elsewhere,
    ) -> Result<SpilledRead, ReadRequest> {
        if self.segments.is_empty() {
            return Err(request);
        }
        let mut records: Vec<(u64, _)> = Vec::new();
        let mut places = Vec::with_capacity(request.keys.len());
        for key in &request.keys {
            if key.namespace != 0 || key.sub.is_some() {
                places.push(None);
                continue;
            }
            // Tables of one hash are asked for one after the other.
            if records.last().is_none_or(|(hash, _)| *hash != key.hash)
                && let Some(piece) = elsewhere.take_piece(key.hash)
            {
                let source = self.segments.source(key.hash, piece, elsewhere);
                records.extend(source.map(|source| (key.hash, source)));
            }
            let last = records.last().filter(|(hash, _)| *hash == key.hash);
            places.push(last.map(|_| records.len() - 1));
        }
        if records.is_empty() {
            return Err(request);
        }
        Ok(SpilledRead {
            request,
            places,
            records,
            scratch: Arc::clone(self.segments.scratch()),
        })
    }

    /// Rows of these hashes have changed.
    pub fn forget(&mut self, hashes: impl Iterator<Item = u64>, elsewhere: &mut Elsewhere) {
        if !self.segments.is_empty() {
            for hash in hashes {
                elsewhere.take_piece(hash);
            }
        }
    }

    /// Goes on writing, and makes files smaller of which little is left.
    pub fn poll(&mut self, cx: &mut Context<'_>, elsewhere: &mut Elsewhere) {
        while let Err(slot) = self.segments.poll_write(cx) {
            self.segments.remove(slot, elsewhere);
        }
        let sealed = |slot: &u16| self.segments.is_sealed(*slot);
        let dead: Vec<u16> = elsewhere.emptied().filter(sealed).collect();
        dead.into_iter()
            .for_each(|slot| self.segments.remove(slot, elsewhere));
        let cleaning = self.cleaning.take();
        self.cleaning = cleaning.or_else(|| self.find_unclean(elsewhere));
        self.clean(cx, elsewhere);
    }

    fn clean(&mut self, cx: &mut Context<'_>, elsewhere: &mut Elsewhere) {
        while let Some(mut cleaning) = self.cleaning.take() {
            let segment = self.segments.segment(cleaning.slot);
            let Some(segment) = segment.filter(|segment| segment.file == cleaning.file) else {
                // It is gone.
                return;
            };
            let mut left = segment.pieces.iter().skip(cleaning.done);
            let unwanted = left
                .clone()
                .take_while(|piece| elsewhere.live(**piece) == 0);
            cleaning.done += unwanted.count();
            left = segment.pieces.iter().skip(cleaning.done);
            let Some(piece) = left.next().copied() else {
                return self.segments.remove(cleaning.slot, elsewhere);
            };
            let scratch = self.segments.scratch();
            let whole = self.segments.whole(piece);
            let reading = &mut cleaning.reading;
            let reading = reading.get_or_insert_with(|| scratch.read(whole.into_iter().collect()));
            // What waits to be written goes first.
            let read = match self.segments.is_busy() {
                true => Poll::Pending,
                false => reading.poll_unpin(cx),
            };
            let Poll::Ready(read) = read else {
                self.cleaning = Some(cleaning);
                return;
            };
            cleaning.reading = None;
            let bytes = read.ok().and_then(|mut pieces| pieces.pop());
            let appended = bytes.and_then(|bytes| self.append_wanted(piece, &bytes, elsewhere));
            if appended.is_none() {
                return self.segments.remove(cleaning.slot, elsewhere);
            }
            cleaning.done += 1;
            self.cleaning = Some(cleaning);
        }
    }

    /// The file with the least left, if more is lost in files than is in them.
    fn find_unclean(&self, elsewhere: &Elsewhere) -> Option<Cleaning> {
        let wanted = elsewhere.wanted_bytes();
        let lost = self.segments.bytes().saturating_sub(wanted);
        if lost < self.segments.scratch().file_bytes() || lost < wanted {
            return None;
        }
        let sealed = (self.segments.slots()).filter(|slot| self.segments.is_sealed(*slot));
        let slot = sealed.min_by_key(|slot| elsewhere.wanted_in(*slot))?;
        Some(Cleaning {
            slot,
            file: self.segments.segment(slot)?.file,
            done: 0,
            reading: None,
        })
    }

    /// Appends those records of a piece that are still wanted. `None`: there is no room, or they are damaged.
    fn append_wanted(
        &mut self,
        piece: PieceId,
        bytes: &[u8],
        elsewhere: &mut Elsewhere,
    ) -> Option<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (hash, length) = record::peek(rest)?;
            let (record, others) = rest.split_at(length);
            if elsewhere.piece(hash) == Some(piece) {
                // Not by giving up the oldest: it may be the one that is read.
                self.segments.make_room(elsewhere)?;
                elsewhere.take_piece(hash);
                self.segments.append(hash, elsewhere, |out| {
                    out.extend_from_slice(record);
                    true
                });
            }
            rest = others;
        }
        Some(())
    }

    /// Whether so much waits to be written that nothing more is taken.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.segments.is_busy()
    }

    /// Bytes of memory that are free once they are written.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.segments.pending_bytes() as u64
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.segments.memory() as u64
    }
}

/// A table's rows with their hashes, by hash.
type Sorted<'a> = (TableId, Vec<(u64, Row<'a>)>);

fn sorted((table, rows): &(TableId, FrozenRows)) -> Sorted<'_> {
    (*table, rows.sorted_values().collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, task::Waker};

    use futures::executor::block_on;
    use proptest::prelude::*;
    use proto::types::{Epoch, Generation, JobId, KeyGroup, KeyGroupCount, KeyGroupSet};
    use state_client::{
        Incarnation, KeyRequest, LoadedRow, MemoryStore, StateControl as _, StateStore,
    };

    use super::*;
    use crate::{key::mix, spill::MemoryScratch};

    const TABLES: [TableId; 2] = [TableId(4), TableId(9)];
    /// Pieces are of a few records, and some are too long.
    const FILE_BYTES: u64 = 2_000;
    const KEY_GROUPS: KeyGroupCount = KeyGroupCount::DEFAULT;

    #[derive(Clone, Debug)]
    enum Step {
        /// So many rows of each hash go from memory, in the first table.
        Put(Vec<u64>, usize),
        Take(u64),
        Forget(u64),
        /// A key group leaves and comes back.
        Move(u64),
        /// So much of its key group goes that its keys are not listed any more.
        Crowd(u64),
        Break(bool),
        Damage,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Of some the same is known.
        let hash = || prop_oneof![0..2_u64, 0..24_u64];
        let hash = || (hash(), 0..3_u64).prop_map(|(hash, n)| hash << 59 | hash << 35 | n << 20);
        let step = prop_oneof![
            4 => (prop::collection::vec(hash(), 1..6), 0..8_usize)
                .prop_map(|(hashes, rows)| Step::Put(hashes, rows)),
            4 => hash().prop_map(Step::Take),
            2 => hash().prop_map(Step::Forget),
            1 => hash().prop_map(Step::Move),
            1 => hash().prop_map(Step::Crowd),
            1 => (0..4_u8).prop_map(|draw| Step::Break(draw == 0)),
            1 => (0..20_u8).prop_map(|draw| if draw == 0 { Step::Damage } else { Step::Break(false) }),
        ];
        prop::collection::vec(step, 1..200)
    }

    struct Harness {
        scratch: Arc<MemoryScratch>,
        spill: Spill,
        elsewhere: Elsewhere,
        store: Arc<MemoryStore>,
        who: Incarnation,
        /// What was put last, if it has not been forgotten.
        known: BTreeMap<u64, Vec<Vec<u8>>>,
        puts: u8,
        found: usize,
    }

    impl Harness {
        fn new(files: usize) -> Harness {
            let scratch = Arc::new(MemoryScratch::new(FILE_BYTES, files));
            let store = Arc::new(MemoryStore::new(KEY_GROUPS));
            let (job, generation) = (JobId(1), Generation(1));
            let who = Incarnation { job, generation };
            block_on(store.begin(who)).expect("a generation");
            let all = KeyGroupSet::all(KEY_GROUPS);
            Harness {
                spill: Spill::new(scratch.clone()),
                elsewhere: Elsewhere::new(KEY_GROUPS, &all, false),
                scratch,
                store,
                who,
                known: BTreeMap::new(),
                puts: 0,
                found: 0,
            }
        }

        fn put(&mut self, hashes: &[u64], rows: usize) {
            let mut evicted = Evicted::kept();
            evicted.rows(TABLES[1]).expect("wanted");
            self.puts = self.puts.wrapping_add(1);
            for hash in hashes {
                self.elsewhere.add(*hash);
                let value = |row| vec![self.puts; row * 20 + 1];
                for row in (0..rows).rev() {
                    let frozen = evicted.rows(TABLES[0]).expect("wanted");
                    let identity = |out: &mut Vec<u8>| out.push(row as u8);
                    let write = |out: &mut Vec<u8>| out.extend(value(row));
                    frozen.push(*hash, identity, Some(write));
                }
                if rows > 0 {
                    self.known.insert(*hash, (0..rows).map(value).collect());
                }
            }
            self.spill.put(&evicted, &mut self.elsewhere);
            self.poll();
        }

        fn poll(&mut self) {
            let mut cx = Context::from_waker(Waker::noop());
            self.spill.poll(&mut cx, &mut self.elsewhere);
        }

        fn take(&mut self, hash: u64) {
            let key = |table| KeyRequest {
                table,
                namespace: 0,
                hash,
                sub: None,
            };
            let request = ReadRequest {
                min_epoch: Epoch::ZERO,
                keys: TABLES.map(key).to_vec(),
            };
            let known = self.known.remove(&hash);
            let read = self.spill.take(request, &mut self.elsewhere);
            self.elsewhere.loaded(hash);
            let Ok(read) = read else { return };
            let store: Arc<dyn StateStore> = self.store.clone();
            let reply = block_on(read.send(store, self.who)).expect("an answer");
            assert_eq!(reply.rows.len(), TABLES.len());
            assert!(reply.rows[1].is_empty());
            // The store has nothing: so says it of what is lost.
            if !reply.rows[0].is_empty() {
                let value = |row: &LoadedRow| row.value.to_vec();
                let values: Vec<Vec<u8>> = reply.rows[0].iter().map(value).collect();
                assert_eq!(Some(values), known, "hash {hash:x}");
                self.found += 1;
            }
            self.poll();
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Put(hashes, rows) => {
                    let mut hashes = hashes;
                    hashes.sort_unstable();
                    hashes.dedup();
                    self.put(&hashes, rows);
                }
                Step::Take(hash) => self.take(hash),
                Step::Crowd(hash) => {
                    let others = (1..300).map(|n| hash ^ mix(n, 7) >> 16);
                    others.for_each(|other| self.elsewhere.add(other));
                }
                Step::Forget(hash) => {
                    self.known.remove(&hash);
                    self.spill.forget([hash].into_iter(), &mut self.elsewhere);
                }
                Step::Move(hash) => {
                    let group = KEY_GROUPS.of_hash(hash);
                    self.known
                        .retain(|hash, _| KEY_GROUPS.of_hash(*hash) != group);
                    self.elsewhere.forget_group(group);
                }
                Step::Break(broken) => self.scratch.set_broken(broken),
                Step::Damage => self.scratch.damage(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_put_last(
            steps in steps(),
            files in 1..5_usize,
            pieces in prop_oneof![1..50_usize, Just(PieceId::COUNT)],
        ) {
            let mut harness = Harness::new(files);
            harness.elsewhere.limit_pieces(pieces);
            for step in steps {
                harness.step(step);
                prop_assert!(harness.scratch.files() <= files);
            }
            drop(harness.spill);
            prop_assert_eq!(harness.scratch.files(), 0);
        }
    }

    #[test]
    fn with_room_all_is_found_and_files_of_which_little_is_left_go() {
        let mut harness = Harness::new(usize::MAX);
        let all: Vec<u64> = (0..800).map(|number| number << 32).collect();
        harness.put(&all, 3);
        // A third stays where it is: about a record of every file.
        let moves = |(at, hash): (usize, &u64)| (at % 3 > 0).then_some(*hash);
        let others: Vec<u64> = all.iter().enumerate().filter_map(moves).collect();
        for _ in 0..3 {
            others.chunks(50).for_each(|part| harness.put(part, 3));
        }
        let bytes = harness.spill.segments.bytes();
        let lost = bytes - harness.elsewhere.wanted_bytes();
        let wanted = 800 * 200;
        assert!(
            lost < wanted + 2 * FILE_BYTES,
            "{lost} bytes of files are of no use"
        );
        for hash in &all {
            harness.take(*hash);
        }
        assert_eq!(harness.found, all.len());
        let slots = harness.spill.segments.slots();
        let live = slots.map(|slot| harness.elsewhere.live_in(slot));
        assert_eq!(live.sum::<u64>(), 0);
    }

    #[test]
    fn when_no_more_pieces_can_be_named_the_oldest_make_room() {
        let mut harness = Harness::new(usize::MAX);
        harness.elsewhere.limit_pieces(1_000);
        // A record is as long as a piece.
        let all: Vec<u64> = (0..5_000).map(|number| mix(number, 1)).collect();
        all.chunks(50).for_each(|part| harness.put(part, 6));
        assert!(harness.elsewhere.wanted_bytes() <= harness.spill.segments.bytes());
        all[..4_000].iter().for_each(|hash| harness.take(*hash));
        assert_eq!(harness.found, 0, "of the oldest nothing is found");
        all[4_200..].iter().for_each(|hash| harness.take(*hash));
        assert_eq!(harness.found, 800, "of the newest all is found");
    }

    #[test]
    fn what_comes_and_goes_before_it_is_written_takes_no_pieces() {
        let mut harness = Harness::new(usize::MAX);
        harness.put(&[1 << 40, 2 << 40, 3 << 40], 2);
        for _ in 0..1_000 {
            harness.put(&[1 << 40, 2 << 40], 2);
        }
        let open = harness.spill.segments.segment(0).expect("a file");
        assert_eq!((open.pieces.len(), harness.scratch.files()), (1, 1));
        [1, 2, 3].iter().for_each(|hash| harness.take(hash << 40));
        assert_eq!(harness.found, 3);
    }

    /// Two are known alike, and the record of one has taken the place of the other's: the one that has come back to
    /// memory is not found again by what is known of the other.
    #[test]
    fn a_key_that_has_come_back_is_not_found_by_what_is_known_of_another() {
        for come_back in [0, 1] {
            let mut harness = Harness::new(usize::MAX);
            let alike = [1 << 20, 2 << 20];
            assert_eq!(
                harness.elsewhere.part(alike[0]),
                harness.elsewhere.part(alike[1])
            );
            harness.put(&alike, 3);
            harness.take(alike[come_back]);
            harness.step(Step::Crowd(1 << 20));
            let found = harness.found;
            harness.take(alike[come_back]);
            assert_eq!(harness.found, found);
        }
    }

    /// The same when all keys of their key group have been listed anew.
    #[test]
    fn a_key_that_has_come_back_is_not_found_by_what_was_listed_of_another() {
        for put in [0, 1] {
            let mut harness = Harness::new(usize::MAX);
            let alike = [1 << 20, 2 << 20];
            alike.iter().for_each(|hash| harness.elsewhere.add(*hash));
            harness.step(Step::Crowd(1 << 20));
            harness.put(&[alike[put]], 3);
            harness.elsewhere.narrow(KeyGroup(0), alike.into_iter());
            harness.take(alike[put]);
            harness.step(Step::Crowd(1 << 20));
            let found = harness.found;
            harness.take(alike[put]);
            assert_eq!(harness.found, found);
        }
    }

    #[test]
    fn key_groups_that_left_are_forgotten() {
        let mut harness = Harness::new(usize::MAX);
        harness.put(&[1 << 60, 9 << 60], 1);
        harness.elsewhere.narrow(KeyGroup(16), std::iter::empty());
        harness.take(1 << 60);
        assert_eq!(harness.found, 0);
        harness.take(9 << 60);
        assert_eq!(harness.found, 1);
    }

    #[test]
    fn what_finds_a_record_takes_little_memory() {
        let scratch = Arc::new(MemoryScratch::new(64 << 20, usize::MAX));
        let all = KeyGroupSet::all(KEY_GROUPS);
        let mut elsewhere = Elsewhere::new(KEY_GROUPS, &all, false);
        let mut spill = Spill::new(scratch);
        let keys = 300_000_u64;
        for start in (0..keys).step_by(10_000) {
            let mut evicted = Evicted::kept();
            for key in start..start + 10_000 {
                let hash = crate::key::mix(key, 1);
                elsewhere.add(hash);
                let rows = evicted.rows(TABLES[0]).expect("wanted");
                let identity = |out: &mut Vec<u8>| out.extend((key as u32).to_be_bytes());
                rows.push(
                    hash,
                    identity,
                    Some(|out: &mut Vec<u8>| out.extend([7; 16])),
                );
            }
            spill.put(&evicted, &mut elsewhere);
            let mut cx = Context::from_waker(Waker::noop());
            spill.poll(&mut cx, &mut elsewhere);
        }
        let bytes = (spill.memory() - spill.segments.tail_bytes() as u64) as f64 / keys as f64;
        println!("{bytes:.2} bytes for each of {keys} keys");
        assert!(bytes < 0.5, "{bytes:.2} bytes for each key");
    }
}
