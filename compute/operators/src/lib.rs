//! The operators of the SQL dialect over arrow batches.

#[cfg(any(test, feature = "testing"))]
pub mod testing;
