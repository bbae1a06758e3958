//! The rows of a batch partition by partition, each in the order in which they came.

use arrow::array::UInt32Array;
use engine::state::NO_SLOT;

/// Rows by partition.
#[derive(Debug, Default)]
pub(super) struct Grouped {
    /// Rows, one partition after the other.
    rows: Vec<u32>,
    /// Key slot of each partition, and where its rows end.
    partitions: Vec<(u32, u32)>,
    /// Per key slot, its number among the partitions; [`NO_SLOT`] between two batches.
    numbers: Vec<u32>,
}

impl Grouped {
    /// Groups rows, row `i` of partition `slots[i]`, of so many slots.
    pub(super) fn group(&mut self, slots: &[u32], slot_count: usize) {
        self.numbers
            .resize(slot_count.max(self.numbers.len()), NO_SLOT);
        self.partitions.clear();
        for slot in slots {
            let number = &mut self.numbers[*slot as usize];
            if *number == NO_SLOT {
                *number = self.partitions.len() as u32;
                self.partitions.push((*slot, 0));
            }
            self.partitions[*number as usize].1 += 1;
        }
        // Counts become ends, and while rows are put in place, the places where the next one goes.
        let mut next = Vec::with_capacity(self.partitions.len());
        let mut end = 0;
        for (_, count) in &mut self.partitions {
            next.push(end);
            end += *count;
            *count = end;
        }
        self.rows.clear();
        self.rows.resize(slots.len(), 0);
        for (row, slot) in (0..).zip(slots) {
            let next = &mut next[self.numbers[*slot as usize] as usize];
            self.rows[*next as usize] = row;
            *next += 1;
        }
        for (slot, _) in &self.partitions {
            self.numbers[*slot as usize] = NO_SLOT;
        }
    }

    /// Partitions and their rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let mut start = 0;
        self.partitions.iter().map(move |(slot, end)| {
            let rows = &self.rows[start..*end as usize];
            start = *end as usize;
            (*slot, rows)
        })
    }

    /// By row of the batch, its place among those that are grouped; `None`: they are where they were.
    pub(super) fn places(&self) -> Option<UInt32Array> {
        if self.partitions.len() <= 1 {
            return None;
        }
        let mut places = vec![0; self.rows.len()];
        for (place, row) in (0..).zip(&self.rows) {
            places[*row as usize] = place;
        }
        Some(UInt32Array::from(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_where_they_are_put() {
        let mut grouped = Grouped::default();
        for slots in [&[4, 1, 4, 4, 0, 1][..], &[], &[2], &[3, 3]] {
            grouped.group(slots, 5);
            let all: Vec<(u32, Vec<u32>)> = grouped
                .iter()
                .map(|(slot, rows)| (slot, rows.to_vec()))
                .collect();
            let mut seen = Vec::new();
            for (slot, rows) in &all {
                assert!(rows.is_sorted());
                assert!(rows.iter().all(|row| slots[*row as usize] == *slot));
                seen.extend(rows.iter().copied());
            }
            assert_eq!(seen.len(), slots.len());
            let places = grouped.places();
            for row in 0..slots.len() {
                let place = places
                    .as_ref()
                    .map_or(row, |places| places.value(row) as usize);
                assert_eq!(seen[place], row as u32);
            }
        }
    }
}
