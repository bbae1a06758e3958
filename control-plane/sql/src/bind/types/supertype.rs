//! The type that a mix of types becomes: CASE, COALESCE, set operations, comparisons.

use proto::types::{DataType, Field, LogicalType};

use super::decimal::decimal_of;

/// The narrowest type that holds all of `types`; `None` if they do not mix. Nullable if one is.
pub(crate) fn least_restrictive(types: &[DataType]) -> Option<DataType> {
    let nullable = types.iter().any(|t| t.nullable);
    let mut result = LogicalType::Null;
    for data_type in types {
        result = common(&result, &data_type.logical)?;
    }
    Some(DataType {
        logical: result,
        nullable: nullable || types.is_empty(),
    })
}

/// The type in which `left` and `right` compare; `None` if they do not. Character types compare
/// with each other as they are, and with other types after a cast to those.
pub(crate) fn comparison_type(left: &LogicalType, right: &LogicalType) -> Option<LogicalType> {
    let from_text = |other: &LogicalType| match other {
        t if t.is_numeric() => common(t, &LogicalType::BigInt),
        t if t.is_timestamp() || t.is_interval() => Some(t.clone()),
        LogicalType::Boolean | LogicalType::Date | LogicalType::Time(_) => Some(other.clone()),
        _ => None,
    };
    match (left.is_character(), right.is_character()) {
        (true, false) if *right != LogicalType::Null => from_text(right),
        (false, true) if *left != LogicalType::Null => from_text(left),
        _ => common(left, right),
    }
}

/// Whether two types differ in nullability of their parts at most.
pub(crate) fn equal_but_nullability(left: &LogicalType, right: &LogicalType) -> bool {
    use LogicalType::{Array, Map, Multiset, Row};
    let same = |a: &DataType, b: &DataType| equal_but_nullability(&a.logical, &b.logical);
    match (left, right) {
        (Array(a), Array(b)) | (Multiset(a), Multiset(b)) => same(a, b),
        (Map(k1, v1), Map(k2, v2)) => same(k1, k2) && same(v1, v2),
        (Row(a), Row(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(x, y)| same(&x.data_type, &y.data_type))
        }
        _ => left == right,
    }
}

fn common(left: &LogicalType, right: &LogicalType) -> Option<LogicalType> {
    use LogicalType as T;
    Some(match (left, right) {
        (a, b) if a == b => a.clone(),
        (T::Null, other) | (other, T::Null) => other.clone(),
        (a, b) if a.is_numeric() && b.is_numeric() => common_number(a, b)?,
        (T::Char(a) | T::Varchar(a), T::Char(b) | T::Varchar(b)) => T::Varchar(*a.max(b)),
        (T::Binary(a) | T::Varbinary(a), T::Binary(b) | T::Varbinary(b)) => T::Varbinary(*a.max(b)),
        (T::Time(a), T::Time(b)) => T::Time(*a.max(b)),
        (T::Timestamp(a), T::Timestamp(b)) => T::Timestamp(*a.max(b)),
        (T::Timestamp(a) | T::TimestampLtz(a), T::Timestamp(b) | T::TimestampLtz(b)) => {
            T::TimestampLtz(*a.max(b))
        }
        (T::Array(a), T::Array(b)) => T::Array(Box::new(nested(a, b)?)),
        (T::Multiset(a), T::Multiset(b)) => T::Multiset(Box::new(nested(a, b)?)),
        (T::Map(k1, v1), T::Map(k2, v2)) => {
            T::Map(Box::new(nested(k1, k2)?), Box::new(nested(v1, v2)?))
        }
        (T::Row(a), T::Row(b)) if a.len() == b.len() => T::Row(
            a.iter()
                .zip(b)
                .map(|(x, y)| {
                    Some(Field::new(
                        x.name.clone(),
                        nested(&x.data_type, &y.data_type)?,
                    ))
                })
                .collect::<Option<Vec<Field>>>()?,
        ),
        _ => return None,
    })
}

fn nested(left: &DataType, right: &DataType) -> Option<DataType> {
    least_restrictive(&[left.clone(), right.clone()])
}

fn common_number(left: &LogicalType, right: &LogicalType) -> Option<LogicalType> {
    use LogicalType as T;
    if left.is_approximate_numeric() || right.is_approximate_numeric() {
        let float = |t: &T| matches!(t, T::Float) || t.is_integer();
        return Some(if float(left) && float(right) {
            T::Float
        } else {
            T::Double
        });
    }
    if left.is_integer() && right.is_integer() {
        let rank = |t: &T| match t {
            T::TinyInt => 0,
            T::SmallInt => 1,
            T::Int => 2,
            _ => 3,
        };
        return Some(if rank(left) >= rank(right) {
            left.clone()
        } else {
            right.clone()
        });
    }
    match (decimal_of(left)?, decimal_of(right)?) {
        (
            T::Decimal {
                precision: p1,
                scale: s1,
            },
            T::Decimal {
                precision: p2,
                scale: s2,
            },
        ) => {
            let whole = (p1 - s1).max(p2 - s2);
            let scale = s1.max(s2).min(38 - whole);
            Some(T::Decimal {
                precision: whole + scale,
                scale,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(text: &str) -> Vec<DataType> {
        text.split(';').map(|t| t.trim().parse().unwrap()).collect()
    }

    #[test]
    fn mixes() {
        let check = |mix: &str, expected: &str| {
            let result = least_restrictive(&types(mix));
            let shown = result.map_or_else(|| "none".to_owned(), |t| t.to_string());
            assert_eq!(shown, expected, "{mix}");
        };
        check("CHAR(3) NOT NULL; CHAR(3) NOT NULL", "CHAR(3) NOT NULL");
        check("CHAR(3) NOT NULL; CHAR(5) NOT NULL", "VARCHAR(5) NOT NULL");
        check("STRING; CHAR(5) NOT NULL", "STRING");
        check("NULL; INT NOT NULL", "INT");
        check("TINYINT; BIGINT", "BIGINT");
        check("INT; DECIMAL(5, 2)", "DECIMAL(12, 2)");
        check("INT; FLOAT", "FLOAT");
        check("DECIMAL(5, 2); FLOAT", "DOUBLE");
        check("TIMESTAMP(0); TIMESTAMP(3)", "TIMESTAMP(3)");
        check("ARRAY<INT NOT NULL>; ARRAY<INT>", "ARRAY<INT>");
        check("DATE; TIMESTAMP(3)", "none");
        check("INT; STRING", "none");
        check("BOOLEAN; INT", "none");
    }

    #[test]
    fn comparisons() {
        let check = |pair: &str, expected: &str| {
            let pair_of = types(pair);
            let result = comparison_type(&pair_of[0].logical, &pair_of[1].logical);
            let shown = result.map_or_else(|| "none".to_owned(), |t| t.to_string());
            assert_eq!(shown, expected, "{pair}");
        };
        check("STRING; INT", "BIGINT");
        check("DOUBLE; CHAR(3)", "DOUBLE");
        check("DATE; CHAR(10)", "DATE");
        check("BOOLEAN; DATE", "none");
        check("STRING; CHAR(2)", "STRING");
    }
}
