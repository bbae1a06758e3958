//! Which casts there are: those that a query writes, and those that an INSERT adds by itself.

use proto::types::{DataType, LogicalType};

/// Whether `CAST(from AS to)` exists.
pub(crate) fn explicit_cast_allowed(from: &LogicalType, to: &LogicalType) -> bool {
    use LogicalType as T;
    let nested = |a: &DataType, b: &DataType| explicit_cast_allowed(&a.logical, &b.logical);
    match (from, to) {
        (T::Null, _) => true,
        (_, T::Null) => false,
        (_, to) if to.is_character() => true,
        (from, to) if from.is_character() => {
            !to.is_interval()
                && !matches!(to, T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_))
        }
        (from, to) if from.is_numeric() && to.is_numeric() => true,
        (T::Boolean, to) => *to == T::Boolean || to.is_numeric(),
        (from, T::Boolean) => from.is_integer(),
        (from, to) if from.is_binary() && to.is_binary() => true,
        (T::Date, to) => *to == T::Date || to.is_timestamp(),
        (T::Time(_), to) => matches!(to, T::Time(_)) || to.is_timestamp(),
        (from, T::Date | T::Time(_) | T::Timestamp(_) | T::TimestampLtz(_)) => from.is_timestamp(),
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => nested(a, b),
        (T::Map(k1, v1), T::Map(k2, v2)) => nested(k1, k2) && nested(v1, v2),
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(x, y)| nested(&x.data_type, &y.data_type))
        }
        (from, to) => from == to,
    }
}

/// Whether a value of type `from` goes into a column of type `to` without a written cast.
pub(crate) fn implicit_cast_allowed(from: &LogicalType, to: &LogicalType) -> bool {
    use LogicalType as T;
    let nested = |a: &DataType, b: &DataType| implicit_cast_allowed(&a.logical, &b.logical);
    match (from, to) {
        (T::Null, _) => true,
        (T::Char(_), T::Char(_)) | (T::Char(_) | T::Varchar(_), T::Varchar(_)) => true,
        (from, to) if from.is_binary() && to.is_binary() => true,
        (from, T::Decimal { .. } | T::Double) => from.is_numeric(),
        (from, T::Float) => from.is_exact_numeric() || *from == T::Float,
        (from, T::SmallInt) => matches!(from, T::TinyInt | T::SmallInt),
        (from, T::Int) => matches!(from, T::TinyInt | T::SmallInt | T::Int),
        (from, T::BigInt) => from.is_integer(),
        (from, T::Date) => matches!(from, T::Date | T::Timestamp(_)),
        (from, T::Time(_)) => matches!(from, T::Time(_) | T::Timestamp(_)),
        (from, T::Timestamp(_) | T::TimestampLtz(_)) => from.is_timestamp(),
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => nested(a, b),
        (T::Map(k1, v1), T::Map(k2, v2)) => nested(k1, k2) && nested(v1, v2),
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(x, y)| nested(&x.data_type, &y.data_type))
        }
        (from, to) => from == to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts() {
        let check = |from: &str, to: &str, explicit: bool, implicit: bool| {
            let logical = |text: &str| text.parse::<DataType>().unwrap().logical;
            let (from_type, to_type) = (logical(from), logical(to));
            assert_eq!(
                explicit_cast_allowed(&from_type, &to_type),
                explicit,
                "{from} {to}"
            );
            assert_eq!(
                implicit_cast_allowed(&from_type, &to_type),
                implicit,
                "{from} {to}"
            );
        };
        check("INT", "BIGINT", true, true);
        check("BIGINT", "INT", true, false);
        check("STRING", "INT", true, false);
        check("INT", "STRING", true, false);
        check("STRING", "VARCHAR(3)", true, true);
        check("DATE", "INT", false, false);
        check("INT", "TIMESTAMP(3)", false, false);
        check("TIMESTAMP(3)", "TIMESTAMP_LTZ(3)", true, true);
        check("ARRAY<INT>", "ARRAY<BIGINT>", true, true);
        check("MAP<STRING, INT>", "STRING", true, false);
        check("DOUBLE", "BOOLEAN", false, false);
    }
}
