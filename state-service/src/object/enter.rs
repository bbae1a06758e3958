//! The first steps in a store: whose is it, is it fit, and if it is nobody's, it is ours.

use std::time::Duration;

use super::{
    error::StoreError,
    identity::{ClusterId, Identity},
    open::OpenStore,
    probe::probe,
};

/// It is given up after this time.
pub const ENTER_MAX: Duration = Duration::from_secs(120);

/// Looks whose the store is, tries it out, and makes it `founding`'s if it is empty. A store that
/// is another's, or no store of ours, is left as it is. `nonce` is drawn at random.
///
/// # Errors
/// When it cannot be used, is not fit, is not that of `expected`, or its metadata is kept elsewhere
/// than `founding` says.
pub async fn enter(
    open: &OpenStore,
    founding: Identity,
    expected: Option<&ClusterId>,
    nonce: u64,
) -> Result<Identity, StoreError> {
    let enter = async {
        let found = Identity::read(open).await?;
        if let Some(found) = &found {
            found.check(open, &founding, expected)?;
        }
        probe(open, nonce).await?;
        let identity = match found {
            Some(found) => found,
            None => founding.clone().make(open).await?,
        };
        // Somebody else may have been faster.
        identity.check(open, &founding, expected)?;
        Ok(identity)
    };
    let entered = tokio::time::timeout(ENTER_MAX, enter).await;
    entered.unwrap_or_else(|_| Err(open.too_slow()))
}
