//! From frames to elements.
//!
//! Every buffer is copied into memory of its own: aligned, as large as its array says, and not
//! holding on to what came with it. Lengths, offsets and texts are checked: a frame that is no
//! batch is an error, never a panic and never a wrong row.

use std::sync::Arc;

use arrow::{
    array::{ArrayData, ArrayDataBuilder, RecordBatch, RecordBatchOptions, make_array},
    buffer::Buffer,
    datatypes::{DataType, Field, SchemaRef},
    error::ArrowError,
    ipc::{self, root_as_message},
};
use engine::{Barrier, ChangeBatch, Element, Kinds};
use proto::types::{Epoch, RowKind};
use rpc::exchange::{Batch, frame::Element as WireElement};

use super::{FrameError, schema::decode_schema};
use crate::caps::FRAME_ROWS_MAX;

/// Decodes the frames of one channel.
#[derive(Default)]
pub(crate) struct Decoder {
    schema: Option<SchemaRef>,
}

impl Decoder {
    /// The element of a frame.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn decode(&mut self, element: WireElement) -> Result<Element, FrameError> {
        Ok(match element {
            WireElement::Batch(batch) => Element::Batch(self.decode_batch(&batch)?),
            WireElement::Watermark(watermark) => Element::Watermark(watermark),
            WireElement::Idle(_) => Element::Idle,
            WireElement::Barrier(barrier) => Element::Barrier(Barrier {
                epoch: Epoch(barrier.epoch),
                routing: barrier.routing,
            }),
            WireElement::End(_) => Element::End,
        })
    }

    fn decode_batch(&mut self, batch: &Batch) -> Result<ChangeBatch, FrameError> {
        if !batch.schema.is_empty() {
            self.schema = Some(decode_schema(&batch.schema)?);
        }
        let schema = self.schema.as_ref().ok_or_else(|| damaged("no schema"))?;
        let rows = decode_rows(schema, &batch.header, &batch.body)?;
        let kinds = match &batch.kinds {
            kinds if kinds.is_empty() => None,
            kinds if kinds.len() != rows.num_rows() => return Err(damaged("number of kinds")),
            kinds if !kinds.iter().all(|kind| RowKind::from_byte(*kind).is_some()) => {
                return Err(damaged("a kind of row"));
            }
            kinds => Some(Kinds::from_bytes(kinds.to_vec())),
        };
        Ok(ChangeBatch::changes(rows, kinds))
    }
}

fn damaged(what: &str) -> FrameError {
    FrameError::Damaged(what.to_owned())
}

fn decode_rows(schema: &SchemaRef, header: &[u8], body: &[u8]) -> Result<RecordBatch, FrameError> {
    let message = root_as_message(header).map_err(|error| damaged(&error.to_string()))?;
    let batch = message.header_as_record_batch();
    let batch = batch.ok_or_else(|| damaged("another message"))?;
    if batch.compression().is_some() {
        return Err(damaged("compression"));
    }
    let rows = length(batch.length())?;
    if rows > FRAME_ROWS_MAX {
        return Err(damaged("number of rows"));
    }
    let mut columns = Columns {
        nodes: batch.nodes().ok_or_else(|| damaged("no nodes"))?.iter(),
        buffers: batch.buffers().ok_or_else(|| damaged("no buffers"))?.iter(),
        body,
    };
    let mut arrays = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        arrays.push(make_array(columns.next(field)?));
    }
    if columns.nodes.next().is_some() || columns.buffers.next().is_some() {
        return Err(damaged("more than its columns"));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).map_err(invalid)
}

fn invalid(error: ArrowError) -> FrameError {
    FrameError::Damaged(error.to_string())
}

fn length(length: i64) -> Result<usize, FrameError> {
    usize::try_from(length).map_err(|_| damaged("a negative length"))
}

/// Walks over a batch's parts in the order in which they were written: the column's, then its
/// children's.
struct Columns<'a, N, B> {
    nodes: N,
    buffers: B,
    body: &'a [u8],
}

impl<'a, N, B> Columns<'a, N, B>
where
    N: Iterator<Item = &'a ipc::FieldNode>,
    B: Iterator<Item = &'a ipc::Buffer>,
{
    fn next(&mut self, field: &Field) -> Result<ArrayData, FrameError> {
        let node = self
            .nodes
            .next()
            .ok_or_else(|| damaged("a column is missing"))?;
        let rows = length(node.length())?;
        let nulls = length(node.null_count())?;
        if nulls > rows {
            return Err(damaged("number of NULLs of a column"));
        }
        let data_type = field.data_type();
        let builder = ArrayDataBuilder::new(data_type.clone()).len(rows);
        let builder = match data_type {
            DataType::Null if nulls == rows => builder,
            DataType::Null => return Err(damaged("a NULL that is none")),
            DataType::Utf8 | DataType::Binary => {
                let builder = self.validity(builder, rows, nulls)?;
                let builder = builder.add_buffer(self.offsets(rows)?);
                builder.add_buffer(Buffer::from_slice_ref(self.bytes()?))
            }
            DataType::List(child) | DataType::Map(child, _) => {
                let builder = self.validity(builder, rows, nulls)?;
                let builder = builder.add_buffer(self.offsets(rows)?);
                builder.add_child_data(self.next(child)?)
            }
            DataType::Struct(fields) => {
                let mut builder = self.validity(builder, rows, nulls)?;
                for child in fields {
                    builder = builder.add_child_data(self.next(child)?);
                }
                builder
            }
            DataType::Boolean => {
                let builder = self.validity(builder, rows, nulls)?;
                builder.add_buffer(self.values(rows.div_ceil(8), 1)?)
            }
            // Schemas hold no others than these.
            fixed => {
                let width = fixed.primitive_width();
                let width = width.ok_or_else(|| damaged("a type that is not sent"))?;
                let builder = self.validity(builder, rows, nulls)?;
                builder.add_buffer(self.values(rows, width)?)
            }
        };
        builder.build().map_err(invalid)
    }

    /// Which rows are NULL.
    fn validity(
        &mut self,
        builder: ArrayDataBuilder,
        rows: usize,
        nulls: usize,
    ) -> Result<ArrayDataBuilder, FrameError> {
        let bits = self.bytes()?;
        if nulls == 0 {
            return Ok(builder);
        }
        if bits.len() < rows.div_ceil(8) {
            return Err(damaged("validity is cut short"));
        }
        let bits = Buffer::from_slice_ref(bits);
        Ok(builder.null_bit_buffer(Some(bits)).null_count(nulls))
    }

    /// Where the values of each row begin and end.
    fn offsets(&mut self, rows: usize) -> Result<Buffer, FrameError> {
        self.values(rows.saturating_add(1), size_of::<i32>())
    }

    /// As many values as the column has; more, or a part of one, is not for arrow to see.
    fn values(&mut self, count: usize, width: usize) -> Result<Buffer, FrameError> {
        let length = count.checked_mul(width);
        let bytes = self.bytes()?;
        let bytes = length.and_then(|length| bytes.get(..length));
        let bytes = bytes.ok_or_else(|| damaged("a column is cut short"))?;
        Ok(Buffer::from_slice_ref(bytes))
    }

    fn bytes(&mut self) -> Result<&'a [u8], FrameError> {
        let buffer = self
            .buffers
            .next()
            .ok_or_else(|| damaged("a buffer is missing"))?;
        let start = length(buffer.offset())?;
        let end = start.checked_add(length(buffer.length())?);
        let bytes = end.and_then(|end| self.body.get(start..end));
        bytes.ok_or_else(|| damaged("its body is cut short"))
    }
}
