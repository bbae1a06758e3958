//! The policy against models of pipelines, and rule by rule.

mod edges;
mod loads;
mod model;
mod rules;
