//! What a task's time goes by on: between two polls it waits for one thing. And what it waits for by
//! the clock.

use std::task::{Context, Poll};

use futures::{FutureExt as _, future::BoxFuture};

use super::metrics::TimeSplit;
use crate::clock::{Clock, Timer};

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

/// A time that is waited for.
#[derive(Default)]
pub(super) struct Alarm(Option<(u64, BoxFuture<'static, ()>)>);

impl Alarm {
    /// Whether it is time, by the monotonic clock; if not, the task is woken when it is. Never: `None`.
    pub(super) fn poll(
        &mut self,
        due_ns: Option<u64>,
        clock: &dyn Clock,
        timer: &dyn Timer,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(due_ns) = due_ns else {
            self.0 = None;
            return Poll::Pending;
        };
        let now_ns = clock.monotonic_ns();
        if due_ns > now_ns {
            let alarm = match self.0.take() {
                Some(alarm) if alarm.0 == due_ns => alarm,
                _ => {
                    let ms = (due_ns - now_ns).div_ceil(1_000_000);
                    (due_ns, timer.sleep(ms))
                }
            };
            std::task::ready!(self.0.insert(alarm).1.poll_unpin(cx));
        }
        self.0 = None;
        Poll::Ready(())
    }
}
