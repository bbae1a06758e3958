//! The compiled plan: generated wire types, their JSON form, and the function vocabulary.
//!
//! `schema/plan.proto` is the definition; [`Plan::to_json`] and [`Plan::from_json`] are the form
//! that is stored and shown. Nothing here knows how a plan was made or how it is run.

mod build;
mod function;
mod json;
pub mod shared;
mod wire;

pub use build::{PlanError, data_type, fields, row_type};
pub use function::{AggregateFunction, ScalarFunction};
pub use wire::*;

/// Version of the plan schema that this build writes; it reads this one and older ones.
pub const PLAN_VERSION: u32 = 1;
