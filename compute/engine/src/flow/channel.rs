//! A channel from one task to another, bounded in bytes. One sender, one receiver.
//!
//! The bound is soft by one element: a sender that sees room may put in an element of any size.
//! Barriers and watermarks always have room, so that they are never stuck behind a full queue of
//! their own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::Element;

#[derive(Debug, Default)]
struct Shared {
    queue: VecDeque<(Element, usize)>,
    bytes: usize,
    /// Bytes of all elements that the receiver has taken.
    taken: u64,
    /// Waits for an element.
    receiver: Option<Waker>,
    /// Waits for room, or for something to be taken.
    sender: Option<Waker>,
    /// The other side is gone.
    closed: bool,
}

/// The end that sends.
#[derive(Debug)]
pub struct ChannelSender {
    shared: Arc<Mutex<Shared>>,
    bytes_max: usize,
}

/// The end that receives.
#[derive(Debug)]
pub struct ChannelReceiver {
    shared: Arc<Mutex<Shared>>,
}

/// A channel that holds about `bytes_max` bytes.
#[must_use]
pub fn channel(bytes_max: usize) -> (ChannelSender, ChannelReceiver) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    (
        ChannelSender {
            shared: Arc::clone(&shared),
            bytes_max,
        },
        ChannelReceiver { shared },
    )
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // A panic while holding the lock leaves a whole queue.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChannelSender {
    /// Whether a batch may be sent; if not, the task is woken when it may.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if shared.bytes < self.bytes_max || shared.closed {
            return Poll::Ready(());
        }
        shared.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether a batch may be sent now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let shared = lock(&self.shared);
        shared.bytes < self.bytes_max || shared.closed
    }

    /// Sends an element. Elements for a receiver that is gone are dropped: its task is being
    /// stopped, and so is this one.
    pub fn send(&self, element: Element) {
        let bytes = element.bytes();
        self.send_as(element, bytes);
    }

    /// Sends an element that counts as `bytes` bytes: the far end of a channel between workers
    /// counts as its near end does.
    pub fn send_as(&self, element: Element, bytes: usize) {
        let mut shared = lock(&self.shared);
        if shared.closed {
            return;
        }
        shared.bytes += bytes;
        shared.queue.push_back((element, bytes));
        if let Some(waker) = shared.receiver.take() {
            drop(shared);
            waker.wake();
        }
    }

    /// Bytes of all elements that the receiver has taken so far, once they are more than `seen`.
    /// Not to be mixed with [`poll_ready`](Self::poll_ready): one of the two wakes the caller.
    pub fn poll_taken(&self, cx: &mut Context<'_>, seen: u64) -> Poll<u64> {
        let mut shared = lock(&self.shared);
        if shared.taken > seen {
            return Poll::Ready(shared.taken);
        }
        shared.sender = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl ChannelReceiver {
    /// The next element. A sender that is gone without [`Element::End`] leaves the channel
    /// pending for ever: its task failed, and the job is about to be stopped.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Element> {
        let mut shared = lock(&self.shared);
        let Some((element, bytes)) = shared.queue.pop_front() else {
            shared.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        shared.bytes -= bytes;
        shared.taken += bytes as u64;
        if let Some(waker) = shared.sender.take() {
            drop(shared);
            waker.wake();
        }
        Poll::Ready(element)
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.closed = true;
        shared.queue.clear();
        if let Some(waker) = shared.sender.take() {
            drop(shared);
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_sender_learns_what_was_taken() {
        let (sender, receiver) = channel(100);
        let taken = |seen| std::future::poll_fn(|cx| sender.poll_taken(cx, seen)).now_or_never();
        let next = || std::future::poll_fn(|cx| receiver.poll_next(cx)).now_or_never();
        sender.send_as(Element::Watermark(1), 60);
        sender.send_as(Element::Watermark(2), 70);
        assert!(!sender.is_ready());
        assert_eq!(taken(0), None);
        assert!(matches!(next(), Some(Element::Watermark(1))));
        assert!(sender.is_ready());
        assert_eq!((taken(0), taken(60)), (Some(60), None));
        assert!(matches!(next(), Some(Element::Watermark(2))));
        assert_eq!((taken(60), taken(130)), (Some(130), None));
    }
}
