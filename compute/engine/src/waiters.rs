//! Tasks whose sources wait until there is room, of whatever there is too little.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Tasks that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Somebody has been told that they do.
    told: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Waiters {
    /// Ready if `is_open` says so; if not, the task is woken when there is room.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, is_open: impl Fn() -> bool) -> Poll<()> {
        if is_open() {
            return Poll::Ready(());
        }
        {
            let mut waiting = self.waiting();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        // It may have opened before the waker was there.
        match is_open() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Whether it is for the caller to ask for a barrier: once each time tasks have to wait.
    pub(crate) fn should_tell(&self, is_open: bool) -> bool {
        !is_open && !self.told.swap(true, Ordering::SeqCst)
    }

    /// There is room.
    pub(crate) fn wake(&self) {
        self.told.store(false, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        // A panic while holding the lock leaves a whole list.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
