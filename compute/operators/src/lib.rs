//! The operators of the SQL dialect over arrow batches.
