//! A task that has waited for a barrier for long lets it overtake: it lets go of what it has under
//! way, beyond the bounds of what is behind it if need be, takes nothing more in, and saves its state
//! with what its channels have queued.
//!
//! Every task hears from the coordinator that an epoch ends, and begins to wait then: so all that are
//! late overtake at the same time, and none waits for another that waits. Nothing overtakes while
//! what came with a change of the routing is being read: rows wait for it that no channel has.

use std::task::{Context, Poll};

use super::{
    parts::TaskError,
    run::{Phase, Task},
};
use crate::Barrier;

/// A barrier that the coordinator has asked for.
pub(super) struct Commanded {
    pub(super) barrier: Barrier,
    /// When it is to overtake, by the monotonic clock; `None`: never.
    pub(super) overtakes_ns: Option<u64>,
}

impl Commanded {
    pub(super) fn new(barrier: Barrier, after_ms: Option<u64>, now_ns: u64) -> Commanded {
        let due = |ms: u64| now_ns.saturating_add(ms.saturating_mul(1_000_000));
        Commanded {
            barrier,
            overtakes_ns: after_ms.map(due),
        }
    }
}

impl Task {
    /// Barriers that have passed are not waited for any more.
    pub(super) fn forget_passed(&mut self) {
        let passed = self.last_barrier;
        let is_past = |next: &Commanded| next.barrier.epoch <= passed;
        while self.commanded.front().is_some_and(is_past) {
            self.commanded.pop_front();
        }
    }

    /// When the barrier that is waited for is to overtake.
    fn overtakes_ns(&self) -> Option<u64> {
        let can = self.moving.is_none() && !self.checkpointer.awaits_overtaken();
        let next = self.commanded.front().filter(|_| can);
        next.and_then(|next| next.overtakes_ns)
    }

    /// Looks whether a barrier has been waited for long enough. Whether the task begins to hurry now.
    pub(super) fn begin_hurry(&mut self) -> bool {
        self.forget_passed();
        let due_ns = self.overtakes_ns();
        let is_due = due_ns.is_some_and(|due_ns| due_ns <= self.parts.clock.monotonic_ns());
        // One that is on its way through the operators has what it has overtaken still coming.
        let passes = matches!(self.phase, Phase::Barrier { .. });
        let hurries = is_due || (self.hurries && passes);
        if hurries != self.hurries {
            self.hurries = hurries;
            self.parts.graph.hurry(hurries);
            return hurries;
        }
        false
    }

    /// Before the task sleeps: has it woken when it is to hurry. Whether that is now.
    pub(super) fn poll_hurry(&mut self, cx: &mut Context<'_>) -> bool {
        let due_ns = self.overtakes_ns().filter(|_| !self.hurries);
        let (clock, timer) = (&*self.parts.clock, &*self.parts.timer);
        self.overtaking.poll(due_ns, clock, timer, cx).is_ready()
    }

    /// Lets a barrier overtake that is to, once nothing is left of what was taken in before it.
    /// Whether there was anything to do.
    pub(super) fn overtake(&mut self) -> Result<bool, TaskError> {
        if !self.hurries || self.checkpointer.is_busy() {
            return Ok(false);
        }
        if let Some(event) = self.parts.gate.next_pending() {
            self.held.push_back(event);
        }
        if !self.held.is_empty() {
            return self.give_held();
        }
        let Some(barrier) = self.commanded.front().map(|next| next.barrier) else {
            return Ok(false);
        };
        self.parts.gate.overtake(barrier);
        self.checkpointer.await_overtaken();
        self.phase = Phase::Barrier { barrier, node: 0 };
        Ok(true)
    }

    /// Takes what the last barrier has overtaken, once it is all there.
    pub(super) fn poll_overtaken(&mut self, cx: &mut Context<'_>) {
        let awaited = self.checkpointer.awaits_overtaken();
        if awaited && let Poll::Ready(overtaken) = self.parts.gate.poll_overtaken(cx) {
            self.checkpointer.overtaken(overtaken);
        }
    }
}
