//! Generated from `schema/plan.proto` (prost, pbjson).

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used
)]

include!(concat!(env!("OUT_DIR"), "/millstream.plan.v1.rs"));
include!(concat!(env!("OUT_DIR"), "/millstream.plan.v1.serde.rs"));
