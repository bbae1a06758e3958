//! Time and randomness of this thread, where a library asks the system for them instead of taking
//! them as values. `main.rs` of the test answers such calls from here. All of them are counted: two
//! runs of one seed that count differently have a source of chance that nobody knows.

use std::{cell::RefCell, time::Duration};

use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};

/// Simulated time begins here: a Monday in 2026, in seconds since 1970.
pub const EPOCH_SECONDS: u64 = 1_767_571_200;

thread_local! {
    static AMBIENT: RefCell<Option<Ambient>> = const { RefCell::new(None) };
}

struct Ambient {
    now: Duration,
    random: SmallRng,
    counts: Counts,
}

/// How often the system was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// For randomness.
    pub random: u64,
    /// For the time.
    pub time: u64,
}

/// From now on this thread is a simulation's, whose chance comes from `seed`.
pub fn begin(seed: u64) {
    AMBIENT.set(Some(Ambient {
        now: Duration::ZERO,
        random: SmallRng::seed_from_u64(seed),
        counts: Counts::default(),
    }));
}

/// The thread is an ordinary one again; what was counted.
pub fn end() -> Counts {
    AMBIENT
        .take()
        .map(|ambient| ambient.counts)
        .unwrap_or_default()
}

/// Simulated time goes on.
pub fn set_now(now: Duration) {
    with(|ambient| ambient.now = now);
}

/// Simulated time since the beginning; zero outside of simulation.
#[must_use]
pub fn now() -> Duration {
    with(|ambient| ambient.now).unwrap_or_default()
}

/// Simulated time as it is told to who asks the system; `None`: this thread is no simulation's.
#[must_use]
pub fn system_time(since_epoch: bool) -> Option<Duration> {
    with(|ambient| {
        ambient.counts.time += 1;
        let base = if since_epoch { EPOCH_SECONDS } else { 1_000 };
        Duration::from_secs(base) + ambient.now
    })
}

/// Fills `bytes` at random; whether this thread is a simulation's.
pub fn fill(bytes: &mut [u8]) -> bool {
    let filled = with(|ambient| {
        ambient.counts.random += 1;
        ambient.random.fill_bytes(bytes);
    });
    filled.is_some()
}

fn with<R>(act: impl FnOnce(&mut Ambient) -> R) -> Option<R> {
    // A thread that is ending, or that asks while it is being answered, is none of ours.
    AMBIENT
        .try_with(|ambient| ambient.try_borrow_mut().ok()?.as_mut().map(act))
        .ok()
        .flatten()
}
