//! Whether and when a failed job starts again, by the strategy that its user chose. What is not the
//! job's fault is no reason to give it up, whatever the strategy.

use std::collections::VecDeque;

use proto::{
    control::JobOptions,
    policy::{ExponentialDelay, RestartStrategy},
};

/// Whose fault a failure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The job's, or that of what it reads and writes.
    Job,
    /// Ours: a process is gone, or the object store out of reach.
    Platform,
}

/// A failure, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// When.
    pub(crate) now_us: u64,
    /// How long the generation had run.
    pub(crate) ran_us: u64,
    /// Whose fault it is.
    pub(crate) cause: Cause,
}

/// Failures so far.
#[derive(Clone, Debug)]
pub(crate) struct Restarts {
    strategy: RestartStrategy,
    /// Restarts in a row where the strategy names no number.
    attempts: u32,
    /// Restarts in a row, whoever's fault.
    count: u32,
    /// Those that count against the strategy.
    of_job: u32,
    /// When the job's own last failures were, for a strategy that looks at their rate.
    failed_us: VecDeque<u64>,
    random: u64,
}

impl Restarts {
    /// As the options say; `seed` spreads the restarts of many jobs.
    pub(crate) fn new(options: &JobOptions, seed: u64) -> Self {
        Restarts {
            strategy: options.restart,
            attempts: options.restarts_max,
            count: 0,
            of_job: 0,
            failed_us: VecDeque::new(),
            random: seed,
        }
    }

    /// A generation failed. The wait until the next one, or `None` to give up.
    pub(crate) fn next_delay_us(&mut self, failure: Failure) -> Option<u64> {
        let delays = self.delays();
        if failure.ran_us >= us(delays.reset_after_ms) {
            self.count = 0;
            self.of_job = 0;
        }
        if failure.cause == Cause::Job && !self.allows(failure.now_us) {
            return None;
        }
        let delay_us = match self.strategy {
            RestartStrategy::FixedDelay { delay_ms, .. }
            | RestartStrategy::FailureRate { delay_ms, .. } => us(delay_ms),
            RestartStrategy::None | RestartStrategy::ExponentialDelay(_) => {
                let plain = grown_us(&delays, self.count);
                self.jitter(plain, delays.jitter_percent)
            }
        };
        self.count = self.count.saturating_add(1);
        Some(delay_us)
    }

    /// Takes note of a failure that is the job's fault. Whether it may start again.
    fn allows(&mut self, now_us: u64) -> bool {
        let max = match self.strategy {
            RestartStrategy::None => return false,
            RestartStrategy::FixedDelay { attempts, .. } => attempts,
            RestartStrategy::ExponentialDelay(delays) => delays.attempts.unwrap_or(self.attempts),
            RestartStrategy::FailureRate {
                failures_max,
                interval_ms,
                ..
            } => return self.rate_allows(now_us, failures_max, us(interval_ms)),
        };
        if self.of_job >= max {
            return false;
        }
        self.of_job += 1;
        true
    }

    fn rate_allows(&mut self, now_us: u64, failures_max: u32, interval_us: u64) -> bool {
        let recent = |at_us: &u64| now_us.saturating_sub(*at_us) <= interval_us;
        self.failed_us.retain(recent);
        let max = failures_max.min(RestartStrategy::FAILURES_MAX) as usize;
        if self.failed_us.len() >= max {
            return false;
        }
        self.failed_us.push_back(now_us);
        true
    }

    /// What failed before does not count any more.
    pub(crate) fn forget(&mut self) {
        self.count = 0;
        self.of_job = 0;
    }

    /// Restarts in a row.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Waits of strategies that name no others: after failures that are nobody's fault here even a
    /// job that is never to start again does.
    fn delays(&self) -> ExponentialDelay {
        match self.strategy {
            RestartStrategy::ExponentialDelay(delays) => delays,
            _ => ExponentialDelay::default(),
        }
    }

    fn jitter(&mut self, delay_us: u64, percent: u32) -> u64 {
        let spread = delay_us.saturating_mul(u64::from(percent.min(100))) / 100;
        let range = spread.saturating_mul(2).saturating_add(1);
        (delay_us - spread).saturating_add(self.random() % range)
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

fn us(ms: u64) -> u64 {
    ms.saturating_mul(1000)
}

/// The wait after so many failures in a row, without jitter.
fn grown_us(delays: &ExponentialDelay, failures: u32) -> u64 {
    let (mut delay_us, max_us) = (us(delays.initial_ms), us(delays.max_ms));
    for _ in 0..failures {
        let grown = delay_us.saturating_mul(u64::from(delays.multiplier_percent)) / 100;
        // It has stopped growing: the rest of the steps changes nothing.
        if delay_us >= max_us || grown <= delay_us {
            break;
        }
        delay_us = grown;
    }
    delay_us.min(max_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restarts(restart: RestartStrategy) -> Restarts {
        let options = JobOptions {
            restart,
            restarts_max: 12,
            ..JobOptions::default()
        };
        Restarts::new(&options, 7)
    }

    /// Fails once at `now_ms`, after running for `ran_ms`; the wait in ms.
    fn fail(restarts: &mut Restarts, now_ms: u64, ran_ms: u64, cause: Cause) -> Option<u64> {
        let delay_us = restarts.next_delay_us(Failure {
            now_us: us(now_ms),
            ran_us: us(ran_ms),
            cause,
        });
        delay_us.map(|delay_us| delay_us / 1000)
    }

    #[test]
    fn waits_double_within_bounds_and_end() {
        let mut restarts = restarts(RestartStrategy::default());
        for attempt in 0..12_u32 {
            let plain = (100_u64 << attempt).min(30_000);
            let delay = fail(&mut restarts, 0, 0, Cause::Job).expect("within the limit");
            assert!(delay >= plain * 80 / 100 && delay <= plain * 120 / 100);
        }
        assert_eq!(fail(&mut restarts, 0, 0, Cause::Job), None);
        assert!(fail(&mut restarts, 0, 600_000, Cause::Job).is_some());
        assert_eq!(restarts.count(), 1);
    }

    #[test]
    fn an_exponential_delay_grows_as_it_is_told() {
        let mut restarts = restarts(RestartStrategy::ExponentialDelay(ExponentialDelay {
            initial_ms: 1000,
            max_ms: 4000,
            multiplier_percent: 150,
            jitter_percent: 0,
            reset_after_ms: 60_000,
            attempts: Some(6),
        }));
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(fail(&mut restarts, 0, 0, Cause::Job));
        }
        assert_eq!(waits, [1000, 1500, 2250, 3375, 4000].map(Some));
        assert_eq!(fail(&mut restarts, 0, 59_999, Cause::Job), Some(4000));
        assert_eq!(fail(&mut restarts, 0, 59_999, Cause::Job), None);
        assert_eq!(fail(&mut restarts, 0, 60_000, Cause::Job), Some(1000));
    }

    #[test]
    fn waits_that_do_not_grow_and_wild_ones_are_found_at_once() {
        let flat = ExponentialDelay {
            multiplier_percent: 100,
            ..ExponentialDelay::default()
        };
        assert_eq!(grown_us(&flat, u32::MAX), 100_000);
        let wild = ExponentialDelay {
            initial_ms: u64::MAX,
            max_ms: u64::MAX,
            multiplier_percent: u32::MAX,
            ..ExponentialDelay::default()
        };
        assert_eq!(grown_us(&wild, u32::MAX), u64::MAX);
        let zero = ExponentialDelay {
            initial_ms: 0,
            ..ExponentialDelay::default()
        };
        assert_eq!(grown_us(&zero, u32::MAX), 0);
    }

    #[test]
    fn a_fixed_delay_is_the_same_every_time_and_ends() {
        let mut restarts = restarts(RestartStrategy::FixedDelay {
            attempts: 2,
            delay_ms: 500,
        });
        assert_eq!(fail(&mut restarts, 0, 0, Cause::Job), Some(500));
        assert_eq!(fail(&mut restarts, 0, 0, Cause::Platform), Some(500));
        assert_eq!(fail(&mut restarts, 0, 0, Cause::Job), Some(500));
        assert_eq!(fail(&mut restarts, 0, 0, Cause::Job), None);
        assert_eq!(fail(&mut restarts, 0, 0, Cause::Platform), Some(500));
    }

    #[test]
    fn a_failure_rate_looks_at_any_interval() {
        let mut restarts = restarts(RestartStrategy::FailureRate {
            failures_max: 2,
            interval_ms: 60_000,
            delay_ms: 300,
        });
        assert_eq!(fail(&mut restarts, 0, 0, Cause::Job), Some(300));
        assert_eq!(fail(&mut restarts, 30_000, 0, Cause::Job), Some(300));
        // The first one is out of the interval by now, the second is not.
        assert_eq!(fail(&mut restarts, 60_001, 0, Cause::Job), Some(300));
        assert_eq!(fail(&mut restarts, 90_000, 0, Cause::Platform), Some(300));
        assert_eq!(fail(&mut restarts, 90_000, 0, Cause::Job), None);
    }

    #[test]
    fn what_is_not_the_jobs_fault_never_counts() {
        let strategies = [
            RestartStrategy::None,
            RestartStrategy::FixedDelay {
                attempts: 1,
                delay_ms: 1,
            },
            RestartStrategy::default(),
            RestartStrategy::FailureRate {
                failures_max: 1,
                interval_ms: 1_000_000,
                delay_ms: 1,
            },
        ];
        for strategy in strategies {
            let mut restarts = restarts(strategy);
            for _ in 0..100 {
                assert!(fail(&mut restarts, 0, 0, Cause::Platform).is_some());
            }
            let own = fail(&mut restarts, 0, 0, Cause::Job);
            assert_eq!(own.is_some(), strategy != RestartStrategy::None);
        }
    }
}
