//! How long checkpoints took: the last ones, and their percentiles.

use std::collections::VecDeque;

use proto::types::{Epoch, Generation};

use crate::{caps::CHECKPOINT_HISTORY_LEN, checkpoint::EpochInFlight};

/// A committed checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointRecord {
    /// Generation that made it.
    pub generation: Generation,
    /// Its epoch.
    pub epoch: Epoch,
    /// When its barrier was sent.
    pub begun_us: u64,
    /// Barrier to last section.
    pub stage_us: u64,
    /// Barrier to commit.
    pub total_us: u64,
    /// Bytes of rows in it that its barrier has overtaken.
    pub overtaken_bytes: u64,
}

/// Figures over the remembered checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckpointSummary {
    /// Committed since the job was created.
    pub count: u64,
    /// Half took at most this long.
    pub p50_us: u64,
    /// 99 of 100 took at most this long.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct CheckpointHistory {
    records: VecDeque<CheckpointRecord>,
    count: u64,
}

impl CheckpointHistory {
    pub(crate) fn push(&mut self, generation: Generation, epoch: &EpochInFlight, now_us: u64) {
        if self.records.len() == CHECKPOINT_HISTORY_LEN {
            self.records.pop_front();
        }
        let since = |us: u64| us.saturating_sub(epoch.begun_us);
        self.count += 1;
        self.records.push_back(CheckpointRecord {
            generation,
            epoch: epoch.epoch,
            begun_us: epoch.begun_us,
            stage_us: since(epoch.staged_us.unwrap_or(now_us)),
            total_us: since(now_us),
            overtaken_bytes: epoch.overtaken_bytes,
        });
    }

    pub(crate) fn records(&self) -> impl DoubleEndedIterator<Item = &CheckpointRecord> {
        self.records.iter()
    }

    pub(crate) fn summary(&self) -> CheckpointSummary {
        let mut durations: Vec<u64> = self.records.iter().map(|record| record.total_us).collect();
        durations.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).max(1);
            durations.get(rank - 1).copied().unwrap_or_default()
        };
        CheckpointSummary {
            count: self.count,
            p50_us: percentile(50),
            p99_us: percentile(99),
            max_us: percentile(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_remembered_ones() {
        let mut history = CheckpointHistory::default();
        assert_eq!(history.summary(), CheckpointSummary::default());
        let all = CHECKPOINT_HISTORY_LEN as u64 + 10;
        for total_us in 1..=all {
            let epoch = EpochInFlight::begin(Epoch(total_us), false, std::iter::empty(), 0);
            history.push(Generation(1), &epoch, total_us);
        }
        let summary = history.summary();
        assert_eq!(summary.count, all);
        assert_eq!(summary.max_us, all);
        assert_eq!(summary.p50_us, 10 + 512);
        assert_eq!(history.records().count(), CHECKPOINT_HISTORY_LEN);
    }
}
