//! Rows of bytes by slot: what joins and rankings keep. The bytes are the row codec's, so they
//! are what is compared, saved and read back; nothing is encoded twice.

use super::byte_heap::{ByteHeap, Place};

/// Slots of rows, with the memory of freed ones reclaimed.
#[derive(Debug, Default)]
pub struct RowArena {
    heap: ByteHeap,
    places: Vec<Place>,
    free: Vec<u32>,
}

impl RowArena {
    /// Keeps a row; its slot.
    #[inline]
    pub fn insert(&mut self, row: &[u8]) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.places[slot as usize] = self.heap.insert(slot, row);
                slot
            }
            None => {
                let slot = self.places.len() as u32;
                self.places.push(self.heap.insert(slot, row));
                slot
            }
        }
    }

    /// Replaces the row of a slot.
    pub fn replace(&mut self, slot: u32, row: &[u8]) {
        let old = self.places[slot as usize];
        if self.heap.get(old).len() == row.len() {
            self.heap.get_mut(old).copy_from_slice(row);
            return;
        }
        self.places[slot as usize] = self.heap.insert(slot, row);
        self.free_bytes(old);
    }

    /// Frees a slot.
    pub fn remove(&mut self, slot: u32) {
        self.free.push(slot);
        self.free_bytes(self.places[slot as usize]);
    }

    /// The row of a slot.
    #[inline]
    #[must_use]
    pub fn row(&self, slot: u32) -> &[u8] {
        self.heap.get(self.places[slot as usize])
    }

    /// Slots ever made.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.places.len()
    }

    /// Slots of live rows, in order.
    #[must_use]
    pub fn live(&self) -> Vec<u32> {
        let mut is_free = vec![false; self.places.len()];
        self.free
            .iter()
            .for_each(|slot| is_free[*slot as usize] = true);
        let slots = (0..).zip(is_free);
        slots
            .filter(|(_, free)| !free)
            .map(|(slot, _)| slot)
            .collect()
    }

    /// Live rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.heap.memory().0 + self.places.len() * size_of::<Place>() + self.free.len() * 4
    }

    /// Bytes of it that new rows can take.
    #[must_use]
    pub fn free_memory(&self) -> usize {
        let per_slot = size_of::<Place>() + size_of::<u32>();
        self.heap.memory().1 + self.free.len() * per_slot
    }

    fn free_bytes(&mut self, place: Place) {
        let places = &mut self.places;
        self.heap
            .remove(place, |slot, place| places[slot as usize] = place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_collection() {
        let mut arena = RowArena::default();
        let row = |i: usize| vec![(i % 251) as u8; i % 97 + 1];
        let slots: Vec<u32> = (0..5000).map(|i| arena.insert(&row(i))).collect();
        for i in (0..5000).step_by(2) {
            arena.remove(slots[i]);
        }
        for i in (1..5000).step_by(4) {
            arena.replace(slots[i], &row(i + 1));
        }
        assert_eq!(arena.len(), 2500);
        for i in (1..5000).step_by(2) {
            let expected = if i % 4 == 1 { row(i + 1) } else { row(i) };
            assert_eq!(arena.row(slots[i]), expected, "{i}");
        }
        assert!(arena.memory() < 3 * 2500 * 50);
        let reused = arena.insert(b"x");
        assert!((reused as usize) < 5000);
    }
}
