//! From elements to frames.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    ipc::{
        MetadataVersion,
        writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
    },
};
use engine::{ChangeBatch, Element};
use rpc::{
    caps::MESSAGE_BYTES_MAX,
    exchange::{Barrier as WireBarrier, Batch, End, Idle, frame::Element as WireElement},
};

use super::{FrameError, schema::check_schema};
use crate::caps::{FRAME_BYTES_MAX, FRAME_ROWS_MAX};

/// Room in a message for all that is not a batch's body.
const MESSAGE_REST_BYTES: usize = 1 << 20;

/// Of buffers within a body: the least, since the far end copies them anyway.
const BUFFER_ALIGNMENT: usize = 8;

/// Encodes the elements of one channel.
pub(crate) struct Encoder {
    /// What the far end knows.
    schema: Option<SchemaRef>,
    options: IpcWriteOptions,
    context: IpcWriteContext,
    dictionaries: DictionaryTracker,
}

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder {
            schema: None,
            options: IpcWriteOptions::try_new(BUFFER_ALIGNMENT, false, MetadataVersion::V5)
                .expect("8 is an alignment of the format"),
            context: IpcWriteContext::default(),
            dictionaries: DictionaryTracker::new(true),
        }
    }

    /// The frames of an element: one, or several for a large batch.
    ///
    /// # Errors
    /// When a row is too large.
    pub(crate) fn encode(&mut self, element: Element) -> Result<Vec<WireElement>, FrameError> {
        Ok(match element {
            Element::Batch(batch) => {
                let mut frames = Vec::with_capacity(1);
                self.encode_batch(&batch, &mut frames)?;
                frames
            }
            Element::Watermark(watermark) => vec![WireElement::Watermark(watermark)],
            Element::Idle => vec![WireElement::Idle(Idle {})],
            Element::Barrier(barrier) => vec![WireElement::Barrier(WireBarrier {
                epoch: barrier.epoch.0,
                routing: barrier.routing,
            })],
            Element::End => vec![WireElement::End(End {})],
        })
    }

    fn encode_batch(
        &mut self,
        batch: &ChangeBatch,
        frames: &mut Vec<WireElement>,
    ) -> Result<(), FrameError> {
        let schema = self.encode_schema(&batch.rows)?;
        let rows = batch.num_rows();
        if rows > FRAME_ROWS_MAX {
            return self.encode_parts(batch, rows.div_ceil(FRAME_ROWS_MAX), schema, frames);
        }
        let (_, encoded) = IpcDataGenerator::default()
            .encode(
                &batch.rows,
                &mut self.dictionaries,
                &self.options,
                &mut self.context,
            )
            .map_err(FrameError::Encode)?;
        let bytes = encoded.arrow_data.len();
        if bytes > FRAME_BYTES_MAX && rows > 1 {
            return self.encode_parts(batch, bytes.div_ceil(FRAME_BYTES_MAX), schema, frames);
        }
        if bytes > MESSAGE_BYTES_MAX - MESSAGE_REST_BYTES {
            return Err(FrameError::Row { bytes });
        }
        let kinds = batch.kinds.as_ref().map(|kinds| kinds.bytes().to_vec());
        frames.push(WireElement::Batch(Batch {
            schema: schema.into(),
            header: encoded.ipc_message.into(),
            body: encoded.arrow_data.into(),
            kinds: kinds.unwrap_or_default().into(),
        }));
        Ok(())
    }

    /// Cuts a batch into about `count` parts.
    fn encode_parts(
        &mut self,
        batch: &ChangeBatch,
        count: usize,
        schema: Vec<u8>,
        frames: &mut Vec<WireElement>,
    ) -> Result<(), FrameError> {
        let rows = batch.num_rows();
        let step = (rows / count.max(2)).max(1);
        let first = frames.len();
        for offset in (0..rows).step_by(step) {
            let part = batch.slice(offset, step.min(rows - offset));
            self.encode_batch(&part, frames)?;
        }
        if let Some(WireElement::Batch(batch)) = frames.get_mut(first) {
            batch.schema = schema.into();
        }
        Ok(())
    }

    /// The schema's message if the far end does not know it, else nothing.
    fn encode_schema(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, FrameError> {
        let schema = rows.schema_ref();
        let is_known = |known: &SchemaRef| Arc::ptr_eq(known, schema) || known == schema;
        if self.schema.as_ref().is_some_and(is_known) {
            return Ok(Vec::new());
        }
        check_schema(schema)?;
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut self.dictionaries,
            &self.options,
        );
        self.schema = Some(Arc::clone(schema));
        Ok(encoded.ipc_message)
    }
}
