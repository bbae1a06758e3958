//! Functions on JSON text that need no clauses; those with clauses stand in `bind::special`.

use proto::plan::ScalarFunction as F;
use proto::types::LogicalType;

use super::Arg::{Any, Text};
use super::Returns::{Nullable, Type};
use super::{STRING, Signature, sig};

/// The family.
pub(super) static SIGNATURES: &[Signature] = &[
    sig("JSON_STRING", F::JsonString, &[Any], Type(STRING)),
    sig("JSON_QUOTE", F::JsonQuote, &[Text], Nullable(STRING)),
    sig("JSON_UNQUOTE", F::JsonUnquote, &[Text], Nullable(STRING)),
    sig(
        "JSON_LENGTH",
        F::JsonLength,
        &[Text, Text],
        Nullable(LogicalType::Int),
    )
    .optional(1),
    sig("JSON", F::Json, &[Text], Type(STRING)),
];
