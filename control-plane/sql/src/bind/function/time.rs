//! Functions on dates and times that need no syntax of their own.

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};

use super::Arg::{AnyTimestamp, BigInt, Int, Number, Text};
use super::Returns::{NotNull, Nullable, With};
use super::{STRING, Signature, any_nullable, sig};
use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, Literal};

/// The family.
pub(super) static SIGNATURES: &[Signature] = &[
    sig(
        "DATE_FORMAT",
        F::DateFormat,
        &[AnyTimestamp, Text],
        Nullable(STRING),
    ),
    sig(
        "DATE_FORMAT",
        F::DateFormat,
        &[Text, Text],
        Nullable(STRING),
    ),
    sig(
        "TO_DATE",
        F::ToDate,
        &[Text, Text],
        Nullable(LogicalType::Date),
    )
    .optional(1),
    sig(
        "TO_TIMESTAMP",
        F::ToTimestamp,
        &[Text, Text],
        Nullable(LogicalType::Timestamp(3)),
    )
    .optional(1),
    sig(
        "TO_TIMESTAMP_LTZ",
        F::ToTimestampLtz,
        &[BigInt, Int],
        With(epoch_time),
    )
    .optional(1),
    sig(
        "TO_TIMESTAMP_LTZ",
        F::ToTimestampLtz,
        &[Number, Int],
        With(epoch_time),
    )
    .optional(1),
    sig(
        "TO_TIMESTAMP_LTZ",
        F::ToTimestampLtz,
        &[Text, Text, Text],
        Nullable(LTZ3),
    )
    .optional(2),
    sig(
        "UNIX_TIMESTAMP",
        F::UnixTimestamp,
        &[],
        NotNull(LogicalType::BigInt),
    ),
    sig(
        "UNIX_TIMESTAMP",
        F::UnixTimestamp,
        &[Text, Text],
        With(seconds),
    )
    .optional(1),
    sig(
        "FROM_UNIXTIME",
        F::FromUnixtime,
        &[BigInt, Text],
        Nullable(STRING),
    )
    .optional(1),
    sig(
        "CONVERT_TZ",
        F::ConvertTz,
        &[Text, Text, Text],
        Nullable(STRING),
    ),
    sig("NOW", F::Now, &[], NotNull(LTZ3)),
    sig("CURRENT_TIMESTAMP", F::Now, &[], NotNull(LTZ3)),
    sig("CURRENT_ROW_TIMESTAMP", F::Now, &[], NotNull(LTZ3)),
    sig(
        "CURRENT_DATE",
        F::CurrentDate,
        &[],
        NotNull(LogicalType::Date),
    ),
    sig(
        "CURRENT_TIME",
        F::CurrentTime,
        &[],
        NotNull(LogicalType::Time(0)),
    ),
    sig(
        "LOCALTIME",
        F::CurrentTime,
        &[],
        NotNull(LogicalType::Time(0)),
    ),
    sig(
        "LOCALTIMESTAMP",
        F::LocalTimestamp,
        &[],
        NotNull(LogicalType::Timestamp(3)),
    ),
    sig("PROCTIME", F::Proctime, &[], NotNull(LTZ3)),
    sig(
        "CURRENT_WATERMARK",
        F::CurrentWatermark,
        &[AnyTimestamp],
        super::Returns::NullableAs(0),
    ),
];

const LTZ3: LogicalType = LogicalType::TimestampLtz(3);

/// TO_TIMESTAMP_LTZ of a number: seconds (0) or milliseconds (3, the default).
fn epoch_time(args: &[Expr]) -> Result<DataType, SqlError> {
    match args.get(1).map(|arg| &arg.kind) {
        None | Some(ExprKind::Literal(Literal::Integer(0 | 3))) => Ok(LTZ3.nullable()),
        _ => Err(
            SqlError::validate("the precision of `TO_TIMESTAMP_LTZ` must be 0 or 3")
                .hint("0 reads seconds, 3 milliseconds since 1970"),
        ),
    }
}

fn seconds(args: &[Expr]) -> Result<DataType, SqlError> {
    Ok(DataType {
        logical: LogicalType::BigInt,
        nullable: any_nullable(args),
    })
}
