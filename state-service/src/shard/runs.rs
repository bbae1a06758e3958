//! Runs of one (table, key group, namespace), oldest first. Shared by the tail, by readers and by a
//! flush: whoever needs them merged first merges them for all, and what they were merged of goes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use state_client::page::{Run, merge};

/// At least one run.
#[derive(Debug)]
pub(super) struct Runs {
    runs: Mutex<Vec<Run>>,
    /// Held by who merges them: others wait and find them merged.
    merging: Mutex<()>,
    /// Bytes of the runs as they came.
    bytes: usize,
}

impl Runs {
    pub(super) fn new(run: Run) -> Self {
        let bytes = run.encoded_len();
        Runs::of(vec![run], bytes)
    }

    fn of(runs: Vec<Run>, bytes: usize) -> Self {
        Runs {
            runs: Mutex::new(runs),
            merging: Mutex::default(),
            bytes,
        }
    }

    /// These and a newer one. What was merged stays merged.
    pub(super) fn with(&self, run: Run) -> Runs {
        let bytes = self.bytes + run.encoded_len();
        let mut runs = self.all();
        runs.push(run);
        Runs::of(runs, bytes)
    }

    /// Adds a newer one, when nobody else holds these.
    pub(super) fn push(&mut self, run: Run) {
        self.bytes += run.encoded_len();
        let runs = self.runs.get_mut();
        runs.unwrap_or_else(PoisonError::into_inner).push(run);
    }

    /// Bytes of the runs as they came.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One run of all; delete marks stay, for older rows may lie below. From then on these take the
    /// memory of that alone.
    pub(super) fn merged(&self) -> Run {
        let one_at_a_time = lock(&self.merging);
        let runs = self.all();
        let merged = match &runs[..] {
            [run] => return run.clone(),
            runs => Run::open(merge(runs, false)).expect("merge writes runs"),
        };
        *lock(&self.runs) = vec![merged.clone()];
        drop(one_at_a_time);
        merged
    }

    /// The runs, at most `most` of them: more are merged.
    pub(super) fn at_most(&self, most: usize) -> Vec<Run> {
        let runs = self.all();
        match runs.len() <= most {
            true => runs,
            false => vec![self.merged()],
        }
    }

    fn all(&self) -> Vec<Run> {
        lock(&self.runs).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held but for want of memory.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use state_client::page::{RowRef, RunBuilder};

    use super::*;

    fn run(epoch: u64) -> Run {
        let mut rows = RunBuilder::default();
        for hash in 0..100 {
            rows.push(RowRef {
                hash,
                identity: b"key",
                epoch,
                value: Some(&[epoch as u8; 100]),
            });
        }
        Run::open(rows.finish()).expect("a run")
    }

    #[test]
    fn what_was_merged_is_kept_once() {
        let mut runs = Runs::new(run(1));
        (2..5).for_each(|epoch| runs.push(run(epoch)));
        assert_eq!(
            (runs.at_most(4).len(), runs.bytes()),
            (4, 4 * run(1).encoded_len())
        );
        let merged = runs.merged();
        assert_eq!((merged.len(), merged.epoch(7)), (100, 4));
        let held: usize = runs.all().iter().map(Run::encoded_len).sum();
        assert_eq!(held, merged.encoded_len());
        // What came is counted as it came, and goes on being so.
        let more = runs.with(run(5));
        assert_eq!(
            (more.all().len(), more.bytes()),
            (2, 5 * run(1).encoded_len())
        );
        assert_eq!(more.at_most(1)[0].epoch(7), 5);
        assert_eq!(runs.merged().epoch(7), 4);
    }
}
