//! Barriers that overtake: a task that has waited long enough for its slower channels saves its state
//! at once, and with it what these have queued (Chandy and Lamport's snapshot; Flink calls it an
//! unaligned checkpoint).
//!
//! ```text
//!            overtaken, copied          │ of the next epoch
//!  channel  [b3  w  b2  b1] ◀ task      │     and on: what comes until the barrier has come too
//!           the barrier comes behind b3 ┘
//! ```
//! What is copied stays in its queue and is read as if nothing had happened. It is copied from the
//! queue, not as it is read: a task that is blocked and reads nothing has all of it as soon as the
//! barrier is in the queue. A barrier that comes after it has overtaken says nothing any more.
//!
//! Invariant: what was copied is all that the channel has brought between the state that is saved of
//! its sender and that of its receiver, in order, with the watermark as of then before it.

use std::task::{Context, Poll};

use proto::types::Epoch;

use super::{
    Gate, GateEvent,
    gate::{Channel, Status},
};
use crate::{Barrier, Element, TIMESTAMP_MIN};

/// A channel of which so much is copied is not read before its barrier is there: its sender, who is
/// late with it, waits then.
const COPIED_BYTES_MAX: usize = 16 << 20;

/// What a barrier has overtaken in one channel.
#[derive(Clone, Debug)]
pub struct OvertakenChannel {
    /// Input of the task.
    pub input: usize,
    /// Channel among those of the input: the sender's index among its tasks.
    pub channel: usize,
    /// Rows, watermarks and idleness, in order.
    pub elements: Vec<Element>,
}

/// What has been copied of a channel.
#[derive(Debug)]
pub(super) struct Copied {
    /// Where time stands before the elements.
    time: Vec<Element>,
    elements: Vec<Element>,
    bytes: usize,
    /// The barrier is there.
    is_whole: bool,
}

impl Channel {
    /// Copies what is queued before the barrier that has overtaken, if there is such a one. Whether
    /// the channel may be read.
    pub(super) fn keep_copied(&mut self, epoch: Epoch, cx: &mut Context<'_>) -> bool {
        let Some(copied) = self.copied.as_mut().filter(|copied| !copied.is_whole) else {
            return true;
        };
        let Copied {
            elements, bytes, ..
        } = copied;
        let keep = |element: &Element| {
            *bytes += element.bytes();
            elements.push(element.clone());
        };
        copied.is_whole = self.receiver.copy(cx, epoch, keep);
        copied.is_whole || copied.bytes < COPIED_BYTES_MAX
    }

    /// The barrier overtakes what is queued, unless it has come.
    fn overtake(&mut self) {
        let has_come = std::mem::take(&mut self.held) || self.status == Status::Finished;
        let mut time = Vec::new();
        if self.watermark > TIMESTAMP_MIN {
            time.push(Element::Watermark(self.watermark));
        }
        if self.status == Status::Idle {
            time.push(Element::Idle);
        }
        self.receiver.begin_copy();
        self.copied = (!has_come).then(|| Copied {
            time,
            elements: Vec::new(),
            bytes: 0,
            is_whole: false,
        });
    }
}

impl Gate {
    /// What was taken from the channels and has not been given out.
    pub fn next_pending(&mut self) -> Option<GateEvent> {
        self.pending.pop_front()
    }

    /// The barrier passes now, before it has come through all channels. Nothing is pending; what the
    /// others bring until they deliver it comes from [`Gate::poll_overtaken`].
    pub fn overtake(&mut self, barrier: Barrier) {
        debug_assert!(self.pending.is_empty(), "what was taken is before it");
        self.barrier = None;
        self.overtook = barrier.epoch;
        self.channels.iter_mut().for_each(Channel::overtake);
    }

    /// All that the last barrier has overtaken, once it has come through every channel; to be asked
    /// once for each barrier that overtakes.
    pub fn poll_overtaken(&mut self, cx: &mut Context<'_>) -> Poll<Vec<OvertakenChannel>> {
        let mut is_whole = true;
        for channel in &mut self.channels {
            channel.keep_copied(self.overtook, cx);
            is_whole &= channel.copied.as_ref().is_none_or(|copied| copied.is_whole);
        }
        if !is_whole {
            return Poll::Pending;
        }
        let mut overtaken = Vec::new();
        let mut place = (usize::MAX, 0);
        for channel in &mut self.channels {
            place = match place {
                (input, index) if input == channel.input => (input, index + 1),
                _ => (channel.input, 0),
            };
            let copied = channel.copied.take();
            let Some(copied) = copied.filter(|copied| !copied.elements.is_empty()) else {
                continue;
            };
            let (input, channel) = place;
            let elements = copied.time.into_iter().chain(copied.elements).collect();
            overtaken.push(OvertakenChannel {
                input,
                channel,
                elements,
            });
        }
        Poll::Ready(overtaken)
    }

    /// Before anything is read: a channel brings what a barrier had overtaken there, and then what is
    /// sent. `false`: there is no such channel.
    #[must_use]
    pub fn replay(&mut self, saved: OvertakenChannel) -> bool {
        let channels = self.channels.iter();
        let mut of_input = channels.filter(|channel| channel.input == saved.input);
        let channel = of_input.nth(saved.channel);
        if let Some(channel) = channel {
            channel.receiver.replay(saved.elements);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::flow::{ChannelSender, channel};

    fn barrier(epoch: u64) -> Element {
        Element::barrier(Epoch(epoch))
    }

    fn overtake(gate: &mut Gate, epoch: u64) {
        gate.overtake(Barrier {
            epoch: Epoch(epoch),
            routing: 0,
        });
    }

    fn overtaken(gate: &mut Gate) -> Option<Vec<String>> {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(overtaken) = gate.poll_overtaken(&mut cx) else {
            return None;
        };
        let text = |of: &OvertakenChannel| format!("{}.{} {:?}", of.input, of.channel, of.elements);
        Some(overtaken.iter().map(text).collect())
    }

    fn next(gate: &mut Gate) -> String {
        let mut cx = Context::from_waker(Waker::noop());
        match gate.poll_next(&mut cx) {
            Poll::Ready(event) => format!("{event:?}"),
            Poll::Pending => "nothing".to_owned(),
        }
    }

    fn gate() -> (Vec<ChannelSender>, Gate) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| channel(1000)).unzip();
        let mut receivers = receivers.into_iter();
        let first = receivers.next().into_iter().collect();
        (senders, Gate::new(vec![first, receivers.collect()]))
    }

    #[test]
    fn what_comes_until_the_barrier_has_come_everywhere_was_overtaken() {
        let (senders, mut gate) = gate();
        senders[0].send(barrier(16));
        senders[1].send(Element::Watermark(5));
        senders[2].send(Element::Watermark(7));
        assert_eq!(next(&mut gate), "Watermark(1, 5)");
        assert_eq!(next(&mut gate), "nothing");
        senders[1].send(Element::Watermark(6));
        overtake(&mut gate, 16);
        senders[2].send(Element::Watermark(9));
        assert_eq!(overtaken(&mut gate), None);
        // Read before all of it is there.
        assert_eq!(next(&mut gate), "Watermark(1, 6)");
        senders[1].send(barrier(16));
        senders[1].send(Element::Watermark(8));
        assert_eq!(next(&mut gate), "Watermark(1, 8)");
        senders[2].send(Element::End);
        let all = overtaken(&mut gate).expect("the barrier is everywhere, or the end");
        assert_eq!(
            all,
            [
                "1.0 [Watermark(5), Watermark(6)]",
                "1.1 [Watermark(7), Watermark(9)]"
            ]
        );
    }

    #[test]
    fn what_is_not_read_is_overtaken_again_and_late_barriers_say_nothing() {
        let (senders, mut gate) = gate();
        for sender in &senders {
            sender.send(Element::Watermark(1));
            sender.send(barrier(16));
        }
        overtake(&mut gate, 16);
        assert_eq!(overtaken(&mut gate).expect("all is there").len(), 3);
        senders[1].send(Element::Idle);
        for sender in &senders {
            sender.send(barrier(17));
        }
        overtake(&mut gate, 17);
        let again = overtaken(&mut gate).expect("all is there");
        assert_eq!(again[1], "1.0 [Watermark(1), Idle]");
        for sender in &senders {
            sender.send(barrier(18));
        }
        let events = std::iter::repeat_with(|| next(&mut gate));
        let events: Vec<String> = events.take_while(|event| event != "nothing").collect();
        let barrier = "Barrier(Barrier { epoch: Epoch(18), routing: 0 })";
        assert_eq!(events.last().map(String::as_str), Some(barrier));
        let barriers = events.iter().filter(|event| event.starts_with("Barrier"));
        assert_eq!(barriers.count(), 1, "it waits for all again");
    }

    #[test]
    fn what_is_replayed_comes_first() {
        let (senders, mut gate) = gate();
        senders[2].send(Element::Watermark(4));
        senders[1].send(Element::Watermark(9));
        let saved = |channel| OvertakenChannel {
            input: 1,
            channel,
            elements: vec![Element::Watermark(2), Element::Watermark(3)],
        };
        assert!(gate.replay(saved(1)) && !gate.replay(saved(2)));
        let events: Vec<String> = (0..4).map(|_| next(&mut gate)).collect();
        let expected = [2, 3, 4].map(|watermark| format!("Watermark(1, {watermark})"));
        assert_eq!(events[..3], expected);
        assert_eq!(events[3], "nothing");
    }
}
