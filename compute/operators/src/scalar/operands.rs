//! The argument types that kernels want. A plan has every cast already; where it left two types
//! that go together as they are, this adds what is missing.

use proto::{
    plan::ScalarFunction,
    types::{DataType, LogicalType},
};

/// For each argument the type that the kernel needs, where the given one may be another.
pub(crate) fn wanted_types(
    function: ScalarFunction,
    args: &[DataType],
    result: &DataType,
) -> Vec<Option<DataType>> {
    use ScalarFunction as F;
    match function {
        // What timestamps are ordered by needs no common unit, which may not reach both.
        F::Less | F::LessOrEqual | F::Greater | F::GreaterOrEqual
            if args.iter().all(|arg| arg.logical.is_timestamp()) =>
        {
            vec![None; args.len()]
        }
        F::Equal
        | F::NotEqual
        | F::Less
        | F::LessOrEqual
        | F::Greater
        | F::GreaterOrEqual
        | F::IsDistinctFrom
        | F::IsNotDistinctFrom
        | F::In => {
            vec![common_type(args); args.len()]
        }
        F::NullIf => vec![None, args.first().cloned()],
        F::Greatest | F::Least | F::Floor | F::Ceil => vec![Some(result.clone()); args.len()]
            .into_iter()
            .map(|wanted| wanted.filter(|_| !matches!(function, F::Floor | F::Ceil)))
            .collect(),
        F::Add | F::Subtract | F::Multiply | F::Divide | F::Modulo => args
            .iter()
            .map(|arg| operand_type(&arg.logical, &result.logical))
            .collect(),
        F::AddInterval => vec![Some(result.clone()), None],
        F::TimestampAdd => vec![None, Some(amount_type(args)), Some(result.clone())],
        F::ArrayConstructor => vec![element_type(result); args.len()],
        F::MapConstructor => match &result.logical {
            LogicalType::Map(key, value) => [Some((**key).clone()), Some((**value).clone())]
                .into_iter()
                .cycle()
                .take(args.len())
                .collect(),
            _ => Vec::new(),
        },
        F::RowConstructor => match &result.logical {
            LogicalType::Row(fields) => fields.iter().map(|f| Some(f.data_type.clone())).collect(),
            _ => Vec::new(),
        },
        F::ArrayConcat | F::ArrayUnion | F::ArrayIntersect | F::ArrayExcept => {
            vec![Some(result.clone()); args.len()]
        }
        F::ArrayAppend | F::ArrayPrepend => vec![Some(result.clone()), element_type(result)],
        F::ArrayContains | F::ArrayPosition | F::ArrayRemove => {
            vec![None, args.first().and_then(element_type)]
        }
        F::ElementAt => match args.first().map(|arg| &arg.logical) {
            Some(LogicalType::Map(key, _)) => vec![None, Some((**key).clone())],
            _ => vec![None, Some(LogicalType::Int.nullable())],
        },
        F::Concat | F::Substring | F::StartsWith | F::EndsWith
            if args.first().is_some_and(|arg| arg.logical.is_binary()) =>
        {
            by_letters(if function == F::Substring { ".i" } else { "." }, args)
        }
        F::Hex | F::Conv => vec![None; args.len()],
        _ => by_letters(letters(function), args),
    }
}

/// The type in which TIMESTAMPADD takes its amount.
fn amount_type(args: &[DataType]) -> DataType {
    match args.get(1).map(|arg| &arg.logical) {
        Some(LogicalType::BigInt) => LogicalType::BigInt.nullable(),
        _ => LogicalType::Int.nullable(),
    }
}

fn element_type(array: &DataType) -> Option<DataType> {
    match &array.logical {
        LogicalType::Array(element) => Some((**element).clone()),
        _ => None,
    }
}

fn operand_type(arg: &LogicalType, result: &LogicalType) -> Option<DataType> {
    let wanted = match (arg, result) {
        (LogicalType::Decimal { .. }, LogicalType::Decimal { .. }) => return None,
        (arg, LogicalType::Decimal { .. }) => {
            digits(arg).map(|precision| LogicalType::Decimal {
                precision,
                scale: 0,
            })?
        }
        (_, result) => result.clone(),
    };
    Some(wanted.nullable())
}

/// Decimal digits of an integer type.
pub(crate) fn digits(integer: &LogicalType) -> Option<u8> {
    match integer {
        LogicalType::TinyInt => Some(3),
        LogicalType::SmallInt => Some(5),
        LogicalType::Int => Some(10),
        LogicalType::BigInt => Some(19),
        _ => None,
    }
}

/// The type that operands of a comparison are cast to, if they are not of one type already.
fn common_type(args: &[DataType]) -> Option<DataType> {
    let mut common: Option<LogicalType> = None;
    for arg in args {
        let arg = &arg.logical;
        common = Some(match common {
            None | Some(LogicalType::Null) => arg.clone(),
            Some(common) => wider(common, arg),
        });
    }
    common.map(LogicalType::nullable)
}

fn wider(common: LogicalType, other: &LogicalType) -> LogicalType {
    use LogicalType as T;
    let decimal = |logical: &T| match logical {
        T::Decimal { precision, scale } => Some((precision - scale, *scale)),
        other => digits(other).map(|digits| (digits, 0)),
    };
    match (&common, other) {
        (_, T::Null) => common,
        (a, b) if a == b => common,
        (a, b) if a.is_numeric() && b.is_numeric() => {
            if a.is_approximate_numeric() || b.is_approximate_numeric() {
                return T::Double;
            }
            if a.is_integer() && b.is_integer() {
                return if digits(a) >= digits(b) {
                    common
                } else {
                    b.clone()
                };
            }
            match (decimal(a), decimal(b)) {
                (Some((whole_a, scale_a)), Some((whole_b, scale_b))) => {
                    let scale = scale_a.max(scale_b);
                    T::Decimal {
                        precision: (whole_a.max(whole_b) + scale).min(38),
                        scale,
                    }
                }
                _ => common,
            }
        }
        (a, b) if a.is_character() && b.is_character() => T::STRING,
        (a, b) if a.is_binary() && b.is_binary() => T::BYTES,
        (T::Timestamp(a), T::Timestamp(b)) => T::Timestamp(*a.max(b)),
        (T::TimestampLtz(a), T::TimestampLtz(b)) => T::TimestampLtz(*a.max(b)),
        (T::Date, T::Timestamp(_) | T::TimestampLtz(_)) => other.clone(),
        _ => common,
    }
}

/// One letter per argument, the last one repeated: s STRING, i INT, l BIGINT, d DOUBLE,
/// x BYTES, `.` as it is.
fn letters(function: ScalarFunction) -> &'static str {
    LETTERS
        .iter()
        .find(|(_, functions)| functions.contains(&function))
        .map_or(".", |(letters, _)| letters)
}

static LETTERS: &[(&str, &[ScalarFunction])] = {
    use ScalarFunction as F;
    &[
        (
            "d",
            &[
                F::Sqrt,
                F::Cbrt,
                F::Ln,
                F::Log10,
                F::Log2,
                F::Log,
                F::Exp,
                F::Power,
                F::Sin,
                F::Cos,
                F::Tan,
                F::Cot,
                F::Asin,
                F::Acos,
                F::Atan,
                F::Atan2,
                F::Sinh,
                F::Cosh,
                F::Tanh,
                F::Degrees,
                F::Radians,
            ],
        ),
        (".i", &[F::Round, F::Truncate, F::Conv, F::ArraySlice]),
        ("i", &[F::Rand, F::RandInteger]),
        ("l", &[F::Bin, F::Chr]),
        (
            "s",
            &[
                F::Upper,
                F::Lower,
                F::InitCap,
                F::Concat,
                F::ConcatWs,
                F::CharLength,
                F::Reverse,
                F::Trim,
                F::Ltrim,
                F::Rtrim,
                F::Btrim,
                F::Ascii,
                F::Replace,
                F::Position,
                F::StartsWith,
                F::EndsWith,
                F::Translate,
                F::CountChar,
                F::Split,
                F::StrToMap,
                F::Like,
                F::SimilarTo,
                F::Regexp,
                F::RegexpReplace,
                F::RegexpCount,
                F::RegexpInstr,
                F::RegexpSubstr,
                F::Unhex,
                F::FromBase64,
                F::UrlEncode,
                F::UrlDecode,
                F::ParseUrl,
                F::ToDate,
                F::ToTimestamp,
                F::ConvertTz,
                F::IsJson,
                F::JsonExists,
                F::JsonQuery,
                F::JsonQuote,
                F::JsonUnquote,
                F::Json,
                F::JsonLength,
                F::Encode,
            ],
        ),
        ("sss.s.", &[F::JsonValue]),
        ("si", &[F::Substring, F::Left, F::Right, F::Repeat, F::Sha2]),
        (
            "ssi",
            &[
                F::Locate,
                F::Instr,
                F::Overlay,
                F::RegexpExtract,
                F::RegexpExtractAll,
            ],
        ),
        ("sis", &[F::Lpad, F::Rpad]),
        ("s.i", &[F::SplitIndex]),
        ("i.", &[F::Elt]),
        ("s.", &[F::Printf]),
        ("xs", &[F::Decode]),
        ("ls", &[F::FromUnixtime]),
        (".s", &[F::ArrayJoin, F::DateFormat]),
    ]
};

fn by_letters(letters: &str, args: &[DataType]) -> Vec<Option<DataType>> {
    let letters = letters.as_bytes();
    let wanted = |index: usize| {
        let letter = letters.get(index).or(letters.last());
        let wanted = match letter {
            Some(b's') => LogicalType::STRING,
            Some(b'i') => LogicalType::Int,
            Some(b'l') => LogicalType::BigInt,
            Some(b'd') => LogicalType::Double,
            Some(b'x') => LogicalType::BYTES,
            _ => return None,
        };
        Some(wanted.nullable())
    };
    (0..args.len()).map(wanted).collect()
}
