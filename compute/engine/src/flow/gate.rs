//! The way into a task: merges the channels of its inputs, combines their watermarks and aligns
//! their barriers.
//!
//! Per channel: a watermark that never goes back and a status (ACTIVE, IDLE, FINISHED). The
//! combined watermark of an input is the least of its active channels; it never goes back either.
//! A channel at [`TIMESTAMP_MAX`] is about to finish and holds nothing back, but time ends only
//! when all are there: rows of one that is merely idle are still to come.
//! A channel that has delivered the barrier is not read until all have, or until the task lets the
//! barrier overtake what the others have queued ([`overtaking`](super::overtaking)).

use std::task::{Context, Poll};

use planted::Bug;
use proto::types::Epoch;

use super::{channel::ChannelReceiver, overtaking::Copied};
use crate::{Barrier, ChangeBatch, Element, TIMESTAMP_MAX, TIMESTAMP_MIN, Timestamp};

/// What comes out of a gate.
#[derive(Debug)]
pub enum GateEvent {
    /// Rows of an input.
    Batch(usize, ChangeBatch),
    /// The combined watermark of an input went up.
    Watermark(usize, Timestamp),
    /// All channels of an input are idle.
    Idle(usize),
    /// The barrier has come through every channel of every input.
    Barrier(Barrier),
    /// All channels of an input have ended.
    End(usize),
}

/// The inputs of one task.
#[derive(Debug)]
pub struct Gate {
    pub(super) channels: Vec<Channel>,
    inputs: Vec<Input>,
    /// Where the search for the next element starts: channels take turns.
    next: usize,
    pub(super) barrier: Option<Barrier>,
    /// The epoch of the last barrier that has overtaken: channels that it was not in deliver it late.
    pub(super) overtook: Epoch,
    /// Events that one element caused, in order.
    pub(super) pending: std::collections::VecDeque<GateEvent>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) receiver: ChannelReceiver,
    pub(super) input: usize,
    pub(super) watermark: Timestamp,
    pub(super) status: Status,
    /// Has delivered the barrier that is being aligned.
    pub(super) held: bool,
    /// What the last barrier has overtaken here, until all channels have delivered it.
    pub(super) copied: Option<Copied>,
}

impl Channel {
    fn new(receiver: ChannelReceiver, input: usize, status: Status) -> Channel {
        Channel {
            receiver,
            input,
            watermark: TIMESTAMP_MIN,
            status,
            held: false,
            copied: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Active,
    Idle,
    Finished,
}

#[derive(Debug)]
struct Input {
    watermark: Timestamp,
    idle: bool,
    ended: bool,
}

impl Gate {
    /// A gate over the channels of each input.
    #[must_use]
    pub fn new(inputs: Vec<Vec<ChannelReceiver>>) -> Self {
        let input_state = |_: &Vec<_>| Input {
            watermark: TIMESTAMP_MIN,
            idle: false,
            ended: false,
        };
        let states = inputs.iter().map(input_state).collect();
        let mut channels = Vec::new();
        for (input, receivers) in inputs.into_iter().enumerate() {
            let channel = |receiver| Channel::new(receiver, input, Status::Active);
            channels.extend(receivers.into_iter().map(channel));
        }
        Gate {
            channels,
            inputs: states,
            next: 0,
            barrier: None,
            overtook: Epoch::ZERO,
            pending: std::collections::VecDeque::new(),
        }
    }

    /// Right after a barrier: what follows of `input` comes through other channels. Each starts
    /// ACTIVE and holds the input's watermark where it is until its sender has told its own.
    pub fn reroute(&mut self, input: usize, receivers: Vec<ChannelReceiver>) {
        debug_assert!(self.barrier.is_none(), "between two barriers");
        self.channels.retain(|channel| channel.input != input);
        let status = match self.inputs[input].ended {
            true => Status::Finished,
            false => Status::Active,
        };
        let channel = |receiver| Channel::new(receiver, input, status);
        self.channels.extend(receivers.into_iter().map(channel));
        self.next = 0;
    }

    /// Tells again how far the inputs are, as at the start: the task has forgotten it.
    pub fn repeat_time(&mut self) {
        for (input, state) in self.inputs.iter().enumerate() {
            if state.ended {
                self.pending
                    .push_back(GateEvent::Watermark(input, TIMESTAMP_MAX));
                self.pending.push_back(GateEvent::End(input));
            } else {
                if state.watermark > TIMESTAMP_MIN {
                    let event = GateEvent::Watermark(input, state.watermark);
                    self.pending.push_back(event);
                }
                if state.idle {
                    self.pending.push_back(GateEvent::Idle(input));
                }
            }
        }
    }

    /// Whether the task has no inputs from other tasks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The next event.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<GateEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Poll::Ready(event);
            }
            let Some((channel, element)) = self.poll_channels(cx) else {
                return Poll::Pending;
            };
            self.take(channel, element);
        }
    }

    fn poll_channels(&mut self, cx: &mut Context<'_>) -> Option<(usize, Element)> {
        let count = self.channels.len();
        for turn in 0..count {
            let index = (self.next + turn) % count;
            let channel = &mut self.channels[index];
            let held = channel.held && !planted::is(Bug::ReadMisaligned);
            if held || channel.status == Status::Finished || !channel.keep_copied(self.overtook, cx)
            {
                continue;
            }
            if let Poll::Ready(element) = channel.receiver.poll_next(cx) {
                self.next = (index + 1) % count;
                return Some((index, element));
            }
        }
        None
    }

    fn take(&mut self, index: usize, element: Element) {
        let channel = &mut self.channels[index];
        let input = channel.input;
        match element {
            Element::Batch(batch) => {
                channel.status = Status::Active;
                // Rows wake the input; whoever gets them knows it by them.
                self.inputs[input].idle = false;
                self.pending.push_back(GateEvent::Batch(input, batch));
            }
            Element::Watermark(watermark) => {
                channel.status = Status::Active;
                channel.watermark = channel.watermark.max(watermark);
                self.combine(input);
            }
            Element::Idle => {
                channel.status = Status::Idle;
                self.combine(input);
            }
            Element::Barrier(barrier) if barrier.epoch <= self.overtook => {}
            Element::Barrier(barrier) => {
                channel.held = true;
                let expected = *self.barrier.get_or_insert(barrier);
                assert_eq!(
                    expected, barrier,
                    "channels carry the same barriers in the same order"
                );
                self.align();
            }
            Element::End => {
                channel.status = Status::Finished;
                channel.watermark = TIMESTAMP_MAX;
                self.combine(input);
                let ended = |c: &Channel| c.input != input || c.status == Status::Finished;
                if self.channels.iter().all(ended) {
                    self.inputs[input].ended = true;
                    self.pending.push_back(GateEvent::End(input));
                }
                self.align();
            }
        }
    }

    /// Lets the barrier through once every channel that still lives has delivered it.
    fn align(&mut self) {
        let Some(barrier) = self.barrier else { return };
        let passed = |c: &Channel| c.held || c.status == Status::Finished;
        if self.channels.iter().all(passed) {
            self.barrier = None;
            self.channels
                .iter_mut()
                .for_each(|channel| channel.held = false);
            self.pending.push_back(GateEvent::Barrier(barrier));
        }
    }

    fn combine(&mut self, input: usize) {
        let of_input = || {
            self.channels
                .iter()
                .filter(|channel| channel.input == input)
        };
        if of_input().all(|channel| channel.status == Status::Finished) {
            // Ends; the watermark before it is the sender's business.
            return;
        }
        let active = of_input().filter(|channel| channel.status == Status::Active);
        let under_way = active
            .map(|channel| channel.watermark)
            .filter(|watermark| *watermark < TIMESTAMP_MAX);
        let is_idle = |channel: &Channel| channel.status == Status::Idle;
        let (least, any_idle) = (under_way.min(), of_input().any(is_idle));
        let state = &mut self.inputs[input];
        let Some(least) = least.or((!any_idle).then_some(TIMESTAMP_MAX)) else {
            if !state.idle {
                state.idle = true;
                self.pending.push_back(GateEvent::Idle(input));
            }
            return;
        };
        // The same watermark again says that the input is awake.
        let awake = std::mem::take(&mut state.idle);
        if least > state.watermark || awake {
            state.watermark = state.watermark.max(least);
            let watermark = state.watermark;
            self.pending
                .push_back(GateEvent::Watermark(input, watermark));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::flow::{ChannelSender, channel};

    fn gate(inputs: &[usize]) -> (Vec<Vec<ChannelSender>>, Gate) {
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for channels in inputs {
            let (of_input, receiver): (Vec<_>, Vec<_>) =
                (0..*channels).map(|_| channel(1000)).unzip();
            senders.push(of_input);
            receivers.push(receiver);
        }
        (senders, Gate::new(receivers))
    }

    fn barrier(epoch: u64) -> Element {
        Element::barrier(proto::types::Epoch(epoch))
    }

    fn drain(gate: &mut Gate) -> Vec<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut events = Vec::new();
        while let Poll::Ready(event) = gate.poll_next(&mut cx) {
            events.push(format!("{event:?}"));
        }
        events
    }

    #[test]
    fn watermark_is_the_least_of_active_channels_and_never_goes_back() {
        let (senders, mut gate) = gate(&[2]);
        senders[0][0].send(Element::Watermark(10));
        assert!(drain(&mut gate).is_empty());
        senders[0][1].send(Element::Watermark(5));
        assert_eq!(drain(&mut gate), ["Watermark(0, 5)"]);
        senders[0][1].send(Element::Idle);
        assert_eq!(drain(&mut gate), ["Watermark(0, 10)"]);
        // Awake again and behind: the combined watermark stays.
        senders[0][1].send(Element::Watermark(7));
        assert!(drain(&mut gate).is_empty());
        senders[0][0].send(Element::Idle);
        senders[0][1].send(Element::Idle);
        assert_eq!(drain(&mut gate), ["Idle(0)"]);
        senders[0][0].send(Element::Watermark(12));
        assert_eq!(drain(&mut gate), ["Watermark(0, 12)"]);
    }

    #[test]
    fn an_input_falls_asleep_as_often_as_it_wakes() {
        let (senders, mut gate) = gate(&[1]);
        let rows = || {
            let rows =
                arrow::array::RecordBatch::new_empty(arrow::datatypes::Schema::empty().into());
            Element::Batch(ChangeBatch::inserts(rows))
        };
        senders[0][0].send(Element::Watermark(10));
        senders[0][0].send(Element::Idle);
        assert_eq!(drain(&mut gate), ["Watermark(0, 10)", "Idle(0)"]);
        // Rows that do not move the watermark.
        senders[0][0].send(rows());
        assert_eq!(drain(&mut gate).len(), 1);
        senders[0][0].send(Element::Idle);
        assert_eq!(drain(&mut gate), ["Idle(0)"]);
        senders[0][0].send(Element::Watermark(10));
        assert_eq!(drain(&mut gate), ["Watermark(0, 10)"]);
    }

    #[test]
    fn time_does_not_end_while_a_channel_is_idle() {
        let (senders, mut gate) = gate(&[2]);
        senders[0][0].send(Element::Watermark(10));
        senders[0][1].send(Element::Watermark(20));
        senders[0][0].send(Element::Idle);
        assert_eq!(drain(&mut gate), ["Watermark(0, 10)", "Watermark(0, 20)"]);
        senders[0][1].send(Element::Watermark(TIMESTAMP_MAX));
        senders[0][1].send(Element::End);
        assert_eq!(drain(&mut gate), ["Idle(0)"]);
        senders[0][0].send(Element::Watermark(30));
        senders[0][0].send(Element::Watermark(TIMESTAMP_MAX));
        let end = format!("Watermark(0, {TIMESTAMP_MAX})");
        assert_eq!(drain(&mut gate), ["Watermark(0, 30)".to_owned(), end]);
    }

    #[test]
    fn after_a_change_of_the_routing_time_waits_for_the_slowest_new_channel() {
        let (senders, mut gate) = gate(&[2]);
        senders[0][0].send(Element::Watermark(100));
        senders[0][1].send(Element::Watermark(200));
        assert_eq!(drain(&mut gate), ["Watermark(0, 100)"]);
        senders[0].iter().for_each(|sender| sender.send(barrier(1)));
        assert_eq!(drain(&mut gate).len(), 1);
        // The split that is at 100 moves to the task that stood at 200.
        let (moved, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| channel(1000)).unzip();
        gate.reroute(0, receivers);
        moved[0].send(Element::Watermark(300));
        assert!(
            drain(&mut gate).is_empty(),
            "the other has not told its own"
        );
        moved[1].send(Element::Watermark(100));
        assert!(drain(&mut gate).is_empty());
        moved[1].send(Element::Watermark(150));
        assert_eq!(drain(&mut gate), ["Watermark(0, 150)"]);
    }

    #[test]
    fn barriers_align_over_all_inputs() {
        let (senders, mut gate) = gate(&[1, 2]);
        senders[0][0].send(barrier(3));
        senders[0][0].send(Element::Watermark(9));
        senders[1][0].send(barrier(3));
        senders[1][1].send(Element::Watermark(1));
        assert!(drain(&mut gate).is_empty());
        senders[1][1].send(barrier(3));
        assert_eq!(
            drain(&mut gate),
            [
                "Barrier(Barrier { epoch: Epoch(3), routing: 0 })",
                "Watermark(0, 9)"
            ]
        );
    }

    #[test]
    fn an_ended_channel_holds_nothing_back() {
        let (senders, mut gate) = gate(&[2]);
        senders[0][0].send(Element::Watermark(1));
        senders[0][1].send(Element::End);
        senders[0][0].send(barrier(1));
        senders[0][0].send(Element::End);
        assert_eq!(
            drain(&mut gate),
            [
                "Watermark(0, 1)",
                "Barrier(Barrier { epoch: Epoch(1), routing: 0 })",
                "End(0)"
            ]
        );
    }
}
