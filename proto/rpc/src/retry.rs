//! How often and when to try again: bounded, ever more slowly, never all at the same moment.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Bounds of trying again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Attempts in all (≥ 1).
    pub attempts: u32,
    /// Pause after the first failure; doubles with each.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

impl RetryPolicy {
    /// The pauses of one request. `seed` should differ from caller to caller.
    #[must_use]
    pub fn backoff(&self, seed: u64) -> Backoff {
        Backoff {
            left: self.attempts.saturating_sub(1),
            next: self.pause_min.min(self.pause_max),
            pause_max: self.pause_max,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Makes attempts until one succeeds, fails for good, or was the last.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn run<T, E, F>(
        &self,
        seed: u64,
        is_retryable: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut backoff = self.backoff(seed);
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match backoff.next() {
                Some(pause) if is_retryable(&error) => tokio::time::sleep(pause).await,
                _ => return Err(error),
            }
        }
    }
}

/// Pauses between attempts: each between half of a time that doubles and all of it.
#[derive(Debug)]
pub struct Backoff {
    left: u32,
    next: Duration,
    pause_max: Duration,
    random: SmallRng,
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let pause = self.next.mul_f64(self.random.random_range(0.5..=1.0));
        self.next = self.next.saturating_mul(2).min(self.pause_max);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 5,
        pause_min: Duration::from_millis(10),
        pause_max: Duration::from_millis(40),
    };

    #[test]
    fn pauses_double_up_to_a_bound_and_differ_by_seed() {
        let pauses: Vec<Duration> = POLICY.backoff(1).collect();
        assert_eq!(pauses.len(), 4);
        for (pause, most) in pauses.iter().zip([10, 20, 40, 40]) {
            let most = Duration::from_millis(most);
            assert!(*pause >= most / 2 && *pause <= most, "{pauses:?}");
        }
        assert_eq!(pauses, POLICY.backoff(1).collect::<Vec<_>>());
        assert_ne!(pauses, POLICY.backoff(2).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded_and_end_with_what_cannot_be_tried_again() {
        let tried = Cell::new(0);
        let run = async |fatal_at: u32| {
            tried.set(0);
            let attempt = || {
                tried.set(tried.get() + 1);
                let fatal = tried.get() == fatal_at;
                async move { Err::<(), bool>(fatal) }
            };
            POLICY.run(7, |fatal| !fatal, attempt).await
        };
        assert_eq!(run(u32::MAX).await, Err(false));
        assert_eq!(tried.get(), 5);
        assert_eq!(run(2).await, Err(true));
        assert_eq!(tried.get(), 2);
    }
}
