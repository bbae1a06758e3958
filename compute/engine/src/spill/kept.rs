//! What an operator has in scratch files.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use proto::types::{KeyGroupCount, KeyGroupSet, TableId};
use state_client::ReadRequest;

use super::{
    evicted::Evicted,
    index::{Place, SpillIndex},
    read::SpilledRead,
    record::{self, BYTES_MAX, Row, UNIT},
    scratch::{FileId, Piece, Scratch, ScratchError},
    segments::Segments,
};
use crate::state::FrozenRows;

/// Bytes of a file that are looked through at once for what is still wanted.
const CLEANED_BYTES: u64 = 2 * BYTES_MAX as u64;

/// Rows that went from memory and have not changed since.
pub struct Spill {
    index: SpillIndex,
    segments: Segments,
    cleaning: Option<Cleaning>,
}

/// A file is read to append what is still wanted of it anew.
struct Cleaning {
    slot: u16,
    file: FileId,
    /// Units that have been looked at.
    at: u32,
    reading: Option<BoxFuture<'static, Result<Vec<Bytes>, ScratchError>>>,
}

impl Spill {
    /// Nothing yet.
    #[must_use]
    pub fn new(scratch: Arc<dyn Scratch>) -> Spill {
        Spill {
            index: SpillIndex::default(),
            segments: Segments::new(scratch),
            cleaning: None,
        }
    }

    /// Keeps rows that go from memory, as far as there is room in files. For as long as [`Spill::is_busy`]
    /// nothing should go from memory that is of use.
    pub fn put(&mut self, evicted: &Evicted) {
        let tables: Vec<Sorted<'_>> = evicted.tables.iter().map(sorted).collect();
        let mut at = vec![0; tables.len()];
        let mut record: Vec<(TableId, &[(u64, Row<'_>)])> = Vec::with_capacity(tables.len());
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
            if self.make_room().is_none() {
                return;
            }
            let place = self
                .segments
                .append(|out| record::write(hash, &record, out));
            match place {
                Some(place) => self.note(hash, place),
                // It is too long, and what was there of its half is not its own.
                None => self.forget_hash(hash),
            }
        }
    }

    fn make_room(&mut self) -> Option<()> {
        if self.segments.make_room().is_some() {
            return Some(());
        }
        let oldest = self.segments.oldest()?;
        self.drop_segment(oldest);
        self.segments.make_room()
    }

    fn note(&mut self, hash: u64, place: Place) {
        if let Some(before) = self.index.insert(hash, place) {
            self.segments.release(before);
        }
    }

    /// What of a read is here, and from now on is not; the request, if nothing is.
    ///
    /// # Errors
    /// The request, if nothing of it is here.
    pub fn take(&mut self, request: ReadRequest) -> Result<SpilledRead, ReadRequest> {
        if self.index.is_empty() {
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
                && let Some(place) = self.index.remove(key.hash)
            {
                let source = self.segments.source(place);
                self.segments.release(place);
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
    pub fn forget(&mut self, hashes: impl Iterator<Item = u64>) {
        if !self.index.is_empty() {
            hashes.for_each(|hash| self.forget_hash(hash));
        }
    }

    fn forget_hash(&mut self, hash: u64) {
        if let Some(place) = self.index.remove(hash) {
            self.segments.release(place);
        }
    }

    /// Other tasks own these key groups from now on.
    pub fn forget_groups(&mut self, key_groups: KeyGroupCount, left: &KeyGroupSet) {
        if left.is_empty() {
            return;
        }
        let Spill {
            index, segments, ..
        } = self;
        index.forget_groups(key_groups, left, |place| segments.release(place));
    }

    /// Memory is shorter than what the files' places take of it: the oldest file is given up.
    pub fn drop_oldest(&mut self) {
        match self.segments.oldest() {
            Some(oldest) => self.drop_segment(oldest),
            None => {
                let all: Vec<u16> = self.segments.slots().collect();
                all.into_iter().for_each(|slot| self.drop_segment(slot));
            }
        }
    }

    fn drop_segment(&mut self, slot: u16) {
        match self.segments.slots().count() {
            1 => self.index.clear(),
            _ => self.index.forget_segment(slot),
        }
        self.segments.remove(slot);
    }

    /// Goes on writing, and makes files smaller of which little is left.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        while let Err(slot) = self.segments.poll_write(cx) {
            self.drop_segment(slot);
        }
        if self.segments.take_stale() {
            self.remove_dead();
            self.cleaning = self.cleaning.take().or_else(|| self.find_unclean());
        }
        self.clean(cx);
    }

    fn remove_dead(&mut self) {
        let is_dead = |slot: &u16| {
            let live = self
                .segments
                .segment(*slot)
                .map_or(0, |segment| segment.live);
            live == 0 && self.segments.is_sealed(*slot)
        };
        let dead: Vec<u16> = self.segments.slots().filter(is_dead).collect();
        dead.into_iter().for_each(|slot| self.segments.remove(slot));
    }

    fn clean(&mut self, cx: &mut Context<'_>) {
        while let Some(mut cleaning) = self.cleaning.take() {
            let segment = self.segments.segment(cleaning.slot);
            let Some(segment) = segment.filter(|segment| segment.file == cleaning.file) else {
                // It is gone.
                return;
            };
            if cleaning.at >= segment.units {
                return;
            }
            let at = u64::from(cleaning.at) * UNIT as u64;
            let left = u64::from(segment.units) * UNIT as u64 - at;
            let scratch = self.segments.scratch();
            let reading = cleaning.reading.get_or_insert_with(|| {
                scratch.read(vec![Piece {
                    file: cleaning.file,
                    at,
                    len: left.min(CLEANED_BYTES) as u32,
                }])
            });
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
            match bytes.and_then(|bytes| self.append_wanted(cleaning.slot, cleaning.at, &bytes)) {
                Some(units) => cleaning.at += units,
                None => return self.drop_segment(cleaning.slot),
            }
            self.cleaning = Some(cleaning);
        }
    }

    /// The file with the least left, if more is lost in files than is in them.
    fn find_unclean(&self) -> Option<Cleaning> {
        let (units, live) = self.segments.units();
        let lost = (units - live) * UNIT as u64;
        if lost < self.segments.scratch().file_bytes() || units - live < live {
            return None;
        }
        let sealed = (self.segments.slots()).filter(|slot| self.segments.is_sealed(*slot));
        let live = |slot: u16| Some((self.segments.segment(slot)?.live, slot));
        let (_, slot) = sealed.filter_map(live).min()?;
        Some(Cleaning {
            slot,
            file: self.segments.segment(slot)?.file,
            at: 0,
            reading: None,
        })
    }

    /// Appends those of some records that are still wanted; how many units were looked at. `None`: there is
    /// no room, or they are damaged.
    fn append_wanted(&mut self, segment: u16, at: u32, bytes: &Bytes) -> Option<u32> {
        let mut done = 0;
        while let Some((hash, length)) = record::peek(&bytes[done..]) {
            let place = Place {
                segment,
                units: (length / UNIT) as u16,
                at: at + (done / UNIT) as u32,
            };
            if self.index.is_at(hash, place) {
                // Not by giving up the oldest: it may be the one that is read.
                self.segments.make_room()?;
                let record = &bytes[done..done + length];
                let copied = self.segments.append(|out| {
                    out.extend_from_slice(record);
                    Some(place.units)
                })?;
                self.note(hash, copied);
            }
            done += length;
        }
        (done > 0).then_some((done / UNIT) as u32)
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
        (self.index.memory() + self.segments.memory()) as u64
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
    use proto::types::{Epoch, Generation, JobId};
    use state_client::{
        Incarnation, KeyRequest, LoadedRow, MemoryStore, StateControl as _, StateStore,
    };

    use super::*;
    use crate::spill::MemoryScratch;

    const TABLES: [TableId; 2] = [TableId(4), TableId(9)];
    const FILE_BYTES: u64 = BYTES_MAX as u64 + 400;

    #[derive(Clone, Debug)]
    enum Step {
        /// So many rows of each hash go from memory, in the first table.
        Put(Vec<u64>, usize),
        Take(u64),
        Forget(u64),
        Break(bool),
        Damage,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let hash = || (0..24_u64).prop_map(|hash| hash << 59 | hash << 35);
        let step = prop_oneof![
            4 => (prop::collection::vec(hash(), 1..6), 0..4_usize)
                .prop_map(|(hashes, rows)| Step::Put(hashes, rows)),
            4 => hash().prop_map(Step::Take),
            2 => hash().prop_map(Step::Forget),
            1 => (0..4_u8).prop_map(|draw| Step::Break(draw == 0)),
            1 => (0..20_u8).prop_map(|draw| if draw == 0 { Step::Damage } else { Step::Break(false) }),
        ];
        prop::collection::vec(step, 1..200)
    }

    struct Harness {
        scratch: Arc<MemoryScratch>,
        spill: Spill,
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
            let store = Arc::new(MemoryStore::new(KeyGroupCount::DEFAULT));
            let (job, generation) = (JobId(1), Generation(1));
            let who = Incarnation { job, generation };
            block_on(store.begin(who)).expect("a generation");
            Harness {
                spill: Spill::new(scratch.clone()),
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
            self.spill.put(&evicted);
            self.poll();
        }

        fn poll(&mut self) {
            self.spill.poll(&mut Context::from_waker(Waker::noop()));
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
            let Ok(read) = self.spill.take(request) else {
                return;
            };
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
                Step::Forget(hash) => {
                    self.known.remove(&hash);
                    self.spill.forget([hash].into_iter());
                }
                Step::Break(broken) => self.scratch.set_broken(broken),
                Step::Damage => self.scratch.damage(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_put_last(steps in steps(), files in 1..5_usize) {
            let mut harness = Harness::new(files);
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
        let (units, live) = harness.spill.segments.units();
        let lost = (units - live) * UNIT as u64;
        assert!(lost < 2 * FILE_BYTES, "{lost} bytes of files are of no use");
        for hash in &all {
            harness.take(*hash);
        }
        assert_eq!(harness.found, all.len());
        assert!(harness.spill.index.is_empty());
    }

    #[test]
    fn key_groups_that_left_are_forgotten() {
        let mut harness = Harness::new(usize::MAX);
        harness.put(&[1 << 60, 9 << 60], 1);
        let left = |group: u16| [proto::types::KeyGroup(group)].into_iter().collect();
        harness
            .spill
            .forget_groups(KeyGroupCount::DEFAULT, &left(16));
        assert_eq!(harness.spill.index.len(), 1);
        harness.take(1 << 60);
        assert_eq!(harness.found, 0);
        harness.take(9 << 60);
        assert_eq!(harness.found, 1);
    }
}
