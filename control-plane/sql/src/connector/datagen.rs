//! `datagen`: random or sequential values per column.

use proto::plan::{DatagenField, DatagenKind, DatagenSpec};
use proto::types::{Field, LogicalType};

use super::Shape;
use super::options::Options;

/// Length of generated STRING and BYTES.
const TEXT_LENGTH: u32 = 100;
/// Elements of generated collections.
const COLLECTION_LENGTH: u32 = 3;

pub(super) fn read(options: &mut Options, shape: &Shape) -> DatagenSpec {
    options.unsupported(&["scan.parallelism"]);
    DatagenSpec {
        rows_per_second: options.integer("rows-per-second", 10_000, 0),
        number_of_rows: options.integer("number-of-rows", 0, 0),
        fields: shape
            .fields
            .iter()
            .map(|column| field(options, column))
            .collect(),
    }
}

fn field(options: &mut Options, column: &Field) -> DatagenField {
    let prefix = format!("fields.{}", column.name);
    options.with_prefix(&prefix, |options| {
        let kinds = [
            ("random", DatagenKind::Random),
            ("sequence", DatagenKind::Sequence),
        ];
        let kind = options.choice("kind", &kinds, DatagenKind::Random);
        let mut field = DatagenField {
            name: column.name.clone(),
            kind: kind.into(),
            null_rate: options.parsed("null-rate", "a number from 0 to 1", 0.0, |text| {
                text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate))
            }),
            ..DatagenField::default()
        };
        match kind {
            DatagenKind::Sequence => sequence(options, column, &mut field),
            _ => random(options, column, &mut field),
        }
        field
    })
}

fn sequence(options: &mut Options, column: &Field, field: &mut DatagenField) {
    let logical = &column.data_type.logical;
    if !logical.is_numeric() && !logical.is_character() {
        let message = format!(
            "column `{}` of type {logical} cannot be a sequence",
            column.name
        );
        options.fail(
            "kind",
            message,
            "numbers and texts can; others take 'random'",
        );
        return;
    }
    for key in ["start", "end"] {
        if !options.has(key) {
            let message = format!("a sequence needs 'fields.{}.{key}'", column.name);
            options.fail("kind", message, "give both 'start' and 'end'");
        }
    }
    field.start = number(options, "start", logical);
    field.end = number(options, "end", logical);
    check_order(options, field, "start");
}

fn random(options: &mut Options, column: &Field, field: &mut DatagenField) {
    let logical = &column.data_type.logical;
    match logical {
        _ if logical.is_numeric() => {
            field.start = number(options, "min", logical);
            field.end = number(options, "max", logical);
            check_order(options, field, "min");
        }
        LogicalType::Timestamp(_) | LogicalType::TimestampLtz(_) => {
            field.max_past_ms = options.duration_ms("max-past", 0);
        }
        // Their type says how long they are.
        LogicalType::Char(length) | LogicalType::Binary(length) => field.length = *length,
        LogicalType::Varchar(limit) | LogicalType::Varbinary(limit) => {
            let unbounded = *limit == i32::MAX as u32;
            let default = if unbounded { TEXT_LENGTH } else { *limit };
            field.length = options.small("length", default, 1);
            field.var_len = options.boolean("var-len", false);
            if field.length > *limit {
                let message = format!("column `{}` cannot hold that length", column.name);
                options.fail("length", message, &format!("{logical} holds up to {limit}"));
            }
        }
        LogicalType::Array(_) | LogicalType::Map(..) | LogicalType::Multiset(_) => {
            field.length = options.small("length", COLLECTION_LENGTH, 0);
        }
        _ => {}
    }
}

/// A bound as text, after a look at whether the column's type can hold it.
fn number(options: &mut Options, key: &str, logical: &LogicalType) -> Option<String> {
    let whole = match logical {
        LogicalType::TinyInt => Some((i64::from(i8::MIN), i64::from(i8::MAX))),
        LogicalType::SmallInt => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
        LogicalType::Int => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        LogicalType::BigInt => Some((i64::MIN, i64::MAX)),
        _ if logical.is_character() => Some((i64::MIN, i64::MAX)),
        _ => None,
    };
    let expected = match (whole, logical) {
        (Some((least, most)), _) => format!("a whole number, {least} to {most}"),
        (None, LogicalType::Decimal { precision, scale }) => {
            format!(
                "a number of at most {} digits before the point",
                precision - scale
            )
        }
        (None, LogicalType::Float) => format!("a number, {:e} to {:e}", f32::MIN, f32::MAX),
        (None, _) => "a number".to_owned(),
    };
    options.parsed(key, &expected, None, |text| {
        let number = || text.parse().ok().filter(|value: &f64| value.is_finite());
        let fits = match (whole, logical) {
            (Some((least, most)), _) => text
                .parse()
                .is_ok_and(|value: i64| (least..=most).contains(&value)),
            (None, LogicalType::Decimal { precision, scale }) => {
                fits_decimal(text, precision - scale)
            }
            (None, LogicalType::Float) => {
                number().is_some_and(|value| value.abs() <= f64::from(f32::MAX))
            }
            (None, _) => number().is_some(),
        };
        fits.then(|| Some(text.to_owned()))
    })
}

/// Whether a text is digits with at most one point, and has no more than so many before it.
fn fits_decimal(text: &str, whole_digits: u8) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && whole.len() + fraction.len() > 0
        && whole.trim_start_matches('0').len() <= usize::from(whole_digits)
}

fn check_order(options: &mut Options, field: &DatagenField, key: &str) {
    let value = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<f64>().ok());
    if let (Some(start), Some(end)) = (value(&field.start), value(&field.end))
        && start > end
    {
        let message = format!("the bounds of `{}` are the wrong way round", field.name);
        options.fail(key, message, "the first must not be above the second");
    }
}
