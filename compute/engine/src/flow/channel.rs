//! A channel from one task to another, bounded in bytes. One sender, one receiver.
//!
//! The bound is soft by one element: a sender that sees room may put in an element of any size.
//! Barriers and watermarks always have room, so that they are never stuck behind a full queue of
//! their own. For a barrier that overtakes, a sender that is blocked may go beyond the bound, by what
//! it has under way and no more; it waits for the bound again before it takes anything in.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use proto::types::Epoch;

use crate::Element;

#[derive(Debug, Default)]
struct Shared {
    queue: VecDeque<Queued>,
    /// Of all that is in the queue, and of what was taken and is withheld.
    bytes: usize,
    /// Barriers in the queue.
    barriers: usize,
    /// Elements at the front of the queue that were copied for the barrier that overtakes them.
    copied: usize,
    /// Bytes of all elements that the receiver has taken.
    taken: u64,
    /// Waits for an element.
    receiver: Option<Waker>,
    /// Waits for room, or for something to be taken.
    sender: Option<Waker>,
    /// The other side is gone.
    closed: bool,
}

#[derive(Debug)]
struct Queued {
    element: Element,
    bytes: usize,
    /// It was not sent, but comes from the state that the job was restored from.
    is_replayed: bool,
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
    /// Whether a batch may be sent that may be so many bytes `beyond` the bound; if not, the task is
    /// woken when it may.
    pub fn poll_ready(&self, cx: &mut Context<'_>, beyond: usize) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if shared.bytes < self.bytes_max.saturating_add(beyond) || shared.closed {
            return Poll::Ready(());
        }
        shared.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether a batch may be sent now that may be so many bytes `beyond` the bound.
    #[must_use]
    pub fn is_ready(&self, beyond: usize) -> bool {
        let shared = lock(&self.shared);
        shared.bytes < self.bytes_max.saturating_add(beyond) || shared.closed
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
        shared.barriers += usize::from(matches!(element, Element::Barrier(_)));
        shared.queue.push_back(Queued {
            element,
            bytes,
            is_replayed: false,
        });
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
        let Some(next) = shared.queue.pop_front() else {
            shared.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        shared.bytes -= next.bytes;
        shared.copied = shared.copied.saturating_sub(1);
        shared.barriers -= usize::from(matches!(next.element, Element::Barrier(_)));
        if !next.is_replayed {
            shared.taken += next.bytes as u64;
        }
        if let Some(waker) = shared.sender.take() {
            drop(shared);
            waker.wake();
        }
        Poll::Ready(next.element)
    }

    /// A barrier overtakes what is queued, of which nothing has been copied for it yet.
    pub(super) fn begin_copy(&self) {
        lock(&self.shared).copied = 0;
    }

    /// Copies what is queued before the barrier of `epoch` and was not copied before; it stays in
    /// the queue. Whether the barrier is there, or the end; if not, the task is woken when there
    /// is more.
    pub(super) fn copy(
        &self,
        cx: &mut Context<'_>,
        epoch: Epoch,
        mut keep: impl FnMut(&Element),
    ) -> bool {
        let mut shared = lock(&self.shared);
        let from = shared.copied;
        for queued in shared.queue.iter().skip(from) {
            match &queued.element {
                Element::End => return true,
                Element::Barrier(barrier) if barrier.epoch >= epoch => return true,
                // Of an epoch before, whose barrier had overtaken too.
                Element::Barrier(_) => {}
                element => keep(element),
            }
        }
        shared.copied = shared.queue.len();
        shared.receiver = Some(cx.waker().clone());
        false
    }

    /// Puts elements before all that was ever sent: those that a barrier had overtaken when the
    /// state was saved that the job is restored from.
    pub(super) fn replay(&self, elements: Vec<Element>) {
        let mut shared = lock(&self.shared);
        for element in elements.into_iter().rev() {
            let bytes = element.bytes();
            shared.bytes += bytes;
            shared.queue.push_front(Queued {
                element,
                bytes,
                is_replayed: true,
            });
        }
    }

    /// Whether a barrier is in the queue; if not, the caller is woken when something comes.
    pub fn poll_barrier(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if shared.barriers > 0 {
            return Poll::Ready(());
        }
        shared.receiver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What was taken was sent on beyond what there is room for: the sender is to see it as if it
    /// were still here.
    pub fn withhold(&self, bytes: usize) {
        lock(&self.shared).bytes += bytes;
    }

    /// There is room for what was withheld.
    pub fn release(&self, bytes: usize) {
        let mut shared = lock(&self.shared);
        shared.bytes = shared.bytes.saturating_sub(bytes);
        if let Some(waker) = shared.sender.take() {
            drop(shared);
            waker.wake();
        }
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
        assert!(!sender.is_ready(0) && sender.is_ready(31));
        assert_eq!(taken(0), None);
        assert!(matches!(next(), Some(Element::Watermark(1))));
        assert!(sender.is_ready(0));
        assert_eq!((taken(0), taken(60)), (Some(60), None));
        assert!(matches!(next(), Some(Element::Watermark(2))));
        assert_eq!((taken(60), taken(130)), (Some(130), None));
    }

    #[test]
    fn what_was_sent_on_too_early_takes_room_until_there_is_some_for_it() {
        let (sender, receiver) = channel(100);
        let next = || std::future::poll_fn(|cx| receiver.poll_next(cx)).now_or_never();
        let barrier = || std::future::poll_fn(|cx| receiver.poll_barrier(cx)).now_or_never();
        sender.send_as(Element::Watermark(1), 120);
        assert!(barrier().is_none());
        sender.send_as(Element::barrier(Epoch(1)), 1);
        assert!(barrier().is_some() && next().is_some());
        receiver.withhold(120);
        assert!(!sender.is_ready(0));
        receiver.release(120);
        assert!(sender.is_ready(0) && next().is_some() && barrier().is_none());
    }

    #[test]
    fn what_a_barrier_overtakes_is_copied_once_and_stays() {
        let (sender, receiver) = channel(100);
        let next = || std::future::poll_fn(|cx| receiver.poll_next(cx)).now_or_never();
        let mut kept = Vec::new();
        let mut copy = || {
            let mut cx = Context::from_waker(Waker::noop());
            let mut keep = |element: &Element| kept.push(format!("{element:?}"));
            let done = receiver.copy(&mut cx, Epoch(2), &mut keep);
            (done, std::mem::take(&mut kept))
        };
        receiver.replay(vec![Element::Watermark(1), Element::Watermark(2)]);
        sender.send(Element::barrier(Epoch(1)));
        sender.send(Element::Watermark(3));
        receiver.begin_copy();
        let saved = ["Watermark(1)", "Watermark(2)", "Watermark(3)"].map(str::to_owned);
        assert_eq!(copy(), (false, saved.to_vec()));
        assert!(matches!(next(), Some(Element::Watermark(1))));
        sender.send(Element::Idle);
        assert_eq!(copy(), (false, vec!["Idle".to_owned()]));
        sender.send(Element::barrier(Epoch(2)));
        sender.send(Element::Watermark(4));
        assert_eq!(copy(), (true, Vec::new()));
        assert!(matches!(next(), Some(Element::Watermark(2))));
    }
}
