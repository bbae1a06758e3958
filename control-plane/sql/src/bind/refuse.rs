//! Refuses what the grammar accepts and the language does not have.

use sqlparser::tokenizer::Span;

use crate::error::SqlError;

/// An error that names an unsupported construct.
pub(crate) fn unsupported(construct: &str, span: Span) -> SqlError {
    SqlError::validate(format!("{construct} is not supported")).at_parser(span)
}

/// Refuses the first construct that is there.
pub(crate) fn refuse_all(found: &[(bool, &str)], span: Span) -> Result<(), SqlError> {
    match found.iter().find(|(there, _)| *there) {
        Some((_, construct)) => Err(unsupported(construct, span)),
        None => Ok(()),
    }
}
