//! How much output a job may owe: rows that wait in sinks for their barrier, for their commit and
//! for their publisher. Where it is used up, sources stop reading: a slow sink or an absent reader
//! holds its job back instead of filling memory. Barriers still pass, since they are what empties
//! the sinks' buffers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use crate::waiters::Waiters;

/// Shared by the sources, sinks and publishers of one generation of a job.
#[derive(Clone, Debug)]
pub struct OutputBudget {
    shared: Arc<Shared>,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Shared {
    owed: AtomicU64,
    waiters: Waiters,
}

impl OutputBudget {
    /// A budget of about `bytes_max` bytes; the bound is soft by what is in flight.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        OutputBudget {
            shared: Arc::default(),
            bytes_max,
        }
    }

    /// `bytes` more are to be published.
    pub fn owe(&self, bytes: u64) {
        self.shared.owed.fetch_add(bytes, Ordering::SeqCst);
    }

    /// `bytes` are outside, or given up.
    pub fn settle(&self, bytes: u64) {
        let less = |owed: u64| Some(owed.saturating_sub(bytes));
        let before = self
            .shared
            .owed
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        let before = before.unwrap_or_else(|unchanged| unchanged);
        if before >= self.bytes_max && before.saturating_sub(bytes) < self.bytes_max {
            self.shared.waiters.wake();
        }
    }

    /// Whether sources may read; if not, the task is woken when they may.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.waiters.poll(cx, || self.is_open())
    }

    /// Whether it is for the caller to ask for a barrier: once each time the budget is used up.
    #[must_use]
    pub fn should_tell(&self) -> bool {
        self.shared.waiters.should_tell(self.is_open())
    }

    fn is_open(&self) -> bool {
        self.shared.owed.load(Ordering::SeqCst) < self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Waker};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn sources_wait_while_too_much_is_owed() {
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let budget = OutputBudget::new(10);
        budget.owe(9);
        assert!(budget.poll_open(&mut cx).is_ready());
        assert!(!budget.should_tell());
        budget.owe(9);
        assert!(budget.poll_open(&mut cx).is_pending());
        assert!(budget.should_tell());
        assert!(!budget.should_tell(), "told once");
        budget.settle(4);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        budget.settle(5);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(budget.poll_open(&mut cx).is_ready());
        // Told anew when it is used up anew; more than is owed cannot be settled.
        budget.settle(100);
        budget.owe(10);
        assert!(budget.should_tell());
    }
}
