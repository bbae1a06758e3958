//! What is known of each function without running it: whether it may fail, what its result
//! depends on, and roughly what a row costs.

use proto::{plan::ScalarFunction, types::LogicalType};

use super::{
    Signature,
    family::{Family, family},
};
use crate::expr::Purity;

/// Whether a NULL argument makes the result NULL whatever the others are.
pub(crate) fn is_strict(function: ScalarFunction) -> bool {
    use ScalarFunction as F;
    !matches!(
        function,
        F::And
            | F::Or
            | F::Not
            | F::IsNull
            | F::IsNotNull
            | F::IsTrue
            | F::IsNotTrue
            | F::IsFalse
            | F::IsNotFalse
            | F::IsDistinctFrom
            | F::IsNotDistinctFrom
            | F::In
            | F::Coalesce
            | F::NullIf
            | F::ConcatWs
            | F::ArrayConstructor
            | F::MapConstructor
            | F::RowConstructor
            | F::ArrayContains
            | F::ArrayPosition
            | F::ArrayJoin
            | F::ArrayAppend
            | F::ArrayPrepend
            | F::ArrayRemove
            | F::IsJson
            | F::JsonObject
            | F::JsonArray
            | F::JsonString
            | F::JsonValue
            | F::JsonQuery
            | F::JsonExists
            | F::Printf
            | F::Elt
            | F::HashBucket
    )
}

/// What a function's result depends on beside its arguments.
pub(crate) fn purity(signature: &Signature<'_>) -> Purity {
    use ScalarFunction as F;
    match signature.function {
        F::UnixTimestamp if !signature.args.is_empty() => Purity::Pure,
        F::Rand | F::RandInteger | F::Uuid => Purity::Volatile,
        F::Now
        | F::CurrentDate
        | F::CurrentTime
        | F::LocalTimestamp
        | F::Proctime
        | F::CurrentWatermark
        | F::UnixTimestamp => Purity::Context,
        _ => Purity::Pure,
    }
}

/// Whether a call may fail for some row: then it must not run for rows that do not reach it.
pub(crate) fn can_fail(signature: &Signature<'_>) -> bool {
    use ScalarFunction as F;
    let function = signature.function;
    match function {
        F::Divide | F::Modulo => !signature.result.logical.is_approximate_numeric(),
        // The sum may lie beyond what the type counts.
        F::TimestampAdd => true,
        F::AddInterval => matches!(
            signature.result.logical,
            LogicalType::Timestamp(7..) | LogicalType::TimestampLtz(7..)
        ),
        // Constant patterns are compiled already.
        F::Regexp
        | F::RegexpReplace
        | F::RegexpExtract
        | F::Like
        | F::SimilarTo
        | F::DateFormat => signature.constants.iter().skip(1).any(Option::is_none),
        _ => !TOTAL.contains(&function) && !family(function).is_some_and(is_total),
    }
}

fn is_total(family: Family) -> bool {
    matches!(
        family,
        Family::Comparison
            | Family::Logic
            | Family::Arithmetic
            | Family::Now
            | Family::TimeParts
            | Family::TimeArith
    )
}

/// Functions of other families that have a result for all arguments.
static TOTAL: &[ScalarFunction] = {
    use ScalarFunction as F;
    &[
        F::CharLength,
        F::Upper,
        F::Lower,
        F::Concat,
        F::Substring,
        F::Trim,
        F::Position,
        F::Locate,
        F::Left,
        F::Right,
        F::Replace,
        F::StartsWith,
        F::EndsWith,
        F::ElementAt,
        F::SplitIndex,
        F::CountChar,
        F::HashBucket,
    ]
};

/// Rough work per row, a comparison of two numbers being 1.
pub(crate) fn cost(function: ScalarFunction) -> u32 {
    use ScalarFunction as F;
    match (function, family(function)) {
        (F::Lower | F::Upper, _) => 3,
        (F::Like, _) => 6,
        (_, Some(Family::Comparison | Family::Logic | Family::Arithmetic | Family::Now)) => 1,
        (_, Some(Family::TimeParts | Family::TimeArith)) => 2,
        (_, Some(Family::Math)) => 4,
        (_, Some(Family::StringPattern)) => 30,
        (_, Some(Family::Json | Family::JsonBuild)) => 50,
        _ => 8,
    }
}
