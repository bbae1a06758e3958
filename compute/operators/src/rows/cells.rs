//! One row of bytes per key: the values of a `MapTable`.

use engine::state::{NO_SLOT, RowArena, Values};

/// Row bytes by key slot; a key may have none yet.
#[derive(Debug, Default)]
pub(crate) struct RowCells {
    /// Per key slot: slot in the arena, or [`NO_SLOT`].
    cells: Vec<u32>,
    arena: RowArena,
}

impl RowCells {
    /// The row of a key.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&[u8]> {
        match self.cells[slot as usize] {
            NO_SLOT => None,
            cell => Some(self.arena.row(cell)),
        }
    }

    /// Sets the row of a key.
    #[inline]
    pub(crate) fn set(&mut self, slot: u32, row: &[u8]) {
        match self.cells[slot as usize] {
            NO_SLOT => self.cells[slot as usize] = self.arena.insert(row),
            cell => self.arena.replace(cell, row),
        }
    }

    /// Takes the row of a key away.
    pub(crate) fn clear(&mut self, slot: u32) {
        let cell = std::mem::replace(&mut self.cells[slot as usize], NO_SLOT);
        if cell != NO_SLOT {
            self.arena.remove(cell);
        }
    }
}

impl RowCells {
    /// Bytes of memory of the rows themselves, and how many of them are free for others.
    pub(crate) fn heap_memory(&self) -> (usize, usize) {
        (self.arena.memory(), self.arena.free_memory())
    }
}

impl Values for RowCells {
    fn reserve(&mut self, slots: usize) {
        if self.cells.len() < slots {
            self.cells.resize(slots, NO_SLOT);
        }
    }

    fn reset(&mut self, slot: u32) {
        self.clear(slot);
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.get(slot).unwrap_or_default());
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<(), String> {
        self.set(slot, bytes);
        Ok(())
    }

    fn relocate(&mut self, from: u32, to: u32) {
        self.cells[to as usize] = std::mem::replace(&mut self.cells[from as usize], NO_SLOT);
    }

    fn truncate(&mut self, slots: usize) {
        self.cells.truncate(slots);
        self.cells.shrink_to_fit();
    }

    fn memory(&self) -> usize {
        self.cells.len() * 4 + self.arena.memory()
    }

    fn free_memory(&self, free_slots: usize) -> usize {
        free_slots * 4 + self.arena.free_memory()
    }
}
