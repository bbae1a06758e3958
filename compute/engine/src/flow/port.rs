//! The way out of a task: one port per exchange, one channel per receiving task.
//!
//! Small parts are collected per receiver until they make a good batch, and the watermark behind
//! them is held with them. Barriers, idleness and the end send both first; so does the task when
//! it has nothing else to do, or when the flush deadline has come.

use std::task::{Context, Poll};

use arrow::compute::concat_batches;
use proto::types::{KeyGroupMap, RowKind};

use super::{channel::ChannelSender, partition::Partitioner};
use crate::{ChangeBatch, Element, Kinds, Timestamp, operator::OperatorError};

/// Bytes beyond its bound that a channel takes for a barrier that overtakes: what one element in its
/// sender may cause. Who has more than that waits for room, and the barrier with it.
const HURRY_BYTES_MAX: usize = 16 << 20;

/// An output of a task.
#[derive(Debug)]
pub struct OutputPort {
    partitioner: Partitioner,
    targets: Vec<Target>,
    /// Parts of at least this many rows are not collected.
    batch_rows_min: usize,
    /// Bytes beyond their bound that channels take.
    beyond: usize,
    /// The end is sent, and receivers read no further.
    ended: bool,
}

#[derive(Debug)]
struct Target {
    sender: ChannelSender,
    collected: Vec<ChangeBatch>,
    collected_rows: usize,
    /// Behind the collected rows.
    watermark: Option<Timestamp>,
}

impl OutputPort {
    /// A port to receivers, in the order of their task indexes.
    #[must_use]
    pub fn new(
        partitioner: Partitioner,
        senders: Vec<ChannelSender>,
        batch_rows_min: usize,
    ) -> Self {
        OutputPort {
            partitioner,
            targets: senders.into_iter().map(Target::new).collect(),
            batch_rows_min,
            beyond: 0,
            ended: false,
        }
    }

    /// A barrier that overtakes waits for what is under way in the task: channels take that beyond
    /// their bound. Or not any more.
    pub fn hurry(&mut self, hurries: bool) {
        self.beyond = if hurries { HURRY_BYTES_MAX } else { 0 };
    }

    /// Right after a barrier: other receivers get what follows, in the order of their task indexes.
    /// The old channels end. `time` is what the new ones must know first: a watermark, idleness.
    pub fn reroute(
        &mut self,
        senders: Vec<ChannelSender>,
        map: Option<KeyGroupMap>,
        time: &[Element],
    ) {
        if let Some(map) = map {
            self.partitioner.reroute(map);
        }
        let targets = senders.into_iter().map(Target::new).collect();
        for old in std::mem::replace(&mut self.targets, targets) {
            debug_assert!(old.collected.is_empty(), "a barrier sends all");
            if !self.ended {
                old.sender.send(Element::End);
            }
        }
        for target in &self.targets {
            for element in time {
                target.sender.send(element.clone());
            }
        }
    }

    /// Whether the end is sent.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The end was sent for rows that were all there were; now there may be more.
    pub fn revive(&mut self) {
        self.ended = false;
    }

    /// Whether a batch may be sent, whomever it is for; if not, the task is woken when it may.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Ready(());
        for target in &self.targets {
            // At every one, for which of them the next batch is for is not known yet.
            if target.sender.poll_ready(cx, self.beyond).is_pending() {
                ready = Poll::Pending;
            }
        }
        ready
    }

    /// Whether a batch may be sent now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let is_ready = |target: &Target| target.sender.is_ready(self.beyond);
        self.targets.iter().all(is_ready)
    }

    /// Sends an element: rows to those who get them, everything else to all.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn send(&mut self, element: Element) -> Result<(), OperatorError> {
        let batch = match element {
            Element::Batch(batch) => batch,
            Element::Watermark(watermark) => {
                for target in &mut self.targets {
                    if target.collected_rows > 0 {
                        target.watermark = Some(watermark);
                    } else {
                        target.sender.send(Element::Watermark(watermark));
                    }
                }
                return Ok(());
            }
            // Barriers go on after the end, but nobody takes them from the channel.
            _ if self.ended => return Ok(()),
            control => {
                self.ended = matches!(control, Element::End);
                for target in &mut self.targets {
                    target.flush()?;
                    target.sender.send(control.clone());
                }
                return Ok(());
            }
        };
        let count = self.targets.len();
        for (index, part) in self.partitioner.split(batch, count)? {
            let target = &mut self.targets[index];
            if target.collected.is_empty() && part.num_rows() >= self.batch_rows_min {
                target.sender.send(Element::Batch(part));
                continue;
            }
            target.collected_rows += part.num_rows();
            target.collected.push(part);
            if target.collected_rows >= self.batch_rows_min {
                target.flush()?;
            }
        }
        Ok(())
    }

    /// Sends what is collected: the flush deadline has come.
    ///
    /// # Errors
    /// When batches cannot be put together.
    pub fn flush(&mut self) -> Result<(), OperatorError> {
        self.targets.iter_mut().try_for_each(Target::flush)
    }

    /// Whether rows are held back.
    #[must_use]
    pub fn holds_rows(&self) -> bool {
        self.targets.iter().any(|target| target.collected_rows > 0)
    }
}

impl Target {
    fn new(sender: ChannelSender) -> Target {
        Target {
            sender,
            collected: Vec::new(),
            collected_rows: 0,
            watermark: None,
        }
    }

    fn flush(&mut self) -> Result<(), OperatorError> {
        self.collected_rows = 0;
        match std::mem::take(&mut self.collected) {
            parts if parts.is_empty() => {}
            parts => self.sender.send(Element::Batch(concat(parts)?)),
        }
        if let Some(watermark) = self.watermark.take() {
            self.sender.send(Element::Watermark(watermark));
        }
        Ok(())
    }
}

fn concat(mut parts: Vec<ChangeBatch>) -> Result<ChangeBatch, OperatorError> {
    if parts.len() == 1
        && let Some(part) = parts.pop()
    {
        return Ok(part);
    }
    let rows = concat_batches(
        parts[0].rows.schema_ref(),
        parts.iter().map(|part| &part.rows),
    )?;
    let all_inserts = parts.iter().all(|part| part.kinds.is_none());
    let kinds = (!all_inserts).then(|| {
        let kinds_of = |part: &ChangeBatch| match &part.kinds {
            Some(kinds) => kinds.bytes().to_vec(),
            None => vec![RowKind::Insert as u8; part.num_rows()],
        };
        Kinds::from_bytes(parts.iter().flat_map(kinds_of).collect())
    });
    Ok(ChangeBatch::changes(rows, kinds))
}
