//! The state of jobs in an LSM on object storage.

pub mod pages;
