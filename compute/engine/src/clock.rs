//! Time as a value that shells pass in: simulation and tests turn it by hand.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;

/// A source of time.
pub trait Clock: Send + Sync {
    /// Wall clock, in milliseconds since 1970. For processing time and for people; no decision
    /// about correctness reads it.
    fn wall_ms(&self) -> i64;

    /// Nanoseconds since some fixed instant of this process; never goes back.
    fn monotonic_ns(&self) -> u64;
}

/// Wakes what waits for time to pass.
pub trait Timer: Send + Sync {
    /// Completes when `ms` milliseconds have passed.
    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()>;
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ns: AtomicU64,
}

impl ManualClock {
    /// Moves the clock on.
    pub fn advance_ms(&self, ms: u64) {
        self.now_ns.fetch_add(ms * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        (self.now_ns.load(Ordering::SeqCst) / 1_000_000) as i64
    }

    fn monotonic_ns(&self) -> u64 {
        self.now_ns.load(Ordering::SeqCst)
    }
}
