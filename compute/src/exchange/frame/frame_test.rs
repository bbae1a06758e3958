//! What is decoded is what was encoded, for all types; what is no frame is refused.

use std::sync::Arc;

use arrow::{
    array::{
        Array as _, ArrayData, ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray,
        RecordBatch, RecordBatchOptions, StringArray, StructArray, UInt32Array, make_array,
        new_null_array,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer},
    datatypes::{DataType as ArrowType, Field as ArrowField, Schema, SchemaRef},
};
use engine::{ChangeBatch, Element, Kinds, schema::arrow_schema};
use proptest::prelude::*;
use proto::types::{DataType, Epoch, Field, LogicalType, RowKind};
use rpc::exchange::{Batch, frame::Element as WireElement};

use super::{Decoder, Encoder, FrameError};
use crate::caps::{FRAME_BYTES_MAX, FRAME_ROWS_MAX};

fn leaf() -> impl Strategy<Value = LogicalType> {
    prop_oneof![
        Just(LogicalType::Null),
        Just(LogicalType::Boolean),
        Just(LogicalType::TinyInt),
        Just(LogicalType::SmallInt),
        Just(LogicalType::Int),
        Just(LogicalType::BigInt),
        Just(LogicalType::Float),
        Just(LogicalType::Double),
        (1..=38u8).prop_map(|precision| LogicalType::Decimal {
            precision,
            scale: precision / 2
        }),
        Just(LogicalType::Char(3)),
        Just(LogicalType::Varchar(u32::MAX)),
        Just(LogicalType::Binary(2)),
        Just(LogicalType::Varbinary(9)),
        Just(LogicalType::Date),
        Just(LogicalType::Time(3)),
        (0..=9u8).prop_map(LogicalType::Timestamp),
        (0..=9u8).prop_map(LogicalType::TimestampLtz),
        Just(LogicalType::IntervalYearMonth),
        Just(LogicalType::IntervalDayTime),
    ]
}

fn logical() -> impl Strategy<Value = LogicalType> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        let nullable = |logical| {
            Box::new(DataType {
                logical,
                nullable: true,
            })
        };
        let typed = inner.clone().prop_map(nullable).boxed();
        // Keys are never NULL.
        let is_key = |logical: &LogicalType| *logical != LogicalType::Null;
        let key = inner.prop_filter("a key", is_key).prop_map(nullable);
        let key = key.boxed();
        prop_oneof![
            typed.clone().prop_map(LogicalType::Array),
            (key.clone(), typed.clone()).prop_map(|(k, v)| LogicalType::Map(k, v)),
            key.prop_map(LogicalType::Multiset),
            prop::collection::vec(typed, 1..4).prop_map(|types| {
                let field = |(index, data_type): (usize, Box<DataType>)| Field {
                    name: format!("f{index}"),
                    data_type: *data_type,
                };
                LogicalType::Row(types.into_iter().enumerate().map(field).collect())
            }),
        ]
    })
}

/// Makes values; the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next(256) as u8).collect()
    }

    fn nulls(&mut self, rows: usize, nullable: bool) -> Option<NullBuffer> {
        let dense = self.next(2) == 0;
        let valid = |random: &mut Self| dense || random.next(3) > 0;
        nullable.then(|| (0..rows).map(|_| valid(self)).collect::<Vec<_>>().into())
    }

    fn lengths(&mut self, rows: usize) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths((0..rows).map(|_| self.next(4)))
    }

    fn array(&mut self, field: &ArrowField, rows: usize) -> ArrayRef {
        let nulls = self.nulls(rows, field.is_nullable());
        match field.data_type() {
            ArrowType::Null => new_null_array(&ArrowType::Null, rows),
            ArrowType::Boolean => {
                let values: Vec<bool> = (0..rows).map(|_| self.next(2) == 0).collect();
                Arc::new(BooleanArray::new(values.into(), nulls))
            }
            ArrowType::Utf8 => {
                let texts = ["", "a", "Grüße", "日本語", "a longer text than the others"];
                let values = (0..rows).map(|_| texts[self.next(texts.len())]);
                let (offsets, values, _) = StringArray::from_iter_values(values).into_parts();
                Arc::new(StringArray::new(offsets, values, nulls))
            }
            ArrowType::Binary => {
                let values: Vec<Vec<u8>> = (0..rows)
                    .map(|_| {
                        let count = self.next(5);
                        self.bytes(count)
                    })
                    .collect();
                let (offsets, values, _) = BinaryArray::from_iter_values(values).into_parts();
                Arc::new(BinaryArray::new(offsets, values, nulls))
            }
            ArrowType::List(child) => {
                let offsets = self.lengths(rows);
                let values = self.array(child, *offsets.last().unwrap() as usize);
                Arc::new(ListArray::new(Arc::clone(child), offsets, values, nulls))
            }
            ArrowType::Map(entries, _) => {
                let offsets = self.lengths(rows);
                let values = self.array(entries, *offsets.last().unwrap() as usize);
                let values = values.as_any().downcast_ref::<StructArray>().unwrap();
                let entries = Arc::clone(entries);
                Arc::new(MapArray::new(
                    entries,
                    offsets,
                    values.clone(),
                    nulls,
                    false,
                ))
            }
            ArrowType::Struct(fields) => {
                let arrays = fields.iter().map(|child| self.array(child, rows)).collect();
                Arc::new(StructArray::new(fields.clone(), arrays, nulls))
            }
            ArrowType::Decimal128(..) => {
                let values: Vec<i128> = (0..rows).map(|_| self.next(19) as i128 - 9).collect();
                self.fixed(field, rows, Buffer::from_vec(values), nulls)
            }
            fixed => {
                let width = fixed.primitive_width().unwrap();
                let bytes = self.bytes(width * rows);
                self.fixed(field, rows, Buffer::from_slice_ref(bytes), nulls)
            }
        }
    }

    fn fixed(
        &mut self,
        field: &ArrowField,
        rows: usize,
        values: Buffer,
        nulls: Option<NullBuffer>,
    ) -> ArrayRef {
        let data = ArrayData::builder(field.data_type().clone());
        make_array(
            data.len(rows)
                .add_buffer(values)
                .nulls(nulls)
                .build()
                .unwrap(),
        )
    }

    fn batch(&mut self, schema: &SchemaRef, rows: usize) -> ChangeBatch {
        // Cut out of a larger one, as operators do.
        let (before, after) = (self.next(9), self.next(9));
        let all = before + rows + after;
        let columns = schema.fields().iter().map(|field| self.array(field, all));
        let options = RecordBatchOptions::new().with_row_count(Some(all));
        let columns = columns.collect();
        let rows_all = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
        let kinds = (self.next(2) == 0).then(|| {
            let kind = |_| RowKind::from_byte(self.next(4) as u8).unwrap();
            Kinds::from_iter_kinds((0..all).map(kind))
        });
        ChangeBatch::changes(rows_all.unwrap(), kinds).slice(before, rows)
    }
}

fn schema(types: Vec<LogicalType>) -> SchemaRef {
    let field = |(index, logical)| Field {
        name: format!("c{index}"),
        data_type: DataType {
            logical,
            nullable: true,
        },
    };
    let fields: Vec<Field> = types.into_iter().enumerate().map(field).collect();
    arrow_schema(&fields)
}

fn decode(decoder: &mut Decoder, frame: WireElement) -> Result<ChangeBatch, FrameError> {
    match decoder.decode(frame)? {
        Element::Batch(batch) => Ok(batch),
        other => panic!("{other:?}"),
    }
}

fn parts(frame: WireElement) -> Batch {
    match frame {
        WireElement::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn batches_of_all_types_come_as_they_went(
        types in prop::collection::vec(logical(), 0..5),
        rows in prop::collection::vec(0..40usize, 1..4),
        seed: u64,
    ) {
        let (mut random, schema) = (Random(seed), schema(types));
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::default());
        for rows in rows {
            let sent = random.batch(&schema, rows);
            let mut frames = encoder.encode(Element::Batch(sent.clone())).unwrap();
            let came = decode(&mut decoder, frames.remove(0)).unwrap();
            prop_assert!(frames.is_empty());
            prop_assert_eq!(&came.rows, &sent.rows);
            let kinds = sent.kinds.filter(|kinds| !kinds.bytes().is_empty());
            prop_assert_eq!(came.kinds, kinds);
        }
    }

    #[test]
    fn a_damaged_frame_is_refused_or_is_a_batch(
        types in prop::collection::vec(logical(), 1..4),
        rows in 1..20usize,
        seed: u64,
        damage in prop::collection::vec((0..4usize, any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of((0..4usize, any::<prop::sample::Index>())),
    ) {
        let schema = schema(types);
        let sent = Random(seed).batch(&schema, rows);
        let mut frames = Encoder::new().encode(Element::Batch(sent)).unwrap();
        let mut batch = parts(frames.remove(0));
        let fields = [&mut batch.schema, &mut batch.header, &mut batch.body, &mut batch.kinds];
        for (field, at, byte) in damage {
            let mut bytes = fields[field].to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            *fields[field] = bytes.into();
        }
        if let Some((field, at)) = cut {
            let length = at.index(fields[field].len() + 1);
            fields[field].truncate(length);
        }
        // Whatever is taken can be worked on.
        if let Ok(batch) = decode(&mut Decoder::default(), WireElement::Batch(batch)) {
            let all: UInt32Array = (0..batch.num_rows() as u32).collect();
            prop_assert_eq!(batch.take(&all).unwrap().num_rows(), batch.num_rows());
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused(
        header in prop::collection::vec(any::<u8>(), 0..200),
        schema in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let batch = Batch { header: header.into(), schema: schema.into(), ..Batch::default() };
        prop_assert!(decode(&mut Decoder::default(), WireElement::Batch(batch)).is_err());
    }
}

#[test]
fn what_is_no_batch_comes_as_it_went() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::default());
    let elements = [
        Element::Watermark(i64::MIN),
        Element::Watermark(-1),
        Element::Idle,
        Element::Barrier(engine::Barrier {
            epoch: Epoch(u64::MAX),
            routing: u32::MAX,
        }),
        Element::End,
    ];
    for element in elements {
        let mut frames = encoder.encode(element.clone()).unwrap();
        let came = decoder.decode(frames.remove(0)).unwrap();
        assert_eq!(format!("{came:?}"), format!("{element:?}"));
        assert!(frames.is_empty());
    }
}

#[test]
fn the_schema_goes_once_and_again_when_it_changes() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::default());
    let one = schema(vec![LogicalType::Int]);
    let same = Arc::new(one.as_ref().clone());
    let two = schema(vec![LogicalType::Varchar(9), LogicalType::Int]);
    let mut random = Random(1);
    for (schema, is_sent) in [(&one, true), (&same, false), (&two, true), (&two, false)] {
        let sent = random.batch(schema, 3);
        let batch = parts(
            encoder
                .encode(Element::Batch(sent.clone()))
                .unwrap()
                .remove(0),
        );
        assert_eq!(!batch.schema.is_empty(), is_sent);
        let came = decode(&mut decoder, WireElement::Batch(batch)).unwrap();
        assert_eq!(came.rows, sent.rows);
    }
}

#[test]
fn large_batches_are_cut() {
    let check = |sent: ChangeBatch| {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::default());
        let mut rows = 0;
        let frames = encoder.encode(Element::Batch(sent.clone())).unwrap();
        assert!(frames.len() > 1);
        for frame in frames {
            let batch = parts(frame);
            assert!(batch.body.len() <= FRAME_BYTES_MAX);
            let came = decode(&mut decoder, WireElement::Batch(batch)).unwrap();
            assert!(came.num_rows() <= FRAME_ROWS_MAX);
            let expected = sent.slice(rows, came.num_rows());
            rows += came.num_rows();
            assert_eq!((came.rows, came.kinds), (expected.rows, expected.kinds));
        }
        assert_eq!(rows, sent.num_rows());
    };
    let kinds = |rows| Some(Kinds::from_iter_kinds((0..rows).map(|_| RowKind::Delete)));
    // One row is much larger than the others.
    let texts = (0..3000).map(|row| "x".repeat(if row == 1 { 3 << 20 } else { 2000 }));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let batch = RecordBatch::try_from_iter([("text", texts)]).unwrap();
    check(ChangeBatch::changes(batch, kinds(3000)));
    let rows = 2 * FRAME_ROWS_MAX + 1;
    let nothing = new_null_array(&ArrowType::Null, rows);
    let batch = RecordBatch::try_from_iter([("nothing", nothing)]).unwrap();
    check(ChangeBatch::changes(batch, kinds(rows)));
}

#[test]
fn what_cannot_be_sent_is_said_so() {
    let row: ArrayRef = Arc::new(StringArray::from_iter_values(["x".repeat(64 << 20)]));
    let batch = RecordBatch::try_from_iter([("text", row)]).unwrap();
    let error = Encoder::new().encode(Element::Batch(ChangeBatch::inserts(batch)));
    assert!(matches!(error, Err(FrameError::Row { .. })), "{error:?}");

    let coded = ArrowType::Dictionary(Box::new(ArrowType::Int8), Box::new(ArrowType::Utf8));
    let field = ArrowField::new("coded", coded, true);
    let batch = RecordBatch::new_empty(Arc::new(Schema::new(vec![field])));
    let error = Encoder::new().encode(Element::Batch(ChangeBatch::inserts(batch)));
    assert!(matches!(error, Err(FrameError::Type(_))), "{error:?}");
}
