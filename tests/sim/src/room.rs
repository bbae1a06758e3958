//! Workers with little memory: how much there is, and what shows that state has gone from there and come
//! back.

use std::{collections::BTreeMap, sync::Arc};

use engine::memory::MemoryPool;
use proto::control::OperatorMetrics;
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use crate::{plan::Shape, scratch::SlowScratch};

/// About what a row takes in memory, over all operators of the jobs: on both sides of a join, and where they
/// remember which rows have gone.
const ROW_BYTES: i64 = 230;
/// About what a key takes that rows are counted by.
const KEY_BYTES: i64 = 180;
/// About what the operators of a task of each job take without any rows.
const TASK_BYTES: i64 = 30 << 10;
/// Bytes of a scratch file: few, so that files are given up.
const FILE_BYTES: u64 = 4 << 10;

/// What a worker has for the state of its tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Memory, in bytes.
    pub bytes: u64,
    /// Scratch files at a time.
    pub files: usize,
}

impl Room {
    /// Room for a part of the state that jobs over so many keys have in the end; in some clusters less than
    /// operators take that have no rows, so that there is never any.
    pub fn draw(random: &mut SmallRng, shape: &Shape, keys: i64) -> Room {
        let workers = shape.workers.cast_signed();
        let state = (shape.rows * ROW_BYTES + keys * KEY_BYTES) / workers;
        let tasks = u64::from(shape.parallelism).div_ceil(shape.workers);
        let without_rows = match random.random_ratio(1, 4) {
            true => 0,
            false => tasks.cast_signed() * TASK_BYTES,
        };
        let bytes = without_rows + state / random.random_range(3..=8);
        Room {
            bytes: bytes.cast_unsigned(),
            // None, too few, enough.
            files: *[0, 3, 12, 400, 400].choose(random).expect("some"),
        }
    }

    /// The memory of a process that begins.
    #[must_use]
    pub fn pool(self, random: &mut SmallRng) -> Arc<MemoryPool> {
        if self.files == 0 {
            return MemoryPool::new(self.bytes);
        }
        let random = SmallRng::seed_from_u64(random.next_u64());
        let scratch = SlowScratch::new(FILE_BYTES, self.files, random);
        MemoryPool::with_scratch(self.bytes, Arc::new(scratch))
    }

    /// What is wrong with what was counted over all operators.
    ///
    /// # Errors
    /// When no state has gone from memory and come back.
    pub fn check(self, counted: Counted) -> Result<(), String> {
        // Without files it cannot be told what rows wait for.
        let come_back = match self.files {
            0 => counted.waited,
            _ => counted.looked_for,
        };
        match counted.evicted > 0 && come_back > 0 {
            true => Ok(()),
            false => Err(format!("memory was not short of {self:?}: {counted:?}")),
        }
    }
}

/// What operators count of state that is not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Keys that went from memory.
    pub evicted: u64,
    /// Keys that were looked for in scratch files.
    pub looked_for: u64,
    /// Rows that waited for a read of any kind.
    pub waited: u64,
}

/// Adds up what operators count, each of which begins anew with its task.
#[derive(Debug)]
pub(crate) struct Counts<P> {
    last: BTreeMap<P, Counted>,
    all: Counted,
}

impl<P> Default for Counts<P> {
    fn default() -> Self {
        Counts {
            last: BTreeMap::new(),
            all: Counted::default(),
        }
    }
}

impl<P: Ord> Counts<P> {
    /// What an operator at a place has counted by now.
    pub(crate) fn see(&mut self, place: P, figures: &OperatorMetrics) {
        let now = Counted {
            evicted: figures.evicted_keys,
            looked_for: figures.scratch_reads,
            waited: figures.state_misses,
        };
        let before = self.last.insert(place, now).unwrap_or_default();
        // What is less is another task's.
        let new = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        self.all.evicted += new(now.evicted, before.evicted);
        self.all.looked_for += new(now.looked_for, before.looked_for);
        self.all.waited += new(now.waited, before.waited);
    }

    /// The sum.
    pub(crate) fn all(&self) -> Counted {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tasks_count_one_after_the_other_is_added_up() {
        let mut counts = Counts::default();
        for (place, evicted) in [(1, 5), (1, 7), (2, 1), (1, 3), (1, 3), (2, 4)] {
            let figures = OperatorMetrics {
                evicted_keys: evicted,
                scratch_reads: 2 * evicted,
                ..OperatorMetrics::default()
            };
            counts.see(place, &figures);
        }
        let all = Counted {
            evicted: 14,
            looked_for: 28,
            waited: 0,
        };
        assert_eq!(counts.all(), all);
        let room = |files| Room { bytes: 1, files };
        assert!(room(3).check(all).is_ok() && room(0).check(all).is_err());
    }
}
