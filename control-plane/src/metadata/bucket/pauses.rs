//! Pauses after failed requests: each is longer than the one before, and no two processes' the same.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::limits::BucketLimits;

/// Makes pauses.
pub(super) struct Pauses {
    random: SmallRng,
    first: Duration,
    most: Duration,
}

impl Pauses {
    pub(super) fn new(seed: u64, limits: &BucketLimits) -> Self {
        Pauses {
            random: SmallRng::seed_from_u64(seed),
            first: limits.pause,
            most: limits.pause_max,
        }
    }

    /// The pause after the `attempt`th failure.
    pub(super) fn after(&mut self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(16);
        let pause = self.first.saturating_mul(1 << doublings).min(self.most);
        pause.mul_f64(self.random.random_range(0.5..=1.0))
    }
}
