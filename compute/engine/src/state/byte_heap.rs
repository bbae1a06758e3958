//! Byte strings of many lengths in segments, each with its owner, so that memory is given back a
//! segment at a time: a log-structured store in memory (Rumble et al., FAST 2014) for one thread.

use std::mem::size_of;

/// Bytes of a segment; the first ones are smaller, since most tables are.
const SEGMENT_BYTES: usize = 1 << 20;
const SEGMENT_BYTES_MIN: usize = 4 << 10;
/// Of its bytes, at most one in so many is garbage for long.
const GARBAGE_PART: usize = 5;
/// Before each string: its owner and its length.
const HEADER: usize = 2 * size_of::<u32>();
/// The owner of a string that is freed.
const NOBODY: u32 = u32::MAX;

/// Where a string lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    segment: u32,
    /// Of the string, behind its header.
    start: u32,
}

/// Strings and their owners, which are numbers below `u32::MAX`.
#[derive(Debug, Default)]
pub(super) struct ByteHeap {
    segments: Vec<Segment>,
    /// Segments without memory.
    empty: Vec<u32>,
    /// The segment that is being filled, if there is one.
    open: Option<u32>,
    bytes: usize,
    garbage: usize,
}

#[derive(Debug, Default)]
struct Segment {
    data: Vec<u8>,
    garbage: usize,
}

impl ByteHeap {
    /// Keeps a string.
    #[inline]
    pub(super) fn insert(&mut self, owner: u32, string: &[u8]) -> Place {
        let bytes = HEADER + string.len();
        let segment = match self.open {
            Some(open) if self.segments[open as usize].has_room(bytes) => open,
            _ => self.open_segment(bytes),
        };
        let data = &mut self.segments[segment as usize].data;
        data.extend_from_slice(&owner.to_le_bytes());
        data.extend_from_slice(&(string.len() as u32).to_le_bytes());
        let start = data.len() as u32;
        data.extend_from_slice(string);
        Place { segment, start }
    }

    /// The string at a place.
    #[inline]
    pub(super) fn get(&self, place: Place) -> &[u8] {
        let data = &self.segments[place.segment as usize].data;
        let start = place.start as usize;
        let length = &data[start - size_of::<u32>()..start];
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        &data[start..start + length as usize]
    }

    /// The same to change it in place.
    pub(super) fn get_mut(&mut self, place: Place) -> &mut [u8] {
        let length = self.get(place).len();
        let start = place.start as usize;
        &mut self.segments[place.segment as usize].data[start..start + length]
    }

    /// A string has another owner from now on.
    pub(super) fn set_owner(&mut self, place: Place, owner: u32) {
        let data = &mut self.segments[place.segment as usize].data;
        let at = place.start as usize - HEADER;
        data[at..at + size_of::<u32>()].copy_from_slice(&owner.to_le_bytes());
    }

    /// Frees a string. `moved` is told of others that lie elsewhere afterwards.
    pub(super) fn remove(&mut self, place: Place, moved: impl FnMut(u32, Place)) {
        let bytes = HEADER + self.get(place).len();
        let segment = &mut self.segments[place.segment as usize];
        let owner = place.start as usize - HEADER;
        segment.data[owner..owner + size_of::<u32>()].copy_from_slice(&NOBODY.to_le_bytes());
        segment.garbage += bytes;
        self.garbage += bytes;
        if segment.garbage == segment.data.len() {
            self.free_segment(place.segment);
        } else if self.garbage > SEGMENT_BYTES_MIN.max(self.bytes / GARBAGE_PART) {
            self.collect(moved);
        }
    }

    /// Bytes of memory, and how many of them are free for new strings.
    pub(super) fn memory(&self) -> (usize, usize) {
        let segments = self.segments.capacity() * size_of::<Segment>();
        let open = self.open.map(|open| &self.segments[open as usize].data);
        let room = open.map_or(0, |data| data.capacity() - data.len());
        (self.bytes + segments, self.garbage + room)
    }

    fn open_segment(&mut self, bytes: usize) -> u32 {
        let usual = (self.bytes / 4).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
        let data = Vec::with_capacity(usual.max(bytes));
        self.bytes += data.capacity();
        let segment = Segment { data, garbage: 0 };
        let number = match self.empty.pop() {
            Some(number) => {
                self.segments[number as usize] = segment;
                number
            }
            None => {
                self.segments.push(segment);
                (self.segments.len() - 1) as u32
            }
        };
        // One of its own for a long string; the one that was open may have room for others.
        if bytes < usual || self.open.is_none() {
            self.open = Some(number);
        }
        number
    }

    fn free_segment(&mut self, number: u32) {
        let segment = std::mem::take(&mut self.segments[number as usize]);
        self.bytes -= segment.data.capacity();
        self.garbage -= segment.garbage;
        self.empty.push(number);
        if self.open == Some(number) {
            self.open = None;
        }
    }

    /// Moves what lives in the segment that has least of it.
    fn collect(&mut self, mut moved: impl FnMut(u32, Place)) {
        let full = (0..self.segments.len() as u32).filter(|number| Some(*number) != self.open);
        let Some(number) = full.max_by_key(|number| self.segments[*number as usize].garbage) else {
            return;
        };
        if self.segments[number as usize].garbage == 0 {
            return;
        }
        let data = std::mem::take(&mut self.segments[number as usize].data);
        let word = |at: usize| {
            let bytes = &data[at..at + size_of::<u32>()];
            u32::from_le_bytes(bytes.try_into().expect("four bytes"))
        };
        let mut at = 0;
        while at < data.len() {
            let (owner, length) = (word(at), word(at + size_of::<u32>()) as usize);
            let start = at + HEADER;
            if owner != NOBODY {
                moved(owner, self.insert(owner, &data[start..start + length]));
            }
            at = start + length;
        }
        self.segments[number as usize].data = data;
        self.free_segment(number);
    }
}

impl Segment {
    #[inline]
    fn has_room(&self, bytes: usize) -> bool {
        self.data.capacity() - self.data.len() >= bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_stay_whatever_goes_and_garbage_is_bounded(
            steps in prop::collection::vec((0..200_u32, prop_oneof![
                5 => 0..300_usize,
                1 => 300..20_000_usize,
            ], any::<bool>()), 1..600),
        ) {
            let mut heap = ByteHeap::default();
            let mut places: BTreeMap<u32, Place> = BTreeMap::new();
            let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            for (owner, length, keeps) in steps {
                if let Some(place) = places.remove(&owner) {
                    model.remove(&owner);
                    heap.remove(place, |owner, place| {
                        places.insert(owner, place);
                    });
                }
                if keeps {
                    let string = vec![(owner % 251) as u8; length];
                    places.insert(owner, heap.insert(owner, &string));
                    model.insert(owner, string);
                }
                for (owner, string) in &model {
                    prop_assert_eq!(heap.get(places[owner]), &string[..]);
                }
                let (bytes, free) = heap.memory();
                let live: usize = model.values().map(|string| string.len() + HEADER).sum();
                prop_assert!(free + live <= bytes);
                // What is garbage for long, and the ends of segments that a next string did not fit.
                prop_assert!(bytes <= 4 * live + 3 * SEGMENT_BYTES_MIN + 64 * 1024, "{} {}", bytes, live);
            }
        }
    }
}
