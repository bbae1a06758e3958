//! CAST and TRY_CAST between SQL types, column by column.
//!
//! CAST of text that does not parse fails; TRY_CAST gives NULL. Numbers that are too big wrap
//! around (integers) or become NULL (DECIMAL), as the dialect has it.

mod from_text;
mod nested;
mod numeric;
mod parse;
mod temporal;
mod to_text;

use arrow::array::ArrayRef;
use engine::schema::arrow_type;
use proto::types::LogicalType;

use super::{EvalError, ExprError};

pub(crate) use numeric::{constant_double_to_float, decimal_to_double};
pub(crate) use parse::{parse_date, parse_decimal, parse_timestamp, parse_unscaled};
pub(crate) use temporal::{OUT_OF_RANGE, timestamps};

/// What happens to a value that cannot be converted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// CAST: the row's evaluation fails.
    Fail,
    /// TRY_CAST: NULL.
    Try,
}

/// Converts a column.
pub(crate) type Convert = Box<dyn Fn(&ArrayRef) -> Result<ArrayRef, EvalError> + Send + Sync>;

/// A conversion between two types.
pub(crate) struct Cast {
    pub(crate) convert: Convert,
    pub(crate) can_fail: bool,
    pub(crate) cost: u32,
}

impl Cast {
    fn total(cost: u32, convert: Convert) -> Cast {
        Cast {
            convert,
            can_fail: false,
            cost,
        }
    }

    fn partial(mode: Mode, cost: u32, convert: Convert) -> Cast {
        Cast {
            convert,
            can_fail: mode == Mode::Fail,
            cost,
        }
    }
}

/// The conversion between two types.
pub(crate) fn build(from: &LogicalType, to: &LogicalType, mode: Mode) -> Result<Cast, ExprError> {
    use LogicalType as T;
    let cast = match (from, to) {
        (from, to) if from == to => Some(identity()),
        (T::Null, _) => {
            let data_type = arrow_type(to);
            Some(Cast::total(
                0,
                Box::new(move |array| Ok(arrow::array::new_null_array(&data_type, array.len()))),
            ))
        }
        (_, T::Char(_) | T::Varchar(_)) => to_text::build(from, to),
        (T::Binary(_) | T::Varbinary(_), T::Binary(_) | T::Varbinary(_)) => {
            to_text::bytes_to_bytes(to)
        }
        (T::Char(_) | T::Varchar(_), _) => from_text::build(to, mode),
        (from, to) if (from.is_numeric() || *from == T::Boolean) && is_number_like(to) => {
            numeric::build(from, to, mode)
        }
        (from, to) if from.is_interval() && to.is_numeric() => numeric::build_from_interval(to),
        (T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_), _) => {
            nested::build(from, to, mode)?
        }
        _ => temporal::build(from, to, mode),
    };
    cast.ok_or_else(|| ExprError::UnsupportedCast {
        from: from.to_string(),
        to: to.to_string(),
    })
}

fn is_number_like(logical: &LogicalType) -> bool {
    logical.is_numeric() || *logical == LogicalType::Boolean
}

fn identity() -> Cast {
    Cast::total(0, Box::new(|array| Ok(array.clone())))
}

/// The error of a value that cannot be converted.
fn cannot_cast(value: &str, to: &LogicalType) -> EvalError {
    let mut value = value.to_owned();
    if let Some((end, _)) = value.char_indices().nth(80) {
        value.truncate(end);
        value.push('…');
    }
    EvalError::Cast {
        value,
        to: to.to_string(),
    }
}
