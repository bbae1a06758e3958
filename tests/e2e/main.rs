//! The whole system against answers that others computed.

mod batch;
mod client;
mod cluster;
mod conformance;
mod durable;
mod files;
mod nexmark;
mod readme;
mod s3;
mod telemetry;
