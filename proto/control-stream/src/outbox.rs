//! What waits to be sent on a stream: bounded in messages and bytes, never waited for.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use rpc::{caps::MESSAGE_BYTES_MAX, control::Message};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::{
    caps::{MESSAGE_OVERHEAD, OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX},
    encode,
};

/// Where messages are put. After the first that does not fit, none is sent: the stream has ended.
#[derive(Clone)]
pub struct Outbox {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
    cut: watch::Sender<bool>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It waits to be sent.
    Done,
    /// The stream has ended.
    Gone,
    /// It was not sent, having so many bytes; the stream goes on.
    TooLarge(usize),
}

/// Where they come out, in order. Ends when the outbox is gone.
pub struct OutboxStream {
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

/// The two ends.
#[must_use]
pub fn outbox() -> (Outbox, OutboxStream) {
    let (sender, messages) = mpsc::channel(OUTBOX_MESSAGES_MAX);
    let bytes = Arc::<AtomicUsize>::default();
    let outbox = Outbox {
        messages: sender,
        bytes: Arc::clone(&bytes),
        cut: watch::Sender::new(false),
    };
    (outbox, OutboxStream { messages, bytes })
}

impl Outbox {
    /// Puts a message; `false`: the other side is gone, or so far behind that it counts as gone.
    pub fn put<T: Serialize>(&self, message: &T) -> bool {
        self.put_bounded(message) == Put::Done
    }

    /// As [`Outbox::put`], but a message that is too large to travel is told from a stream that has
    /// ended.
    pub fn put_bounded<T: Serialize>(&self, message: &T) -> Put {
        if *self.cut.borrow() {
            return Put::Gone;
        }
        let message = encode(message);
        let length = message.json.len();
        if length > MESSAGE_BYTES_MAX - MESSAGE_OVERHEAD {
            return Put::TooLarge(length);
        }
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let fits = before == 0 || before + length <= OUTBOX_BYTES_MAX;
        let put = fits && self.messages.try_send(message).is_ok();
        if put {
            return Put::Done;
        }
        self.cut();
        Put::Gone
    }

    /// Ends the stream.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Waits until the stream is to end.
    pub async fn ended(&self) {
        let mut cut = self.cut.subscribe();
        tokio::select! {
            // The sender is `self`.
            _ = cut.wait_for(|cut| *cut) => {}
            () = self.messages.closed() => {}
        }
    }
}

impl Stream for OutboxStream {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.messages.poll_recv(cx);
        if let Poll::Ready(Some(message)) = &next {
            self.bytes.fetch_sub(message.json.len(), Ordering::Relaxed);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn a_side_that_does_not_read_is_cut_off_and_misses_nothing_in_between() {
        let (outbox, mut stream) = outbox();
        let mut put = 0;
        while outbox.put(&put) {
            put += 1;
        }
        assert_eq!(put, OUTBOX_MESSAGES_MAX);
        assert!(outbox.ended().now_or_never().is_some());
        for expected in 0..10 {
            let message = stream.next().now_or_never().flatten().expect("it waits");
            let number: usize = crate::decode(&message).expect("a number");
            assert_eq!(number, expected);
        }
        assert!(!outbox.put(&put), "there is room again, but one is lost");
    }

    #[test]
    fn bytes_are_bounded_and_what_cannot_travel_is_refused() {
        let (outbox, mut stream) = outbox();
        let large = "x".repeat(MESSAGE_BYTES_MAX);
        assert!(matches!(outbox.put_bounded(&large), Put::TooLarge(_)));
        let half = "x".repeat(OUTBOX_BYTES_MAX / 3 + 1);
        assert!(outbox.put(&half));
        assert!(outbox.put(&half));
        assert!(stream.next().now_or_never().is_some());
        assert!(outbox.put(&half));
        assert_eq!(outbox.put_bounded(&half), Put::Gone);
    }

    #[test]
    fn whoever_waits_hears_that_the_reader_is_gone() {
        let (outbox, stream) = outbox();
        assert!(outbox.ended().now_or_never().is_none());
        drop(stream);
        assert!(outbox.ended().now_or_never().is_some());
        assert!(!outbox.put(&1));
    }
}
