//! Tables, views and options, as the statements that make them.

use serde::{Deserialize, Serialize};

/// The catalog that all clients share.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// Grows by one with every change.
    pub version: u64,
    /// Statements that make it from nothing, in order.
    pub statements: Vec<String>,
}
