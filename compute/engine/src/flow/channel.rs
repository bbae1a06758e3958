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
    /// Waits for an element.
    receiver: Option<Waker>,
    /// Waits for room.
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
