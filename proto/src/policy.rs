//! What a user may want of how a job is run: when it starts again after a failure, and how many
//! tasks it has. Values only; `coordinator` decides by them.

use serde::{Deserialize, Serialize};

/// Whether and when a job that has failed starts again. Failures that are not the job's fault are
/// never held against it: they do not count, and even a job that is not to start again does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartStrategy {
    /// Never.
    None,
    /// A number of times in a row, each after the same wait.
    FixedDelay {
        /// Restarts in a row.
        attempts: u32,
        /// The wait before each.
        delay_ms: u64,
    },
    /// After waits that grow from failure to failure.
    ExponentialDelay(ExponentialDelay),
    /// As long as there are not too many failures in an interval.
    FailureRate {
        /// Failures in any interval after which the job is still started again.
        failures_max: u32,
        /// Length of the interval.
        interval_ms: u64,
        /// The wait before each restart.
        delay_ms: u64,
    },
}

/// Waits that grow from failure to failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExponentialDelay {
    /// Wait before the first restart in a row.
    pub initial_ms: u64,
    /// Longest wait, jitter aside.
    pub max_ms: u64,
    /// What a wait is multiplied by for the next one, in percent; at least 100.
    pub multiplier_percent: u32,
    /// Part of a wait by which it is varied up and down, in percent.
    pub jitter_percent: u32,
    /// A job that ran for this long has no failures in a row behind it.
    pub reset_after_ms: u64,
    /// Restarts in a row before the job is given up; `None`: [`crate::control::JobOptions`] says.
    pub attempts: Option<u32>,
}

impl Default for ExponentialDelay {
    fn default() -> Self {
        ExponentialDelay {
            initial_ms: 100,
            max_ms: 30_000,
            multiplier_percent: 200,
            jitter_percent: 20,
            reset_after_ms: 600_000,
            attempts: None,
        }
    }
}

impl RestartStrategy {
    /// Failures in an interval that may be allowed at most: their times are remembered.
    pub const FAILURES_MAX: u32 = 1000;
}

impl Default for RestartStrategy {
    fn default() -> Self {
        RestartStrategy::ExponentialDelay(ExponentialDelay::default())
    }
}

/// Within what a job's parallelism follows its load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AutoscalePolicy {
    /// Tasks that a fragment has at least.
    pub min: u32,
    /// Tasks that it has at most.
    pub max: u32,
    /// Part of its time that a task should be at work, in percent.
    pub target_percent: u32,
    /// Time in which what has piled up before a source should be worked off.
    pub catch_up_ms: u64,
}

/// Why a policy cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// The bounds are none.
    #[error("min and max must be whole numbers with 1 <= min <= max, not {min} and {max}")]
    Bounds {
        /// As asked for.
        min: u32,
        /// As asked for.
        max: u32,
    },
    /// More tasks than anything can have.
    #[error("max must be at most {limit}, the number of key groups, not {max}")]
    Max {
        /// As asked for.
        max: u32,
        /// The most there can be.
        limit: u32,
    },
    /// Not a part of the time that tasks could be at work.
    #[error(
        "the target utilisation must be between {} and {}, not {}",
        percent(AutoscalePolicy::TARGET_PERCENT_MIN),
        percent(AutoscalePolicy::TARGET_PERCENT_MAX),
        percent(*.0)
    )]
    Target(u32),
    /// No time to work anything off.
    #[error("the catch-up time must be at least 1 s")]
    CatchUp,
}

fn percent(percent: u32) -> f64 {
    f64::from(percent) / 100.0
}

impl AutoscalePolicy {
    /// Least part of its time that a task may be meant to work.
    pub const TARGET_PERCENT_MIN: u32 = 10;
    /// Above this there would be no room for what varies.
    pub const TARGET_PERCENT_MAX: u32 = 95;
    /// Tasks at most, where nobody says otherwise.
    pub const MAX_DEFAULT: u32 = 32;
    /// Where nobody says otherwise: room for bursts and for catching up.
    pub const TARGET_PERCENT_DEFAULT: u32 = 80;
    /// Where nobody says otherwise.
    pub const CATCH_UP_MS_DEFAULT: u64 = 60_000;
    /// Least time to work off what has piled up.
    pub const CATCH_UP_MS_MIN: u64 = 1_000;

    /// From `min` to `max` tasks, with defaults for the rest.
    #[must_use]
    pub fn between(min: u32, max: u32) -> AutoscalePolicy {
        AutoscalePolicy {
            min,
            max,
            target_percent: Self::TARGET_PERCENT_DEFAULT,
            catch_up_ms: Self::CATCH_UP_MS_DEFAULT,
        }
    }

    /// Whether it can be followed where a fragment has at most `limit` tasks.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, limit: u32) -> Result<(), PolicyError> {
        let (min, max) = (self.min, self.max);
        if min == 0 || min > max {
            return Err(PolicyError::Bounds { min, max });
        }
        if max > limit {
            return Err(PolicyError::Max { max, limit });
        }
        let targets = Self::TARGET_PERCENT_MIN..=Self::TARGET_PERCENT_MAX;
        if !targets.contains(&self.target_percent) {
            return Err(PolicyError::Target(self.target_percent));
        }
        if self.catch_up_ms < Self::CATCH_UP_MS_MIN {
            return Err(PolicyError::CatchUp);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_cannot_be_followed_say_why() {
        let good = AutoscalePolicy::between(1, 8);
        assert_eq!(good.check(8), Ok(()));
        let check = |policy: AutoscalePolicy, expected: &str| {
            let error = policy.check(8).expect_err("refused");
            assert_eq!(error.to_string(), expected);
        };
        check(
            AutoscalePolicy::between(0, 8),
            "min and max must be whole numbers with 1 <= min <= max, not 0 and 8",
        );
        check(
            AutoscalePolicy::between(5, 4),
            "min and max must be whole numbers with 1 <= min <= max, not 5 and 4",
        );
        check(
            AutoscalePolicy::between(1, 9),
            "max must be at most 8, the number of key groups, not 9",
        );
        check(
            AutoscalePolicy {
                target_percent: 100,
                ..good
            },
            "the target utilisation must be between 0.1 and 0.95, not 1",
        );
        check(
            AutoscalePolicy {
                catch_up_ms: 999,
                ..good
            },
            "the catch-up time must be at least 1 s",
        );
    }
}
