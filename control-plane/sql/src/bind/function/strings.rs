//! Functions on text and bytes.

use proto::plan::ScalarFunction as F;
use proto::types::{DataType, LogicalType};

use super::Arg::{Any, ArrayOfText, Bytes, Int, Integer, Text, TextOrBytes};
use super::Returns::{Nullable, SameAs, Type, Varying, With};
use super::{STRING, Signature, any_nullable, sig};
use crate::error::SqlError;
use crate::logical::Expr;

/// The family.
pub(super) static SIGNATURES: &[Signature] = &[
    sig(
        "CHAR_LENGTH",
        F::CharLength,
        &[Text],
        Type(LogicalType::Int),
    ),
    sig(
        "CHARACTER_LENGTH",
        F::CharLength,
        &[Text],
        Type(LogicalType::Int),
    ),
    sig("LENGTH", F::CharLength, &[Text], Type(LogicalType::Int)),
    sig(
        "OCTET_LENGTH",
        F::OctetLength,
        &[TextOrBytes],
        Type(LogicalType::Int),
    ),
    sig("UPPER", F::Upper, &[Text], SameAs(0)),
    sig("UCASE", F::Upper, &[Text], SameAs(0)),
    sig("LOWER", F::Lower, &[Text], SameAs(0)),
    sig("LCASE", F::Lower, &[Text], SameAs(0)),
    sig("INITCAP", F::InitCap, &[Text], SameAs(0)),
    sig("CONCAT", F::Concat, &[Text], Type(STRING)).variadic(),
    sig("CONCAT_WS", F::ConcatWs, &[Text, Text], Type(STRING)).variadic(),
    sig("||", F::Concat, &[Text, Text], With(concatenation)),
    sig("||", F::Concat, &[Bytes, Bytes], Type(LogicalType::BYTES)),
    sig("SUBSTRING", F::Substring, &[Text, Int, Int], Varying(0)).optional(1),
    sig(
        "SUBSTRING",
        F::Substring,
        &[Bytes, Int, Int],
        Type(LogicalType::BYTES),
    )
    .optional(1),
    sig(
        "POSITION",
        F::Position,
        &[Text, Text],
        Type(LogicalType::Int),
    ),
    sig(
        "LOCATE",
        F::Locate,
        &[Text, Text, Int],
        Type(LogicalType::Int),
    )
    .optional(1),
    sig(
        "INSTR",
        F::Instr,
        &[Text, Text, Int, Int],
        Type(LogicalType::Int),
    )
    .optional(2),
    sig("REPLACE", F::Replace, &[Text, Text, Text], Type(STRING)),
    sig("OVERLAY", F::Overlay, &[Text, Text, Int, Int], Type(STRING)).optional(1),
    sig("REPEAT", F::Repeat, &[Text, Int], Type(STRING)),
    sig("REVERSE", F::Reverse, &[Text], Type(STRING)),
    sig("LEFT", F::Left, &[Text, Int], Type(STRING)),
    sig("RIGHT", F::Right, &[Text, Int], Type(STRING)),
    sig("LPAD", F::Lpad, &[Text, Int, Text], Nullable(STRING)),
    sig("RPAD", F::Rpad, &[Text, Int, Text], Nullable(STRING)),
    sig("TRIM", F::Trim, &[Text, Text], Varying(0)).optional(1),
    sig("LTRIM", F::Ltrim, &[Text, Text], Varying(0)).optional(1),
    sig("RTRIM", F::Rtrim, &[Text, Text], Varying(0)).optional(1),
    sig("BTRIM", F::Btrim, &[Text, Text], Varying(0)).optional(1),
    sig(
        "SPLIT_INDEX",
        F::SplitIndex,
        &[Text, Text, Int],
        Nullable(STRING),
    ),
    sig(
        "SPLIT_INDEX",
        F::SplitIndex,
        &[Text, Int, Int],
        Nullable(STRING),
    ),
    sig("SPLIT", F::Split, &[Text, Text], With(array_of_text)),
    sig("ASCII", F::Ascii, &[Text], Type(LogicalType::Int)),
    sig("CHR", F::Chr, &[Integer], Type(STRING)),
    sig("TRANSLATE", F::Translate, &[Text, Text, Text], Type(STRING)),
    sig(
        "TRANSLATE3",
        F::Translate,
        &[Text, Text, Text],
        Type(STRING),
    ),
    sig(
        "STARTSWITH",
        F::StartsWith,
        &[Text, Text],
        Type(LogicalType::Boolean),
    ),
    sig(
        "STARTSWITH",
        F::StartsWith,
        &[Bytes, Bytes],
        Type(LogicalType::Boolean),
    ),
    sig(
        "ENDSWITH",
        F::EndsWith,
        &[Text, Text],
        Type(LogicalType::Boolean),
    ),
    sig(
        "ENDSWITH",
        F::EndsWith,
        &[Bytes, Bytes],
        Type(LogicalType::Boolean),
    ),
    sig("ELT", F::Elt, &[Int, Text], Nullable(STRING)).variadic(),
    sig("PRINTF", F::Printf, &[Text, Any], Nullable(STRING))
        .optional(1)
        .variadic(),
    sig("URL_ENCODE", F::UrlEncode, &[Text], Nullable(STRING)),
    sig("URL_DECODE", F::UrlDecode, &[Text], Nullable(STRING)),
    sig(
        "PARSE_URL",
        F::ParseUrl,
        &[Text, Text, Text],
        Nullable(STRING),
    )
    .optional(1),
    sig(
        "LIKE",
        F::Like,
        &[Text, Text, Text],
        Type(LogicalType::Boolean),
    )
    .optional(1),
    sig(
        "SIMILAR TO",
        F::SimilarTo,
        &[Text, Text, Text],
        Type(LogicalType::Boolean),
    )
    .optional(1),
    sig(
        "REGEXP",
        F::Regexp,
        &[Text, Text],
        Type(LogicalType::Boolean),
    ),
    sig(
        "REGEXP_REPLACE",
        F::RegexpReplace,
        &[Text, Text, Text],
        Nullable(STRING),
    ),
    sig(
        "REGEXP_EXTRACT",
        F::RegexpExtract,
        &[Text, Text, Int],
        Nullable(STRING),
    )
    .optional(1),
    sig(
        "REGEXP_EXTRACT_ALL",
        F::RegexpExtractAll,
        &[Text, Text, Int],
        With(array_of_text),
    )
    .optional(1),
    sig(
        "REGEXP_COUNT",
        F::RegexpCount,
        &[Text, Text],
        Nullable(LogicalType::Int),
    ),
    sig(
        "REGEXP_INSTR",
        F::RegexpInstr,
        &[Text, Text],
        Nullable(LogicalType::Int),
    ),
    sig(
        "REGEXP_SUBSTR",
        F::RegexpSubstr,
        &[Text, Text],
        Nullable(STRING),
    ),
    sig("TO_BASE64", F::ToBase64, &[TextOrBytes], Type(STRING)),
    sig("FROM_BASE64", F::FromBase64, &[Text], Nullable(STRING)),
    sig(
        "ENCODE",
        F::Encode,
        &[Text, Text],
        Nullable(LogicalType::BYTES),
    ),
    sig("DECODE", F::Decode, &[Bytes, Text], Nullable(STRING)),
    sig("HEX", F::Hex, &[super::Arg::BigInt], Type(STRING)),
    sig("HEX", F::Hex, &[Text], Type(STRING)),
    sig("UNHEX", F::Unhex, &[Text], Nullable(LogicalType::BYTES)),
    sig("MD5", F::Md5, &[Text], With(|args| digest(args, 32))),
    sig("SHA1", F::Sha1, &[Text], With(|args| digest(args, 40))),
    sig("SHA224", F::Sha224, &[Text], With(|args| digest(args, 56))),
    sig("SHA256", F::Sha256, &[Text], With(|args| digest(args, 64))),
    sig("SHA384", F::Sha384, &[Text], With(|args| digest(args, 96))),
    sig("SHA512", F::Sha512, &[Text], With(|args| digest(args, 128))),
    sig(
        "SHA2",
        F::Sha2,
        &[Text, Int],
        Nullable(LogicalType::Varchar(128)),
    ),
    sig(
        "STR_TO_MAP",
        F::StrToMap,
        &[Text, Text, Text],
        With(map_of_text),
    )
    .optional(2),
    sig(
        "UUID",
        F::Uuid,
        &[],
        super::Returns::NotNull(LogicalType::Char(36)),
    ),
    sig(
        "COUNT_CHAR",
        F::CountChar,
        &[Text, Text],
        Type(LogicalType::BigInt),
    ),
    sig(
        "ARRAY_JOIN",
        F::ArrayJoin,
        &[ArrayOfText, Text, Text],
        Type(STRING),
    )
    .optional(1),
];

fn concatenation(args: &[Expr]) -> Result<DataType, SqlError> {
    use LogicalType::{Char, Varchar};
    let logical = match (&args[0].data_type.logical, &args[1].data_type.logical) {
        (Char(a), Char(b)) => Char(a.saturating_add(*b)),
        (Char(a) | Varchar(a), Char(b) | Varchar(b)) => {
            let sum = a.saturating_add(*b).min(i32::MAX.unsigned_abs());
            Varchar(sum)
        }
        _ => STRING,
    };
    Ok(DataType {
        logical,
        nullable: any_nullable(args),
    })
}

fn digest(args: &[Expr], length: u32) -> Result<DataType, SqlError> {
    Ok(DataType {
        logical: LogicalType::Char(length),
        nullable: any_nullable(args),
    })
}

fn array_of_text(args: &[Expr]) -> Result<DataType, SqlError> {
    let logical = LogicalType::Array(Box::new(STRING.nullable()));
    Ok(DataType {
        logical,
        nullable: any_nullable(args),
    })
}

fn map_of_text(args: &[Expr]) -> Result<DataType, SqlError> {
    let logical = LogicalType::Map(Box::new(STRING.nullable()), Box::new(STRING.nullable()));
    Ok(DataType {
        logical,
        nullable: any_nullable(args),
    })
}
