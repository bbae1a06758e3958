//! A message that makes no sense: its sender is another version, or wrong.

/// What is wrong with a message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed message: {0}; all tiers should run the same version")]
pub struct Malformed(pub(crate) String);

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Malformed(what.into())
    }

    /// Says that `what` came twice or where it should not.
    #[must_use]
    pub fn unexpected(what: &str) -> Self {
        Malformed(format!("unexpected {what}"))
    }
}
