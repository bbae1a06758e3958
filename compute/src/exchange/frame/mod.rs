//! Elements as frames: batches in Arrow's IPC encoding, the schema once per channel, buffers as
//! they lie in memory. No work per row on either side but the check of what came.

mod decode;
mod encode;
mod schema;

#[cfg(test)]
mod frame_test;

use arrow::error::ArrowError;
use rpc::exchange::frame::Element as WireElement;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;

use crate::caps::FRAME_OVERHEAD_BYTES;

/// Why an element cannot be sent, or a frame is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("failed to encode a batch")]
    Encode(#[source] ArrowError),
    #[error("a row of {bytes} bytes is too large to be sent to another worker")]
    Row { bytes: usize },
    #[error("columns of type {0} cannot be sent to another worker")]
    Type(String),
    #[error("a frame is damaged: {0}")]
    Damaged(String),
}

/// What a frame counts against the credit of its channel. Both sides compute it.
pub(crate) fn cost_bytes(element: &WireElement) -> usize {
    let rows = match element {
        WireElement::Batch(batch) => batch.header.len() + batch.body.len() + batch.kinds.len(),
        _ => 0,
    };
    FRAME_OVERHEAD_BYTES + rows
}
