//! What a task's time goes by on: between two polls it waits for one thing.

use super::metrics::TimeSplit;

/// Times of a task, in ns of the monotonic clock.
#[derive(Default)]
pub(super) struct TimeAccount {
    started_ns: Option<u64>,
    left_ns: u64,
    left: Option<Wait>,
    blocked_ns: u64,
    state_wait_ns: u64,
}

/// What a task that is not polled waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Idle,
    Blocked,
    State,
    Yield,
}

impl TimeAccount {
    /// The task is polled again.
    pub(super) fn come_back(&mut self, now_ns: u64) {
        self.started_ns.get_or_insert(now_ns);
        let waited = now_ns.saturating_sub(self.left_ns);
        match self.left.take() {
            Some(Wait::Blocked) => self.blocked_ns += waited,
            Some(Wait::State) => self.state_wait_ns += waited,
            Some(Wait::Idle | Wait::Yield) | None => {}
        }
    }

    /// The task waits from now on; what its time has gone by on so far.
    pub(super) fn leave(&mut self, wait: Wait, now_ns: u64) -> TimeSplit {
        self.left = Some(wait);
        self.left_ns = now_ns;
        TimeSplit {
            total: now_ns.saturating_sub(self.started_ns.unwrap_or(now_ns)),
            blocked: self.blocked_ns,
            state_wait: self.state_wait_ns,
        }
    }
}
