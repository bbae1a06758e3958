//! SQL values as text: how formats read and write numbers, decimals and times. The text forms
//! are Java's, because Flink's formats have them.
//!
//! Knows types; knows no format.

mod decimal;
mod number;
mod plain;
mod push;
mod time;

pub(crate) use decimal::{parse_decimal, write_decimal, write_decimal_scientific};
pub(crate) use number::{write_f32, write_f64};
pub(crate) use plain::{write_integer, write_plain};
pub(crate) use push::{TimestampStyle, not_a, push_text};
pub(crate) use time::{write_date, write_time, write_timestamp};
