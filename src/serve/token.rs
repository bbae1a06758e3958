//! The secret that clients show: as the environment gives it, or drawn.

use std::env;

use anyhow::{Context as _, bail};
use rand::{TryRngCore as _, rngs::OsRng};

/// Variable that may hold the token.
const TOKEN_VARIABLE: &str = "MILLSTREAM_TOKEN";

/// The token that the user has set, if any.
///
/// # Errors
/// When it is too short to be one.
pub(crate) fn given_token() -> anyhow::Result<Option<String>> {
    given_secret(TOKEN_VARIABLE)
}

/// The secret in a variable, if any.
///
/// # Errors
/// When it is too short to be one.
pub(crate) fn given_secret(variable: &str) -> anyhow::Result<Option<String>> {
    match env::var(variable) {
        // Set to nothing is as good as not set.
        Ok(secret) if secret.is_empty() => Ok(None),
        Ok(secret) if secret.len() < 8 => bail!("{variable} is shorter than 8 characters"),
        Ok(secret) => Ok(Some(secret)),
        Err(env::VarError::NotUnicode(_)) => bail!("{variable} is not text"),
        Err(env::VarError::NotPresent) => Ok(None),
    }
}

/// A token that nobody can guess.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    OsRng
        .try_fill_bytes(&mut bytes)
        .context("failed to make a token")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
