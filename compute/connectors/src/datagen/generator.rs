//! Values of one column.

use proto::{
    plan::{DatagenField, DatagenKind},
    types::{DataType, Field, LogicalType},
};

use super::zipf::Zipf;
use crate::{
    column::{Column, Data},
    random::{self, Words, below},
    text::{parse_decimal, write_integer},
};

/// Length of texts and of collections that the plan says nothing about: those inside others.
const TEXT_LENGTH: u32 = 100;
const COLLECTION_LENGTH: u32 = 3;
const MS_PER_DAY: i64 = 86_400_000;

/// Makes the values of one column.
#[derive(Debug)]
pub(super) struct Generator {
    words: random::Field,
    value: Value,
    /// Of 2^32 values so many are NULL.
    nulls: u64,
}

/// How a value is made.
#[derive(Debug)]
enum Value {
    /// `start + row`, in the unit of the column's last decimal place.
    Sequence {
        start: i128,
        step: i128,
    },
    /// `start + row`.
    FloatSequence {
        start: f64,
    },
    Integer {
        least: i128,
        most: i128,
    },
    /// The least number most often.
    Zipf {
        least: i128,
        numbers: Zipf,
    },
    Float {
        least: f64,
        most: f64,
    },
    Boolean,
    Text {
        length: u32,
        variable: bool,
    },
    Bytes {
        length: u32,
        variable: bool,
    },
    /// Up to so many milliseconds before the row's time.
    Past {
        ms: u64,
    },
    List {
        length: u32,
        item: Box<Value>,
    },
    Map {
        length: u32,
        key: Box<Value>,
        value: Box<Value>,
    },
    Row(Vec<Value>),
    Null,
}

impl Generator {
    /// For a column of the table; `number` tells it from the others.
    pub(super) fn new(field: &Field, spec: &DatagenField, number: u64) -> Result<Self, String> {
        let context = |cause: String| format!("datagen column `{}`: {cause}", field.name);
        let logical = &field.data_type.logical;
        let value = match spec.kind() {
            DatagenKind::Sequence => sequence(logical, spec),
            DatagenKind::Zipf => zipf(logical, spec),
            DatagenKind::Random | DatagenKind::Unspecified => random_value(logical, spec),
        };
        Ok(Generator {
            words: random::Field::new(0, number),
            value: value.map_err(context)?,
            nulls: (f64::from(spec.null_rate) * 4_294_967_296.0) as u64,
        })
    }

    /// Appends the value of row `row`, whose time is `time_ms`.
    pub(super) fn push(&self, column: &mut Column, row: u64, time_ms: i64) {
        let mut words = self.words.words(row);
        if words.next() >> 32 < self.nulls {
            column.push_null();
        } else {
            self.value.push(column, row, time_ms, &mut words);
        }
    }
}

/// How many rows the column has values for, if it is a sequence.
pub(super) fn sequence_rows(spec: &DatagenField) -> Result<Option<u64>, String> {
    if spec.kind() != DatagenKind::Sequence {
        return Ok(None);
    }
    let (start, end) = (bound(&spec.start, "start")?, bound(&spec.end, "end")?);
    let rows = match (start.parse::<i64>(), end.parse::<i64>()) {
        (Ok(start), Ok(end)) => i128::from(end) - i128::from(start) + 1,
        _ => (number(end, "end")? - number(start, "start")?).floor() as i128 + 1,
    };
    Ok(Some(u64::try_from(rows.max(0)).unwrap_or(u64::MAX)))
}

fn bound<'s>(text: &'s Option<String>, name: &str) -> Result<&'s str, String> {
    let text = text.as_deref();
    text.ok_or_else(|| format!("a sequence needs its {name}"))
}

fn number(text: &str, name: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("the sequence's {name} `{text}` is not a number"))
}

fn sequence(logical: &LogicalType, spec: &DatagenField) -> Result<Value, String> {
    if !logical.is_numeric() && !logical.is_character() {
        return Err(format!("{logical} cannot be a sequence"));
    }
    let start = bound(&spec.start, "start")?;
    if matches!(logical, LogicalType::Float | LogicalType::Double) {
        let start = number(start, "start")?;
        return Ok(Value::FloatSequence { start });
    }
    let scale = match logical {
        LogicalType::Decimal { scale, .. } => *scale,
        _ => 0,
    };
    let start = parse_decimal(start.as_bytes(), 38, scale)
        .map_err(|_| format!("the sequence's start `{start}` is not a number"))?;
    let step = 10_i128.pow(u32::from(scale));
    Ok(Value::Sequence { start, step })
}

fn zipf(logical: &LogicalType, spec: &DatagenField) -> Result<Value, String> {
    let (lowest, highest) = match logical {
        LogicalType::TinyInt => (i64::from(i8::MIN), i64::from(i8::MAX)),
        LogicalType::SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
        LogicalType::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
        LogicalType::BigInt => (i64::MIN, i64::MAX),
        other => return Err(format!("{other} cannot be 'zipf', whole numbers can")),
    };
    let bound = |text: &Option<String>, name: &str| {
        let text = text.as_ref();
        let text = text.ok_or_else(|| format!("'zipf' needs its {name}"))?;
        let number = text.parse().ok();
        let number = number.filter(|number: &i64| (lowest..=highest).contains(number));
        number.ok_or_else(|| format!("the {name} `{text}` is not a value of the column"))
    };
    let (least, most) = (bound(&spec.start, "min")?, bound(&spec.end, "max")?);
    if least > most {
        return Err("the lower bound is above the upper".to_owned());
    }
    if !(spec.exponent.is_finite() && spec.exponent > 0.0) {
        return Err("the exponent must be above 0".to_owned());
    }
    Ok(Value::Zipf {
        least: i128::from(least),
        numbers: Zipf::new(most.abs_diff(least).saturating_add(1), spec.exponent),
    })
}

fn random_value(logical: &LogicalType, spec: &DatagenField) -> Result<Value, String> {
    let variable = spec.var_len;
    let or = |default: u32| {
        if spec.length == 0 {
            default
        } else {
            spec.length
        }
    };
    let inner = |data_type: &DataType| {
        random_value(&data_type.logical, &DatagenField::default()).map(Box::new)
    };
    Ok(match logical {
        LogicalType::Null => Value::Null,
        LogicalType::Boolean => Value::Boolean,
        LogicalType::TinyInt => integer(spec, 0, i8::MIN.into(), i8::MAX.into())?,
        LogicalType::SmallInt => integer(spec, 0, i16::MIN.into(), i16::MAX.into())?,
        LogicalType::Int => integer(spec, 0, i32::MIN.into(), i32::MAX.into())?,
        LogicalType::BigInt => integer(spec, 0, i64::MIN.into(), i64::MAX.into())?,
        LogicalType::IntervalYearMonth => integer(spec, 0, 0, 120_000)?,
        LogicalType::IntervalDayTime => integer(spec, 0, 0, 1_000 * i128::from(MS_PER_DAY))?,
        LogicalType::Decimal { precision, scale } => {
            let most = 10_i128.pow(u32::from(*precision)) - 1;
            integer(spec, *scale, -most, most)?
        }
        LogicalType::Float => float(spec, f64::from(f32::MAX))?,
        LogicalType::Double => float(spec, f64::MAX)?,
        LogicalType::Char(length) => Value::Text {
            length: *length,
            variable,
        },
        LogicalType::Varchar(limit) => Value::Text {
            length: or(TEXT_LENGTH.min(*limit)),
            variable,
        },
        LogicalType::Binary(length) => Value::Bytes {
            length: *length,
            variable,
        },
        LogicalType::Varbinary(limit) => Value::Bytes {
            length: or(TEXT_LENGTH.min(*limit)),
            variable,
        },
        LogicalType::Date
        | LogicalType::Time(_)
        | LogicalType::Timestamp(_)
        | LogicalType::TimestampLtz(_) => Value::Past {
            ms: spec.max_past_ms,
        },
        LogicalType::Array(item) => Value::List {
            length: or(COLLECTION_LENGTH),
            item: inner(item)?,
        },
        LogicalType::Map(key, value) => Value::Map {
            length: or(COLLECTION_LENGTH),
            key: inner(key)?,
            value: inner(value)?,
        },
        LogicalType::Multiset(item) => Value::Map {
            length: or(COLLECTION_LENGTH),
            key: inner(item)?,
            value: Box::new(Value::Integer { least: 1, most: 10 }),
        },
        LogicalType::Row(fields) => Value::Row(
            fields
                .iter()
                .map(|field| inner(&field.data_type).map(|value| *value))
                .collect::<Result<_, _>>()?,
        ),
    })
}

fn integer(spec: &DatagenField, scale: u8, least: i128, most: i128) -> Result<Value, String> {
    let bound = |text: &Option<String>, default: i128| match text {
        None => Ok(default),
        Some(text) => parse_decimal(text.as_bytes(), 38, scale)
            .ok()
            .filter(|value| (least..=most).contains(value))
            .ok_or_else(|| format!("the bound `{text}` is not a value of the column")),
    };
    let (least, most) = (bound(&spec.start, least)?, bound(&spec.end, most)?);
    if least > most {
        return Err("the lower bound is above the upper".to_owned());
    }
    Ok(Value::Integer { least, most })
}

fn float(spec: &DatagenField, most: f64) -> Result<Value, String> {
    let bound = |text: &Option<String>, default: f64| match text {
        None => Ok(default),
        Some(text) => text
            .parse()
            .ok()
            .filter(|value: &f64| value.abs() <= most)
            .ok_or_else(|| format!("the bound `{text}` is not a value of the column")),
    };
    let (least, most) = (bound(&spec.start, 0.0)?, bound(&spec.end, most)?);
    if least > most {
        return Err("the lower bound is above the upper".to_owned());
    }
    Ok(Value::Float { least, most })
}

impl Value {
    fn push(&self, column: &mut Column, row: u64, time_ms: i64, words: &mut Words) {
        match self {
            Value::Null => return column.push_null(),
            Value::Sequence { start, step } => {
                return push_number(column, start + i128::from(row) * step);
            }
            Value::Integer { least, most } => {
                return push_number(
                    column,
                    least + uniform(words, (most - least) as u128) as i128,
                );
            }
            Value::Zipf { least, numbers } => {
                return push_number(column, least + i128::from(numbers.draw(words)) - 1);
            }
            Value::Float { least, most } => {
                let unit = (words.next() >> 11) as f64 / (1_u64 << 53) as f64;
                // The difference of the bounds may be beyond all numbers.
                let value = least * (1.0 - unit) + most * unit;
                push_float(column, value.clamp(*least, *most));
            }
            Value::FloatSequence { start } => push_float(column, start + row as f64),
            Value::Boolean => {
                if let Data::Boolean(values) = &mut column.data {
                    values.push(words.next() >> 63 == 1);
                }
            }
            Value::Text { length, variable } => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                push_bytes(column, *length, *variable, words, |byte| {
                    HEX[usize::from(byte & 15)]
                });
                return column.close();
            }
            Value::Bytes { length, variable } => {
                push_bytes(column, *length, *variable, words, |byte| byte);
                return column.close();
            }
            Value::Past { ms } => {
                let past = below(words.next(), ms.saturating_add(1)) as i64;
                push_time(column, time_ms - past);
            }
            Value::List { length, item } => {
                if let Data::List { items, .. } = &mut column.data {
                    (0..*length).for_each(|_| item.push(items, row, time_ms, words));
                }
                return column.close();
            }
            Value::Map { length, key, value } => {
                if let Data::Map { keys, values, .. } = &mut column.data {
                    let first = keys.len();
                    for _ in 0..*length {
                        key.push(keys, row, time_ms, words);
                        // A key stands once in a map: of two BOOLEANs the second may be in vain.
                        if keys.repeats_since(first) {
                            keys.truncate(keys.len() - 1);
                        } else {
                            value.push(values, row, time_ms, words);
                        }
                    }
                }
                return column.close();
            }
            Value::Row(fields) => {
                if let Data::Struct(columns) = &mut column.data {
                    for (field, column) in fields.iter().zip(columns) {
                        field.push(column, row, time_ms, words);
                    }
                }
            }
        }
        column.mark_valid();
    }
}

/// From 0 to `most`.
fn uniform(words: &mut Words, most: u128) -> u128 {
    match u64::try_from(most) {
        Ok(u64::MAX) => u128::from(words.next()),
        Ok(most) => u128::from(below(words.next(), most + 1)),
        Err(_) => {
            let word = (u128::from(words.next()) << 64) | u128::from(words.next());
            word % most.saturating_add(1)
        }
    }
}

/// Appends a number (for DECIMAL: unscaled) that the column's type can hold.
fn push_number(column: &mut Column, value: i128) {
    match &mut column.data {
        Data::I8(values) => values.push(value as i8),
        Data::I16(values) => values.push(value as i16),
        Data::I32(values) => values.push(value as i32),
        Data::I64(values) => values.push(value as i64),
        Data::F32(values) => values.push(value as f32),
        Data::F64(values) => values.push(value as f64),
        Data::I128(values) => values.push(value),
        Data::Bytes { values, .. } => {
            write_integer(values, value as i64);
            return column.close();
        }
        _ => return column.push_null(),
    }
    column.mark_valid();
}

fn push_float(column: &mut Column, value: f64) {
    match &mut column.data {
        Data::F32(values) => values.push(value as f32),
        Data::F64(values) => values.push(value),
        _ => {}
    }
}

fn push_bytes(
    column: &mut Column,
    length: u32,
    variable: bool,
    words: &mut Words,
    byte: impl Fn(u8) -> u8,
) {
    let Data::Bytes { values, .. } = &mut column.data else {
        return;
    };
    let mut left = match variable {
        true => 1 + below(words.next(), u64::from(length.max(1))) as usize,
        false => length as usize,
    };
    while left > 0 {
        let word = words.next().to_le_bytes();
        let piece = left.min(word.len());
        values.extend(word[..piece].iter().map(|random| byte(*random)));
        left -= piece;
    }
}

fn push_time(column: &mut Column, time_ms: i64) {
    let per_ms = match column.logical {
        LogicalType::Timestamp(precision) | LogicalType::TimestampLtz(precision) => match precision
        {
            0..=3 => 1,
            4..=6 => 1_000,
            _ => 1_000_000,
        },
        _ => 1,
    };
    match &mut column.data {
        Data::I32(values) if column.logical == LogicalType::Date => {
            values.push(time_ms.div_euclid(MS_PER_DAY) as i32);
        }
        Data::I32(values) => values.push(time_ms.rem_euclid(MS_PER_DAY) as i32),
        Data::I64(values) => values.push(time_ms * per_ms),
        _ => {}
    }
}
