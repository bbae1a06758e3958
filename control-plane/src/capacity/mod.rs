//! Workers as jobs need them: who is asked for another number of them. How many there should be is
//! `coordinator::capacity`'s to say; how they come to be is the provider's.

mod provide;
#[cfg(test)]
mod provide_test;

use std::sync::Arc;

use coordinator::capacity::{CapacityPolicy, Want};
use futures::future::BoxFuture;

pub(crate) use provide::Capacity;
pub use provide::CapacityStatus;

/// Makes workers come and go.
pub trait CapacityProvider: Send + Sync {
    /// What it is, in a word: `process`.
    fn name(&self) -> &'static str;

    /// Has so many workers run. Asked again with the same number, it changes nothing that is as it
    /// should be. Must end in time.
    ///
    /// The error says in one line what went wrong, without anything secret. It is asked again later.
    fn want(&self, want: Want) -> BoxFuture<'_, Result<(), String>>;

    /// Waits until something of what it has made is gone, so that it should be asked again.
    fn disturbed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// A provider, and within what it is asked.
#[derive(Clone)]
pub struct CapacityConfig {
    /// Bounds and delays.
    pub policy: CapacityPolicy,
    /// Who is asked.
    pub provider: Arc<dyn CapacityProvider>,
}
