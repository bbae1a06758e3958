//! The whole system against answers that others computed.

mod batch;
mod client;
mod cluster;
mod conformance;
mod durable;
mod figures;
mod files;
mod fsck;
mod kept_state;
mod lifetime;
mod lookup;
mod nexmark;
mod nexmark_batch;
mod outage;
mod queries;
mod readme;
mod refused;
mod requests;
mod run_again;
mod s3;
mod savepoints;
mod state;
mod telemetry;
mod transfers;
mod until;
mod upgrades;
