//! Working sets get the memory that all else of the process leaves.
//!
//! How much caches, deltas, requests and the allocator take together cannot be known beforehand, so
//! the bound of working sets follows what the system says that the process takes: it falls while that
//! is above what is allowed, and rises while there is room and state is waiting for it. It begins with the
//! least: what working sets have once taken they do not give back in full, only their rows are freed for
//! others.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use engine::memory::MemoryPool;
use tokio::{runtime::Handle, time};

use super::{MemoryPlan, resident::resident_bytes};

/// Between two looks at the process.
const LOOK: Duration = Duration::from_millis(250);
/// Looks between two decisions: what goes is back at the system within a second (the allocator keeps
/// it so long), and a checkpoint, in which deltas take memory, is usually among them.
const LOOKS: usize = 8;
/// Of what is allowed, in percent: what the process should take.
const AIM_PERCENT: u64 = 96;
/// The bound stays while the process takes between this and what is allowed.
const ENOUGH_PERCENT: u64 = 93;
/// The most that the bound rises at a time, in percent of what is allowed.
const STEP_PERCENT: u64 = 3;
/// While the process takes less than this, in percent of what is allowed, the bound rises
const FAR_PERCENT: u64 = 75;
/// so much at a time,
const FAR_STEP_PERCENT: u64 = 6;
/// after so many looks.
const FAR_LOOKS: usize = 2;
/// The least and the most that working sets get, in percent of what is allowed.
const LEAST_PERCENT: u64 = 20;
const MOST_PERCENT: u64 = 80;
/// The bound rises only if so much of it is held, in percent.
const HELD_PERCENT: u64 = 80;

/// Decides how much working sets get.
#[derive(Debug)]
struct Arbiter {
    /// Bytes that the process may take.
    allowed: u64,
    bound: u64,
    /// The most that it took since the last decision, and looks since then.
    peak: u64,
    looks: usize,
}

impl Arbiter {
    fn new(plan: &MemoryPlan) -> Arbiter {
        Arbiter {
            allowed: plan.process,
            bound: plan.process / 100 * LEAST_PERCENT,
            peak: 0,
            looks: 0,
        }
    }

    fn percent(&self, percent: u64) -> u64 {
        self.allowed / 100 * percent
    }

    /// The bound of working sets from now on, in bytes: the process takes `resident`, and working sets
    /// hold `held` of that.
    fn look(&mut self, resident: u64, held: u64) -> u64 {
        self.peak = self.peak.max(resident);
        self.looks += 1;
        let is_far = self.peak < self.percent(FAR_PERCENT);
        if self.looks < LOOKS && !(is_far && self.looks >= FAR_LOOKS) {
            return self.bound;
        }
        let step = if is_far {
            FAR_STEP_PERCENT
        } else {
            STEP_PERCENT
        };
        let peak = std::mem::take(&mut self.peak);
        self.looks = 0;
        let aim = self.percent(AIM_PERCENT);
        if peak > self.allowed {
            self.bound = self.bound.saturating_sub((peak - aim) / 4 * 3);
        } else if peak < self.percent(ENOUGH_PERCENT) && held >= self.bound / 100 * HELD_PERCENT {
            self.bound += ((aim - peak) / 2).min(self.percent(step));
        }
        let (least, most) = (self.percent(LEAST_PERCENT), self.percent(MOST_PERCENT));
        self.bound = self.bound.clamp(least, most);
        self.bound
    }
}

/// What working sets get at first, in bytes.
pub(super) fn first_bound(plan: &MemoryPlan) -> u64 {
    Arbiter::new(plan).bound
}

/// Moves the bound of `pool` for as long as somebody has it.
pub(super) fn watch(pool: &Arc<MemoryPool>, plan: &MemoryPlan, runtime: &Handle) {
    let (pool, arbiter) = (Arc::downgrade(pool), Arbiter::new(plan));
    runtime.spawn(follow(pool, arbiter, plan.working_sets));
}

async fn follow(pool: Weak<MemoryPool>, mut arbiter: Arbiter, expected: u64) {
    let mut looks = time::interval(LOOK);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        // Where the system does not say what a process takes, the plan stands.
        let Some(resident) = resident_bytes() else {
            return pool.set_bytes_max(expected);
        };
        let bound = arbiter.look(resident, pool.held());
        if bound != pool.bytes_max() {
            pool.set_bytes_max(bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A process of 1 GiB whose working sets hold what they may, or `state` if that is less; all else
    /// takes what `other` says of the look. What goes is given back four looks later. Gives what
    /// it takes at each of the last hundred looks, and the bounds.
    fn run(state: u64, other: impl Fn(usize) -> u64) -> (Vec<u64>, Vec<u64>) {
        let plan = MemoryPlan::of_all_tiers(1 << 30);
        let mut arbiter = Arbiter::new(&plan);
        let mut held = VecDeque::from([0; 4]);
        let (mut taken, mut bounds) = (Vec::new(), Vec::new());
        for look in 0..500 {
            let now = state.min(arbiter.bound / 100 * 88);
            held.pop_front();
            held.push_back(now);
            let resident = held.iter().max().expect("some") + other(look);
            bounds.push(arbiter.look(resident, now));
            taken.push(resident);
        }
        (taken.split_off(400), bounds.split_off(400))
    }

    #[test]
    fn a_process_takes_what_it_may_whatever_all_else_takes() {
        for other in [150, 300, 600, 700] {
            let bursts = |look: usize| (other + if look.is_multiple_of(4) { 40 } else { 0 }) * MIB;
            let (taken, bounds) = run(4 << 30, bursts);
            let most = taken.iter().max().expect("some") >> 20;
            assert!((900..=1024).contains(&most), "{most} MiB with {other}");
            // It has come to rest.
            let (first, last) = (bounds[0], bounds[99]);
            assert!(bounds.iter().all(|bound| *bound == first), "{first} {last}");
        }
    }

    #[test]
    fn a_bound_that_nobody_needs_does_not_rise() {
        let (_, bounds) = run(100 * MIB, |_| 150 * MIB);
        let first = Arbiter::new(&MemoryPlan::of_all_tiers(1 << 30)).bound;
        assert!(bounds.iter().all(|bound| *bound == first));
    }

    #[test]
    fn working_sets_keep_a_part_though_all_else_takes_too_much() {
        let (_, bounds) = run(4 << 30, |_| 2 << 30);
        assert_eq!(bounds[99], (1 << 30) / 100 * LEAST_PERCENT);
    }
}
