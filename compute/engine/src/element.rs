//! What flows along an edge.

use proto::types::Epoch;

use crate::ChangeBatch;

/// Event time in milliseconds since 1970-01-01 00:00:00 UTC.
pub type Timestamp = i64;

/// Before all event time: no watermark yet.
pub const TIMESTAMP_MIN: Timestamp = i64::MIN;
/// After all event time: the watermark at the end of bounded input.
pub const TIMESTAMP_MAX: Timestamp = i64::MAX;

/// The end of an epoch in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Barrier {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// The routing that is in force after it: a higher one than before makes tasks change to it
    /// as the barrier passes them.
    pub routing: u32,
}

/// One element of a stream, in order.
#[derive(Clone, Debug)]
pub enum Element {
    /// Rows.
    Batch(ChangeBatch),
    /// No row with an event time ≤ this one follows (but late ones). Never goes back.
    Watermark(Timestamp),
    /// The stream has no data for now and does not hold back its receivers' watermark; the next
    /// batch or watermark ends it.
    Idle,
    /// All before belongs to epochs up to this one, all after to later ones.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

impl Element {
    /// A barrier as operators pass it among each other; the task alone knows the routing.
    #[must_use]
    pub fn barrier(epoch: Epoch) -> Element {
        Element::Barrier(Barrier { epoch, routing: 0 })
    }

    /// Bytes of memory that the element holds on to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Element::Batch(batch) => batch.bytes(),
            _ => size_of::<Element>(),
        }
    }
}
