//! Rows of bytes by slot: what joins and rankings keep. The bytes are the row codec's, so they
//! are what is compared, saved and read back; nothing is encoded twice.

/// Slots of rows, with the memory of freed ones reclaimed.
#[derive(Debug, Default)]
pub struct RowArena {
    data: Vec<u8>,
    spans: Vec<(usize, u32)>,
    free: Vec<u32>,
    garbage: usize,
}

/// Garbage below this is not worth collecting.
const GARBAGE_BYTES_MIN: usize = 64 * 1024;

impl RowArena {
    /// Keeps a row; its slot.
    pub fn insert(&mut self, row: &[u8]) -> u32 {
        let span = (self.data.len(), row.len() as u32);
        self.data.extend_from_slice(row);
        match self.free.pop() {
            Some(slot) => {
                self.spans[slot as usize] = span;
                slot
            }
            None => {
                self.spans.push(span);
                (self.spans.len() - 1) as u32
            }
        }
    }

    /// Replaces the row of a slot.
    pub fn replace(&mut self, slot: u32, row: &[u8]) {
        let old = self.spans[slot as usize];
        if old.1 as usize == row.len() {
            self.data[old.0..old.0 + row.len()].copy_from_slice(row);
            return;
        }
        self.garbage += old.1 as usize;
        self.spans[slot as usize] = (self.data.len(), row.len() as u32);
        self.data.extend_from_slice(row);
        self.compact();
    }

    /// Frees a slot.
    pub fn remove(&mut self, slot: u32) {
        self.garbage += self.spans[slot as usize].1 as usize;
        self.spans[slot as usize].1 = 0;
        self.free.push(slot);
        self.compact();
    }

    /// The row of a slot.
    #[inline]
    #[must_use]
    pub fn row(&self, slot: u32) -> &[u8] {
        let (start, length) = self.spans[slot as usize];
        &self.data[start..start + length as usize]
    }

    /// Slots ever made.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.spans.len()
    }

    /// Slots of live rows, in order.
    #[must_use]
    pub fn live(&self) -> Vec<u32> {
        let mut is_free = vec![false; self.spans.len()];
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
        self.spans.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.data.capacity() + self.spans.capacity() * 16 + self.free.capacity() * 4
    }

    fn compact(&mut self) {
        if self.garbage < GARBAGE_BYTES_MIN || self.garbage * 2 < self.data.len() {
            return;
        }
        let mut kept = Vec::with_capacity(self.data.len() - self.garbage);
        for (start, length) in &mut self.spans {
            let row = &self.data[*start..*start + *length as usize];
            *start = kept.len();
            kept.extend_from_slice(row);
        }
        self.data = kept;
        self.garbage = 0;
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
        assert!(arena.data.len() < 2 * 2500 * 50);
        let reused = arena.insert(b"x");
        assert!((reused as usize) < 5000);
    }
}
