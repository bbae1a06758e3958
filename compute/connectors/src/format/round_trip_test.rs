//! Whatever rows are written in a format, the same are read back.

use proptest::prelude::*;
use proto::{
    plan::{
        CsvFormat, DebeziumJsonFormat, FormatSpec, JsonFormat, TimestampFormat, format_spec::Format,
    },
    types::{DataType, Field, LogicalType},
};

use super::*;
use crate::{
    column::{Column, Data, Rows},
    testing::lines,
    value::Values,
};

/// Appends a value that `seed` decides, or NULL.
fn push(column: &mut Column, seed: &mut impl Iterator<Item = u64>, nulls: bool) {
    let number = seed.next().unwrap_or(0);
    if nulls && number.is_multiple_of(5) {
        return column.push_null();
    }
    let logical = column.logical.clone();
    let count = (number % 4) as usize;
    match &mut column.data {
        Data::Null => {}
        Data::Boolean(values) => values.push(number.is_multiple_of(2)),
        Data::I8(values) => values.push(number as i8),
        Data::I16(values) => values.push(number as i16),
        Data::I32(values) => values.push(match logical {
            LogicalType::Date => number as i32 % 1_000_000,
            LogicalType::Time(_) => (number % 86_400) as i32 * 1000,
            _ => number as i32,
        }),
        Data::I64(values) => values.push(match logical {
            LogicalType::BigInt => number as i64,
            _ => number as i64 % 10_000_000_000_000,
        }),
        Data::F32(values) => values.push(f32::from_bits(number as u32)),
        Data::F64(values) => values.push(f64::from_bits(number)),
        Data::I128(values) => values.push(i128::from(number as i64 % 10_000_000_000)),
        Data::Bytes { values, .. } => {
            let characters = [
                "a", "ü", "\"", "\\", "\n", ";x", ",", "😀", "\u{1}", "#", " ",
            ];
            for _ in 0..count {
                let pick = seed.next().unwrap_or(0) as usize % characters.len();
                values.extend_from_slice(characters[pick].as_bytes());
            }
            return column.close();
        }
        Data::List { items, .. } => {
            for _ in 0..count {
                push(items, seed, nulls);
            }
            return column.close();
        }
        Data::Map { keys, values, .. } => {
            for key in 0..count {
                if let Data::Bytes { values, .. } = &mut keys.data {
                    values.extend_from_slice(format!("k{key}").as_bytes());
                }
                keys.close();
                push(values, seed, nulls);
            }
            return column.close();
        }
        Data::Struct(columns) => columns
            .iter_mut()
            .for_each(|column| push(column, seed, nulls)),
    }
    column.mark_valid();
}

fn scalar() -> impl Strategy<Value = LogicalType> {
    prop_oneof![
        Just(LogicalType::Boolean),
        Just(LogicalType::TinyInt),
        Just(LogicalType::SmallInt),
        Just(LogicalType::Int),
        Just(LogicalType::BigInt),
        Just(LogicalType::Float),
        Just(LogicalType::Double),
        Just(LogicalType::Decimal {
            precision: 12,
            scale: 3
        }),
        Just(LogicalType::STRING),
        Just(LogicalType::Date),
        Just(LogicalType::Time(0)),
        Just(LogicalType::Timestamp(3)),
        Just(LogicalType::Timestamp(6)),
        Just(LogicalType::TimestampLtz(9)),
    ]
}

fn any_type() -> impl Strategy<Value = LogicalType> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        let row = |types: Vec<LogicalType>| LogicalType::Row(columns(types));
        prop_oneof![
            inner
                .clone()
                .prop_map(|item| LogicalType::Array(Box::new(item.nullable()))),
            inner.clone().prop_map(|value| LogicalType::Map(
                Box::new(LogicalType::STRING.not_null()),
                Box::new(value.nullable())
            )),
            proptest::collection::vec(inner, 1..4).prop_map(row),
        ]
    })
}

fn columns(types: Vec<LogicalType>) -> Vec<Field> {
    let field = |(index, logical): (usize, LogicalType)| {
        Field::new(
            format!("c{index}"),
            DataType {
                logical,
                nullable: true,
            },
        )
    };
    types.into_iter().enumerate().map(field).collect()
}

fn check(format: Format, types: Vec<LogicalType>, seed: Vec<u64>, nulls: bool) {
    let fields = columns(types);
    let format = FormatSpec {
        format: Some(format),
    };
    let mut rows = Rows::new(&fields);
    let mut seed = seed.into_iter();
    for _ in 0..5 {
        let (_, columns) = rows.parts();
        columns
            .iter_mut()
            .for_each(|column| push(column, &mut seed, nulls));
        rows.complete(proto::types::RowKind::Insert);
    }
    let batch = rows.finish().unwrap();

    let encoder = open_encoder(Some(&format), &fields).unwrap();
    let mut decoder = open_decoder(Some(&format), &fields).unwrap();
    let values = Values::of_columns(&fields, batch.rows.columns()).unwrap();
    for row in 0..batch.num_rows() {
        let mut record = Vec::new();
        encoder
            .encode(&values, row, batch.kind(row), &mut record)
            .unwrap();
        record.pop();
        let shown = String::from_utf8_lossy(&record).into_owned();
        decoder
            .decode(&record, &mut rows)
            .unwrap_or_else(|error| panic!("{error:?}: {shown}"));
    }
    let again = rows.finish().unwrap();
    assert_eq!(lines(&fields, &[again]), lines(&fields, &[batch]));
}

proptest! {
    #[test]
    fn json(
        types in proptest::collection::vec(any_type(), 1..5),
        seed in proptest::collection::vec(any::<u64>(), 200),
        iso in any::<bool>(),
        ignore_nulls in any::<bool>(),
        plain in any::<bool>(),
    ) {
        let style = if iso { TimestampFormat::Iso8601 } else { TimestampFormat::Sql };
        let format = JsonFormat {
            timestamp_format: style as i32,
            encode_ignore_null_fields: ignore_nulls,
            encode_decimal_as_plain_number: plain,
            ..Default::default()
        };
        check(Format::Json(format.clone()), types.clone(), seed.clone(), true);
        let debezium = DebeziumJsonFormat { json: Some(format), schema_include: false };
        check(Format::DebeziumJson(debezium), types, seed, true);
    }

    #[test]
    fn csv(
        types in proptest::collection::vec(scalar(), 1..5),
        seed in proptest::collection::vec(any::<u64>(), 200),
        escape in any::<bool>(),
        scientific in any::<bool>(),
    ) {
        let format = CsvFormat {
            escape_character: if escape { "\\".to_owned() } else { String::new() },
            null_literal: Some("NULL".to_owned()),
            write_bigdecimal_in_scientific_notation: scientific,
            ..Default::default()
        };
        check(Format::Csv(format), types, seed, true);
    }
}
