//! Which file each function lives in.

use proto::plan::ScalarFunction;

/// The file a function lives in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    Comparison,
    Logic,
    Arithmetic,
    Math,
    StringBasic,
    StringSearch,
    StringPattern,
    StringCodec,
    Url,
    TimeParts,
    TimeArith,
    TimeFormat,
    Now,
    Array,
    ArraySet,
    Map,
    Json,
    JsonBuild,
}

/// Where a function is implemented.
pub(crate) fn family(function: ScalarFunction) -> Family {
    use ScalarFunction as F;
    match function {
        F::Equal
        | F::NotEqual
        | F::Less
        | F::LessOrEqual
        | F::Greater
        | F::GreaterOrEqual
        | F::IsDistinctFrom
        | F::IsNotDistinctFrom
        | F::In
        | F::NullIf
        | F::Greatest
        | F::Least => Family::Comparison,
        F::And
        | F::Or
        | F::Not
        | F::IsNull
        | F::IsNotNull
        | F::IsTrue
        | F::IsNotTrue
        | F::IsFalse
        | F::IsNotFalse
        | F::Coalesce => Family::Logic,
        F::Add
        | F::Subtract
        | F::Multiply
        | F::Divide
        | F::Modulo
        | F::Negate
        | F::Abs
        | F::Sign
        | F::BitAnd
        | F::BitOr
        | F::BitXor
        | F::BitNot => Family::Arithmetic,
        F::Floor
        | F::Ceil
        | F::Round
        | F::Truncate
        | F::Sqrt
        | F::Cbrt
        | F::Ln
        | F::Log10
        | F::Log2
        | F::Log
        | F::Exp
        | F::Power
        | F::Sin
        | F::Cos
        | F::Tan
        | F::Cot
        | F::Asin
        | F::Acos
        | F::Atan
        | F::Atan2
        | F::Sinh
        | F::Cosh
        | F::Tanh
        | F::Degrees
        | F::Radians
        | F::Pi
        | F::E
        | F::Rand
        | F::RandInteger => Family::Math,
        F::CharLength
        | F::OctetLength
        | F::Upper
        | F::Lower
        | F::InitCap
        | F::Concat
        | F::ConcatWs
        | F::Substring
        | F::Overlay
        | F::Repeat
        | F::Reverse
        | F::Left
        | F::Right
        | F::Lpad
        | F::Rpad
        | F::Trim
        | F::Ltrim
        | F::Rtrim
        | F::Btrim
        | F::Ascii
        | F::Chr
        | F::Elt => Family::StringBasic,
        F::Position
        | F::Locate
        | F::Instr
        | F::Replace
        | F::SplitIndex
        | F::Split
        | F::Translate
        | F::StartsWith
        | F::EndsWith
        | F::CountChar
        | F::StrToMap
        | F::Printf => Family::StringSearch,
        F::Like
        | F::SimilarTo
        | F::Regexp
        | F::RegexpReplace
        | F::RegexpExtract
        | F::RegexpExtractAll
        | F::RegexpCount
        | F::RegexpInstr
        | F::RegexpSubstr => Family::StringPattern,
        F::Bin
        | F::Hex
        | F::Unhex
        | F::Conv
        | F::ToBase64
        | F::FromBase64
        | F::Encode
        | F::Decode
        | F::Md5
        | F::Sha1
        | F::Sha224
        | F::Sha256
        | F::Sha384
        | F::Sha512
        | F::Sha2
        | F::Uuid => Family::StringCodec,
        F::UrlEncode | F::UrlDecode | F::ParseUrl => Family::Url,
        F::Extract | F::FloorTime | F::CeilTime => Family::TimeParts,
        F::AddInterval
        | F::SubtractTimestamps
        | F::MultiplyInterval
        | F::TimestampAdd
        | F::TimestampDiff => Family::TimeArith,
        F::DateFormat
        | F::ToDate
        | F::ToTimestamp
        | F::ToTimestampLtz
        | F::FromUnixtime
        | F::ConvertTz
        | F::UnixTimestamp => Family::TimeFormat,
        F::Now
        | F::CurrentDate
        | F::CurrentTime
        | F::LocalTimestamp
        | F::Proctime
        | F::CurrentWatermark => Family::Now,
        F::ArrayConstructor
        | F::RowConstructor
        | F::ElementAt
        | F::Cardinality
        | F::Element
        | F::ArrayContains
        | F::ArrayPosition
        | F::ArrayReverse
        | F::ArraySlice
        | F::ArraySort
        | F::ArrayMax
        | F::ArrayMin
        | F::ArrayJoin
        | F::ArrayConcat
        | F::ArrayAppend
        | F::ArrayPrepend => Family::Array,
        F::ArrayDistinct | F::ArrayRemove | F::ArrayUnion | F::ArrayIntersect | F::ArrayExcept => {
            Family::ArraySet
        }
        F::MapConstructor
        | F::MapKeys
        | F::MapValues
        | F::MapEntries
        | F::MapFromArrays
        | F::MapUnion => Family::Map,
        F::IsJson | F::JsonExists | F::JsonValue | F::JsonQuery | F::JsonLength => Family::Json,
        F::JsonObject | F::JsonArray | F::JsonString | F::JsonQuote | F::JsonUnquote | F::Json => {
            Family::JsonBuild
        }
    }
}
