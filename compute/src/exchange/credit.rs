//! How much a channel may send. Granted by the receiver as it takes elements.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

/// Bytes that one channel may still send; negative when its last frame was larger than what was
/// left.
#[derive(Debug)]
pub(super) struct Credit {
    bytes: AtomicI64,
    /// How far below nothing it may be for a barrier.
    overdraft: i64,
    waiting: AtomicWaker,
}

impl Credit {
    pub(super) fn new(bytes: u64, overdraft_bytes: usize) -> Credit {
        Credit {
            bytes: AtomicI64::new(signed(bytes)),
            overdraft: signed(overdraft_bytes as u64),
            waiting: AtomicWaker::new(),
        }
    }

    /// The receiver has taken `bytes`.
    pub(super) fn grant(&self, bytes: u64) {
        self.bytes.fetch_add(signed(bytes), Ordering::AcqRel);
        self.waiting.wake();
    }

    /// A frame that counts as `bytes` goes out.
    pub(super) fn spend(&self, bytes: usize) {
        self.bytes.fetch_sub(signed(bytes as u64), Ordering::AcqRel);
    }

    /// Bytes that have gone out without credit.
    pub(super) fn missing(&self) -> usize {
        let missing = self.bytes.load(Ordering::Acquire).min(0).unsigned_abs();
        usize::try_from(missing).unwrap_or(usize::MAX)
    }

    /// Whether a frame may go out that there is no credit for, because a barrier is behind it.
    pub(super) fn may_overdraw(&self) -> bool {
        self.bytes.load(Ordering::Acquire) > -self.overdraft
    }

    /// Whether a frame may go out; if not, the task is woken when one may.
    pub(super) fn poll_any(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.bytes.load(Ordering::Acquire) > 0 {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        // It may have come before the waker was there.
        if self.bytes.load(Ordering::Acquire) > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_frame_larger_than_the_credit_goes_out_and_is_paid_for() {
        let credit = Credit::new(10, 20);
        let any = || std::future::poll_fn(|cx| credit.poll_any(cx)).now_or_never();
        credit.spend(25);
        assert!(any().is_none());
        credit.grant(15);
        assert!(any().is_none());
        credit.grant(1);
        assert!(any().is_some());
        assert!(credit.may_overdraw() && credit.missing() == 0);
        credit.spend(21);
        assert!(!credit.may_overdraw() && credit.missing() > 0);
    }
}
