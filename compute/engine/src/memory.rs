//! The arbiter of a process's memory for working sets.
//!
//! Tasks report what they hold. When that comes near the bound, they take out of memory what the store
//! has; when it reaches it, sources wait until an epoch is committed, after which more may go. If nothing
//! may, for operators need more than there is, each task reads once from its sources all the same: an epoch
//! in which nobody reads changes nothing, is not committed, and no other would be. What one epoch changes is
//! bounded by a part of the bound, for on their way to the store its rows take as much again: sources wait
//! when the open epoch has so much, until it ends, and when much of those before has not arrived. Or epochs
//! would be as large as there is time for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use crate::{
    spill::{NoScratch, Scratch},
    waiters::Waiters,
};

/// Memory is short when so much of it is held, and then as much goes as leaves it a little below.
const SHORT_PERCENT: u64 = 90;
const ENOUGH_PERCENT: u64 = 85;
/// So much may have been changed in the open epoch.
const CHANGED_PERCENT: u64 = 20;
/// So much may be held and on its way together.
const SENT_PERCENT: u128 = 115;

/// What a task holds, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// State, with what finds the rest of it.
    pub state: u64,
    /// Of it, what was changed in the open epoch.
    pub changed: u64,
    /// Rows that are on their way to the store.
    pub sent: u64,
}

impl Held {
    /// State of which nothing was changed.
    #[must_use]
    pub fn clean(state: u64) -> Held {
        Held {
            state,
            ..Held::default()
        }
    }
}

/// A bound on the bytes of working sets.
#[derive(Debug)]
pub struct MemoryPool {
    bytes_max: AtomicU64,
    held: AtomicU64,
    changed: AtomicU64,
    sent: AtomicU64,
    /// Sources wait.
    closed: AtomicBool,
    waiters: Waiters,
    /// Where what it has no room for goes.
    scratch: Arc<dyn Scratch>,
}

impl MemoryPool {
    /// At most about `bytes_max` bytes; the bound is soft by what is in flight, and by what operators
    /// need that cannot do without any of their state.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<MemoryPool> {
        MemoryPool::with_scratch(bytes_max, Arc::new(NoScratch))
    }

    /// The same with scratch files for what there is no room for.
    #[must_use]
    pub fn with_scratch(bytes_max: u64, scratch: Arc<dyn Scratch>) -> Arc<MemoryPool> {
        Arc::new(MemoryPool {
            bytes_max: AtomicU64::new(bytes_max),
            held: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            waiters: Waiters::default(),
            scratch,
        })
    }

    /// Without a bound.
    #[must_use]
    pub fn unbounded() -> Arc<MemoryPool> {
        MemoryPool::new(u64::MAX)
    }

    /// Bytes that tasks hold.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    /// The bound, in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::SeqCst)
    }

    /// Another bound from now on: what is held beyond it goes as tasks come to it, and sources that wait
    /// go on if it leaves room.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::SeqCst);
        if self.has_room() {
            self.open();
        }
    }

    fn has_room(&self) -> bool {
        let of = |bytes: &AtomicU64| bytes.load(Ordering::SeqCst);
        let (held, sent) = (self.held(), of(&self.sent));
        let most = u128::from(self.bytes_max()) * SENT_PERCENT / 100;
        held < self.bytes_max()
            && u128::from(held) + u128::from(sent) < most
            && of(&self.changed) <= self.percent(CHANGED_PERCENT)
    }

    fn percent(&self, percent: u64) -> u64 {
        self.bytes_max() / 100 * percent
    }

    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }

    fn open(&self) {
        if self.closed.swap(false, Ordering::SeqCst) {
            self.waiters.wake();
        }
    }
}

/// What one task holds of a pool. Dropped, it is given back.
#[derive(Debug)]
pub struct MemoryShare {
    pool: Arc<MemoryPool>,
    held: Held,
    /// Sources have not been read since the last commit, or the task's beginning.
    may_read: bool,
}

impl MemoryShare {
    /// A share of nothing yet.
    #[must_use]
    pub fn of(pool: &Arc<MemoryPool>) -> MemoryShare {
        MemoryShare {
            pool: Arc::clone(pool),
            held: Held::default(),
            may_read: true,
        }
    }

    /// The task holds this now.
    pub fn hold(&mut self, now: Held) {
        let before = std::mem::replace(&mut self.held, now);
        let change = |of: &AtomicU64, now: u64, before: u64| {
            of.fetch_add(now.wrapping_sub(before), Ordering::SeqCst);
        };
        change(&self.pool.held, now.state, before.state);
        change(&self.pool.changed, now.changed, before.changed);
        change(&self.pool.sent, now.sent, before.sent);
        let is_less = now.state < before.state || now.changed < before.changed;
        if !self.pool.has_room() {
            self.pool.closed.store(true, Ordering::SeqCst);
            // Somebody may have made room in between, and found nothing to open.
            if self.pool.has_room() {
                self.pool.open();
            }
        } else if is_less || now.sent < before.sent {
            self.pool.open();
        }
    }

    /// Whether it is time to take something out of memory.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.pool.held() >= self.pool.percent(SHORT_PERCENT)
    }

    /// Bytes that this task is to take out of memory, when it is short: its part of what is too much.
    #[must_use]
    pub fn excess(&self) -> u64 {
        let held = self.pool.held();
        if held < self.pool.percent(SHORT_PERCENT) {
            return 0;
        }
        let excess = u128::from(held - self.pool.percent(ENOUGH_PERCENT));
        u64::try_from(excess * u128::from(self.held.state) / u128::from(held.max(1)))
            .unwrap_or(u64::MAX)
    }

    /// Where what there is no room for goes.
    #[must_use]
    pub fn scratch(&self) -> &Arc<dyn Scratch> {
        &self.pool.scratch
    }

    /// An epoch is committed: sources go on until there is a report that there is no room, and this task's may
    /// read once whatever is reported, so that a job makes progress though it needs more than there is.
    pub fn committed(&mut self) {
        self.may_read = true;
        self.pool.open();
    }

    /// Whether sources may read; if not, the task is woken when they may.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        let may_read = || self.may_read || self.pool.is_open();
        self.pool.waiters.poll(cx, may_read)
    }

    /// A source has been read.
    pub fn has_read(&mut self) {
        self.may_read = false;
    }

    /// Whether it is for the caller to ask for a barrier: once each time sources have to wait.
    #[must_use]
    pub fn should_tell(&self) -> bool {
        self.pool.waiters.should_tell(self.pool.is_open())
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.hold(Held::default());
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    /// Of a task that has read since the last commit.
    fn share(pool: &Arc<MemoryPool>) -> MemoryShare {
        let mut share = MemoryShare::of(pool);
        share.has_read();
        share
    }

    #[test]
    fn sources_wait_for_room_or_for_a_commit() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let pool = MemoryPool::new(100);
        let (mut first, mut second) = (share(&pool), share(&pool));
        first.hold(Held::clean(60));
        assert!(!second.is_short() && first.excess() == 0);
        second.hold(Held::clean(30));
        assert!(first.is_short());
        assert_eq!((first.excess(), second.excess()), (3, 1));
        assert!(first.poll_open(&mut cx).is_ready());
        second.hold(Held::clean(40));
        assert!(first.poll_open(&mut cx).is_pending());
        assert!(first.should_tell() && !second.should_tell());
        second.hold(Held::clean(35));
        assert!(first.poll_open(&mut cx).is_ready());
        second.hold(Held::clean(50));
        assert!(second.poll_open(&mut cx).is_pending());
        assert!(second.should_tell());
        second.committed();
        assert!(first.poll_open(&mut cx).is_ready());
        drop(second);
        assert_eq!(pool.held(), 60);
        drop(first);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn the_bound_moves_while_tasks_hold_memory() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let pool = MemoryPool::new(1000);
        let mut share = share(&pool);
        share.hold(Held::clean(800));
        assert!(!share.is_short());
        pool.set_bytes_max(600);
        assert!(share.is_short());
        assert_eq!(share.excess(), 290);
        // Nothing more comes in before some of it has gone, or there is room again.
        share.hold(Held::clean(810));
        assert!(share.poll_open(&mut cx).is_pending());
        pool.set_bytes_max(1000);
        assert!(share.poll_open(&mut cx).is_ready());
        assert!(!share.is_short());
    }

    #[test]
    fn sources_wait_while_much_is_on_its_way_to_the_store() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let pool = MemoryPool::new(100);
        let mut share = share(&pool);
        let sent = |state: u64, sent: u64| Held {
            sent,
            ..Held::clean(state)
        };
        share.hold(sent(80, 30));
        assert!(share.poll_open(&mut cx).is_ready());
        share.hold(sent(80, 40));
        assert!(share.poll_open(&mut cx).is_pending());
        assert!(share.should_tell());
        // Nothing goes from memory for it.
        assert!(!share.is_short() && share.excess() == 0);
        share.hold(Held::clean(80));
        assert!(share.poll_open(&mut cx).is_ready());
        share.hold(sent(10, 120));
        assert!(share.poll_open(&mut cx).is_pending());
        share.committed();
        assert!(share.poll_open(&mut cx).is_ready());
    }

    #[test]
    fn sources_wait_for_the_end_of_an_epoch_that_has_changed_much() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let pool = MemoryPool::new(1000);
        let (mut one, mut other) = (share(&pool), share(&pool));
        let changed = |changed: u64| Held {
            changed,
            ..Held::clean(300)
        };
        one.hold(changed(120));
        assert!(one.poll_open(&mut cx).is_ready());
        other.hold(changed(90));
        assert!(one.poll_open(&mut cx).is_pending());
        assert!(one.should_tell());
        // One after the other they begin another one.
        one.hold(changed(0));
        assert!(one.poll_open(&mut cx).is_ready());
        other.hold(changed(0));
        assert!(other.poll_open(&mut cx).is_ready());
    }

    #[test]
    fn after_each_commit_a_task_may_read_once_though_there_is_no_room() {
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let pool = MemoryPool::new(100);
        let (mut one, mut other) = (MemoryShare::of(&pool), share(&pool));
        // It begins with windows that need more than there is.
        one.hold(Held::clean(200));
        other.hold(Held::clean(1));
        for _ in 0..3 {
            assert!(one.poll_open(&mut cx).is_ready());
            one.has_read();
            one.hold(Held::clean(201));
            assert!(one.poll_open(&mut cx).is_pending());
            assert!(one.should_tell() && !other.should_tell());
            one.committed();
            // What it reports right then is as much as before.
            one.hold(Held::clean(202));
            assert!(other.poll_open(&mut cx).is_pending());
        }
    }
}
