//! `datagen`: random or sequential values per column. Option names and defaults are those of Flink's
//! connector; `rate.schedule`, `rate.catch-up` and the kind `zipf` are ours:
//!
//! - `'rate.schedule' = '1000 for 30 s, 2000 for 30 s'`: rows per second, one rate after the other, and
//!   again from the first;
//! - `'rate.catch-up' = 'true'`: each row is due at a fixed time after the job's creation, and what could
//!   not be made in time comes as fast as it can, as from a source that goes on whatever happens to the
//!   job; else the rate is kept from wherever the job goes on;
//! - `'fields.k.kind' = 'zipf'`: whole numbers from `min` to `max`, the n-th of them with a probability as
//!   1 / n^`exponent` (1 if it is not given).

use proto::plan::{DatagenField, DatagenKind, DatagenRate, DatagenSpec};
use proto::types::{Field, LogicalType};

use super::Shape;
use super::options::Options;
use super::units;

/// Length of generated STRING and BYTES.
const TEXT_LENGTH: u32 = 100;
/// Elements of generated collections.
const COLLECTION_LENGTH: u32 = 3;
/// Rates of a schedule: they are gone through for every row.
const RATES_MAX: usize = 100;
/// Exponent of a Zipf distribution.
const EXPONENT: f64 = 1.0;

pub(super) fn read(options: &mut Options, shape: &Shape) -> DatagenSpec {
    options.unsupported(&["scan.parallelism"]);
    let rows_per_second = options.integer("rows-per-second", 10_000, 0);
    let rates = rates(options);
    let catch_up = options.boolean("rate.catch-up", false);
    if catch_up && rates.is_empty() && rows_per_second == 0 {
        options.fail(
            "rate.catch-up",
            "rows that come as fast as they can have nothing to catch up with",
            "give 'rows-per-second' or 'rate.schedule'",
        );
    }
    DatagenSpec {
        rows_per_second,
        rates,
        catch_up,
        number_of_rows: options.integer("number-of-rows", 0, 0),
        fields: shape
            .fields
            .iter()
            .map(|column| field(options, column))
            .collect(),
    }
}

/// Rates that follow each other.
fn rates(options: &mut Options) -> Vec<DatagenRate> {
    let expected = format!(
        "up to {RATES_MAX} rates with their durations, one of them above 0: '1000 for 30 s, 2000 for 1 min'"
    );
    let rates = options.parsed("rate.schedule", &expected, Vec::new(), |text| {
        let rates: Vec<DatagenRate> = text.split(',').map(rate).collect::<Option<_>>()?;
        let some = rates.iter().any(|rate| rate.rows_per_second > 0);
        (some && rates.len() <= RATES_MAX).then_some(rates)
    });
    if !rates.is_empty() && options.has("rows-per-second") {
        options.fail(
            "rate.schedule",
            "'rate.schedule' and 'rows-per-second' contradict each other",
            "leave one of them out",
        );
    }
    rates
}

/// `1000 for 30 s`.
fn rate(text: &str) -> Option<DatagenRate> {
    let (rate, duration) = text.split_once(" for ")?;
    let duration_ms = units::duration_ms(duration)?;
    let rate = DatagenRate {
        rows_per_second: rate.trim().parse().ok()?,
        duration_ms,
    };
    (duration_ms > 0).then_some(rate)
}

fn field(options: &mut Options, column: &Field) -> DatagenField {
    let prefix = format!("fields.{}", column.name);
    options.with_prefix(&prefix, |options| {
        let kinds = [
            ("random", DatagenKind::Random),
            ("sequence", DatagenKind::Sequence),
            ("zipf", DatagenKind::Zipf),
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
            DatagenKind::Zipf => zipf(options, column, &mut field),
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
    demand(options, column, "a sequence", ["start", "end"]);
    field.start = number(options, "start", logical);
    field.end = number(options, "end", logical);
    check_order(options, field, "start");
}

fn zipf(options: &mut Options, column: &Field, field: &mut DatagenField) {
    let logical = &column.data_type.logical;
    if !is_whole(logical) {
        let message = format!("column `{}` of type {logical} cannot be zipf", column.name);
        options.fail("kind", message, "whole numbers can");
    }
    demand(options, column, "a zipf column", ["min", "max"]);
    field.start = number(options, "min", logical);
    field.end = number(options, "max", logical);
    check_order(options, field, "min");
    field.exponent = options.parsed("exponent", "a number above 0", EXPONENT, |text| {
        let exponent = text.parse().ok();
        exponent.filter(|exponent: &f64| exponent.is_finite() && *exponent > 0.0)
    });
}

fn is_whole(logical: &LogicalType) -> bool {
    matches!(
        logical,
        LogicalType::TinyInt | LogicalType::SmallInt | LogicalType::Int | LogicalType::BigInt
    )
}

/// Complains unless both bounds are given.
fn demand(options: &mut Options, column: &Field, what: &str, keys: [&str; 2]) {
    for key in keys {
        if !options.has(key) {
            let message = format!("{what} needs 'fields.{}.{key}'", column.name);
            let [first, second] = keys;
            options.fail(
                "kind",
                message,
                &format!("give both '{first}' and '{second}'"),
            );
        }
    }
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
