//! Whether and when a failed job starts again.

use crate::caps::{
    RESTART_DELAY_FIRST_US, RESTART_DELAY_MAX_US, RESTART_JITTER_PERCENT,
    RESTARTS_FORGOTTEN_AFTER_US,
};

/// Whose fault a failure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The job's, or that of what it reads and writes.
    Job,
    /// Ours: a process is gone, or the object store out of reach.
    Platform,
}

/// Failures in a row.
#[derive(Clone, Debug)]
pub(crate) struct Restarts {
    count: u32,
    /// Those that count against the limit.
    of_job: u32,
    max: u32,
    random: u64,
}

impl Restarts {
    /// At most `max` restarts in a row; `seed` spreads the restarts of many jobs.
    pub(crate) fn new(max: u32, seed: u64) -> Self {
        Restarts {
            count: 0,
            of_job: 0,
            max,
            random: seed,
        }
    }

    /// A generation failed after running for `ran_us`. The wait until the next one, or `None` to
    /// give up. What is not the job's fault is no reason to give it up.
    pub(crate) fn next_delay_us(&mut self, ran_us: u64, cause: Cause) -> Option<u64> {
        if ran_us >= RESTARTS_FORGOTTEN_AFTER_US {
            self.count = 0;
            self.of_job = 0;
        }
        if cause == Cause::Job {
            if self.of_job >= self.max {
                return None;
            }
            self.of_job += 1;
        }
        let doubled = RESTART_DELAY_FIRST_US.saturating_mul(1 << self.count.min(32));
        self.count += 1;
        Some(self.jitter(doubled.min(RESTART_DELAY_MAX_US)))
    }

    /// Restarts in a row.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    fn jitter(&mut self, delay_us: u64) -> u64 {
        let spread = delay_us * RESTART_JITTER_PERCENT / 100;
        delay_us - spread + self.random() % (2 * spread + 1)
    }

    /// A step of splitmix64: even and fast, and all that a wait needs.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_bounds_and_end() {
        let mut restarts = Restarts::new(12, 7);
        for attempt in 0..12_u32 {
            let plain = (RESTART_DELAY_FIRST_US << attempt).min(RESTART_DELAY_MAX_US);
            let delay = restarts
                .next_delay_us(0, Cause::Job)
                .expect("within the limit");
            assert!(delay >= plain * 80 / 100 && delay <= plain * 120 / 100);
        }
        assert_eq!(restarts.next_delay_us(0, Cause::Job), None);
        assert!(
            restarts
                .next_delay_us(RESTARTS_FORGOTTEN_AFTER_US, Cause::Job)
                .is_some()
        );
        assert_eq!(restarts.count(), 1);
    }

    #[test]
    fn no_restart_when_none_is_allowed() {
        assert_eq!(Restarts::new(0, 1).next_delay_us(0, Cause::Job), None);
    }
}
