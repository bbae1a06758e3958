//! The functions a plan may call, by name. `sql` decides which call a query means and its types;
//! `operators` evaluates it. Arguments arrive already cast: a kernel sees the types named here and
//! the call's result type, nothing else. NULL in gives NULL out unless said otherwise.

use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// A scalar function. Names are upper case with underscores ("CHAR_LENGTH"), and persisted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Display, EnumString, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum ScalarFunction {
    // Comparison and logic. Operands have one common type; three-valued.
    /// `a = b`.
    Equal,
    /// `a <> b`.
    NotEqual,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterOrEqual,
    /// `a IS DISTINCT FROM b`; never NULL.
    IsDistinctFrom,
    /// `a IS NOT DISTINCT FROM b`; never NULL.
    IsNotDistinctFrom,
    /// Any number of BOOLEAN arguments.
    And,
    /// Any number of BOOLEAN arguments.
    Or,
    /// `NOT a`.
    Not,
    /// Any type.
    IsNull,
    /// Any type.
    IsNotNull,
    /// BOOLEAN.
    IsTrue,
    /// BOOLEAN.
    IsNotTrue,
    /// BOOLEAN.
    IsFalse,
    /// BOOLEAN.
    IsNotFalse,
    /// `a IN (b, c, …)` by value, one common type, three-valued. NOT IN is NOT of it.
    In,
    // Arithmetic. Operands are cast to the result's family first; integers wrap around.
    /// Numbers of the result type; DECIMAL operands keep their own precision and scale.
    Add,
    /// As Add.
    Subtract,
    /// As Add.
    Multiply,
    /// Integers truncate and fail on zero; DOUBLE gives infinities; DECIMAL rounds half up to the result's scale and fails on zero.
    Divide,
    /// `%` and MOD; sign of the dividend.
    Modulo,
    /// `-a`, numbers and intervals.
    Negate,
    /// (DATE, TIME, TIMESTAMP or LTZ; either interval): month ends are clamped.
    AddInterval,
    /// (TIMESTAMP, TIMESTAMP) to INTERVAL DAY TO SECOND, in ms.
    SubtractTimestamps,
    /// (interval, number).
    MultiplyInterval,
    // Conditions on values.
    /// First argument that is not NULL; one common type.
    Coalesce,
    /// NULL where a = b, else a.
    NullIf,
    /// NULL if any argument is.
    Greatest,
    /// NULL if any argument is.
    Least,
    // Numbers.
    /// `ABS`.
    Abs,
    /// `SIGN`.
    Sign,
    /// DOUBLE, FLOAT, DECIMAL (to scale 0); integers stay.
    Floor,
    /// As Floor.
    Ceil,
    /// (x) or (x, digits INT): half up, away from zero; digits may be negative.
    Round,
    /// (x) or (x, digits INT).
    Truncate,
    /// `SQRT`.
    Sqrt,
    /// `CBRT`.
    Cbrt,
    /// `LN`.
    Ln,
    /// `LOG10`.
    Log10,
    /// `LOG2`.
    Log2,
    /// (x): natural; (base, x).
    Log,
    /// `EXP`.
    Exp,
    /// `POWER`.
    Power,
    /// `SIN`.
    Sin,
    /// `COS`.
    Cos,
    /// `TAN`.
    Tan,
    /// `COT`.
    Cot,
    /// `ASIN`.
    Asin,
    /// `ACOS`.
    Acos,
    /// `ATAN`.
    Atan,
    /// `ATAN2`.
    Atan2,
    /// `SINH`.
    Sinh,
    /// `COSH`.
    Cosh,
    /// `TANH`.
    Tanh,
    /// `DEGREES`.
    Degrees,
    /// `RADIANS`.
    Radians,
    /// `PI`.
    Pi,
    /// `E`.
    E,
    /// () or (seed).
    Rand,
    /// (bound) or (seed, bound).
    RandInteger,
    /// BIGINT to binary digits.
    Bin,
    /// BIGINT (64 bits wide, no leading zeros) or STRING (of its UTF-8 bytes), upper case.
    Hex,
    /// `UNHEX`.
    Unhex,
    /// `CONV`.
    Conv,
    /// `BIT_AND`.
    BitAnd,
    /// `BIT_OR`.
    BitOr,
    /// `BIT_XOR`.
    BitXor,
    /// `BIT_NOT`.
    BitNot,
    // Strings. Lengths and positions count code points, positions from 1.
    /// `CHAR_LENGTH`.
    CharLength,
    /// `OCTET_LENGTH`.
    OctetLength,
    /// `UPPER`.
    Upper,
    /// `LOWER`.
    Lower,
    /// `INIT_CAP`.
    InitCap,
    /// NULL if any argument is; also `||`.
    Concat,
    /// (separator, …): skips NULL arguments.
    ConcatWs,
    /// (s, from) or (s, from, length): from 0 counts as 1, negative counts from the end.
    Substring,
    /// (needle, haystack).
    Position,
    /// (needle, haystack) or (…, from).
    Locate,
    /// (haystack, needle[, from[, nth]]).
    Instr,
    /// `REPLACE`.
    Replace,
    /// (s, replacement, from[, length]).
    Overlay,
    /// `REPEAT`.
    Repeat,
    /// `REVERSE`.
    Reverse,
    /// (s, n).
    Left,
    /// (s, n).
    Right,
    /// (s, length, pad).
    Lpad,
    /// (s, length, pad).
    Rpad,
    /// (s[, characters]) both ends.
    Trim,
    /// (s[, characters]).
    Ltrim,
    /// (s[, characters]).
    Rtrim,
    /// (s[, characters]).
    Btrim,
    /// (s, separator, index from 0).
    SplitIndex,
    /// (s, separator) to `ARRAY<STRING>`.
    Split,
    /// Signed first UTF-8 byte.
    Ascii,
    /// `CHR`.
    Chr,
    /// `TRANSLATE`.
    Translate,
    /// `STARTS_WITH`.
    StartsWith,
    /// `ENDS_WITH`.
    EndsWith,
    /// `ELT`.
    Elt,
    /// `PRINTF`.
    Printf,
    /// `URL_ENCODE`.
    UrlEncode,
    /// `URL_DECODE`.
    UrlDecode,
    /// (url, part[, key]).
    ParseUrl,
    /// (s, pattern[, escape]): `_`, `%`; no default escape.
    Like,
    /// (s, pattern[, escape]): whole string.
    SimilarTo,
    /// (s, regex): found anywhere.
    Regexp,
    /// (s, regex, replacement): all matches, `$1` groups.
    RegexpReplace,
    /// (s, regex[, group]): NULL where nothing matches.
    RegexpExtract,
    /// `REGEXP_EXTRACT_ALL`.
    RegexpExtractAll,
    /// `REGEXP_COUNT`.
    RegexpCount,
    /// `REGEXP_INSTR`.
    RegexpInstr,
    /// `REGEXP_SUBSTR`.
    RegexpSubstr,
    /// `TO_BASE64`.
    ToBase64,
    /// `FROM_BASE64`.
    FromBase64,
    /// (s, charset).
    Encode,
    /// (bytes, charset).
    Decode,
    /// `MD5`.
    Md5,
    /// `SHA1`.
    Sha1,
    /// `SHA224`.
    Sha224,
    /// `SHA256`.
    Sha256,
    /// `SHA384`.
    Sha384,
    /// `SHA512`.
    Sha512,
    /// (s, bits).
    Sha2,
    /// (x, BIGINT n): a number below n that depends on x alone, NULL included; for plans, not for users.
    HashBucket,
    /// (s[, list separator[, key separator]]).
    StrToMap,
    /// `UUID`.
    Uuid,
    /// (s, c): how often c stands in s; an example function of ours.
    CountChar,
    // Time. Units are literals of STRING type: YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, …
    /// (unit, DATE, TIME, TIMESTAMP, LTZ or interval) to BIGINT; WEEK is ISO, DOW counts Sunday as 1.
    Extract,
    /// (x, unit): FLOOR(x TO unit); weeks start on Sunday.
    FloorTime,
    /// (x, unit).
    CeilTime,
    /// (unit, INT or BIGINT, x).
    TimestampAdd,
    /// (unit, from, to): whole units, to INT.
    TimestampDiff,
    /// (TIMESTAMP, LTZ or STRING; Java pattern).
    DateFormat,
    /// (STRING[, Java pattern]).
    ToDate,
    /// (STRING[, Java pattern]) to TIMESTAMP(3); NULL where it does not parse.
    ToTimestamp,
    /// (BIGINT[, precision 0 or 3]) or (STRING[, pattern[, zone]]).
    ToTimestampLtz,
    /// () or (STRING[, pattern]).
    UnixTimestamp,
    /// (BIGINT[, pattern]) to STRING.
    FromUnixtime,
    /// (STRING, from, to).
    ConvertTz,
    /// Start of the statement on bounded, time of the row on unbounded input.
    Now,
    /// `CURRENT_DATE`.
    CurrentDate,
    /// `CURRENT_TIME`.
    CurrentTime,
    /// `LOCAL_TIMESTAMP`.
    LocalTimestamp,
    /// Processing time, TIMESTAMP_LTZ(3) NOT NULL.
    Proctime,
    /// `CURRENT_WATERMARK`.
    CurrentWatermark,
    // Collections.
    /// ARRAY[…].
    ArrayConstructor,
    /// MAP[k, v, …].
    MapConstructor,
    /// ROW(…).
    RowConstructor,
    /// (ARRAY, INT from 1) or (MAP, key): NULL out of range.
    ElementAt,
    /// `CARDINALITY`.
    Cardinality,
    /// The only element of an array.
    Element,
    /// `ARRAY_CONTAINS`.
    ArrayContains,
    /// `ARRAY_DISTINCT`.
    ArrayDistinct,
    /// 0 where absent.
    ArrayPosition,
    /// `ARRAY_REVERSE`.
    ArrayReverse,
    /// (a, from[, to]).
    ArraySlice,
    /// (a[, ascending[, nulls first]]).
    ArraySort,
    /// `ARRAY_MAX`.
    ArrayMax,
    /// `ARRAY_MIN`.
    ArrayMin,
    /// (a, separator[, null text]).
    ArrayJoin,
    /// `ARRAY_CONCAT`.
    ArrayConcat,
    /// `ARRAY_APPEND`.
    ArrayAppend,
    /// `ARRAY_PREPEND`.
    ArrayPrepend,
    /// `ARRAY_REMOVE`.
    ArrayRemove,
    /// `ARRAY_UNION`.
    ArrayUnion,
    /// `ARRAY_INTERSECT`.
    ArrayIntersect,
    /// `ARRAY_EXCEPT`.
    ArrayExcept,
    /// `MAP_KEYS`.
    MapKeys,
    /// `MAP_VALUES`.
    MapValues,
    /// `MAP_ENTRIES`.
    MapEntries,
    /// `MAP_FROM_ARRAYS`.
    MapFromArrays,
    /// `MAP_UNION`.
    MapUnion,
    // JSON. Behaviour clauses (NULL/ERROR/DEFAULT ON EMPTY, wrappers, …) are literal STRING arguments.
    /// (s, kind: VALUE, SCALAR, ARRAY or OBJECT).
    IsJson,
    /// (s, path, on error).
    JsonExists,
    /// (s, path, on empty kind, on empty value, on error kind, on error value), cast to the result type.
    JsonValue,
    /// (s, path, wrapper, on empty, on error).
    JsonQuery,
    /// (on null, k, v, k, v, …).
    JsonObject,
    /// (on null, v, …).
    JsonArray,
    /// Any value as JSON.
    JsonString,
    /// `JSON_QUOTE`.
    JsonQuote,
    /// `JSON_UNQUOTE`.
    JsonUnquote,
    /// Marks a string as JSON inside JSON_OBJECT and JSON_ARRAY.
    Json,
    /// `JSON_LENGTH`.
    JsonLength,
}

/// An aggregate function. NULL inputs are skipped unless said otherwise; the empty set gives NULL
/// (COUNT: 0).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Display, EnumString, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum AggregateFunction {
    /// Rows (no argument) or values that are not NULL.
    Count,
    /// Type of the input, wrapping; DECIMAL(38, s).
    Sum,
    /// Integers truncate to the input's type; DECIMAL(38, max(6, s)).
    Avg,
    /// Min.
    Min,
    /// Max.
    Max,
    /// StddevPop.
    StddevPop,
    /// NULL for one row.
    StddevSamp,
    /// VarPop.
    VarPop,
    /// NULL for one row.
    VarSamp,
    /// First that is not NULL, by arrival.
    FirstValue,
    /// Last that is not NULL, by arrival.
    LastValue,
    /// The only row's value; fails on a second (scalar subqueries).
    SingleValue,
    /// (value[, separator literal column]); NULLs skipped.
    ListAgg,
    /// Keeps NULLs.
    ArrayAgg,
    /// To MULTISET, NULLs skipped.
    Collect,
    /// (value, fraction or ARRAY of fractions): linear interpolation.
    Percentile,
    /// JsonObjectAgg.
    JsonObjectAgg,
    /// JsonArrayAgg.
    JsonArrayAgg,
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn names_round_trip() {
        for function in ScalarFunction::iter() {
            assert_eq!(function.to_string().parse(), Ok(function));
        }
        assert_eq!(ScalarFunction::CharLength.to_string(), "CHAR_LENGTH");
        assert_eq!("LIST_AGG".parse(), Ok(AggregateFunction::ListAgg));
    }
}
