//! From a deployment to tasks: opens sources and sinks, makes operators, joins them with channels.

mod error;
mod fragment;
mod lookup;
mod node;
mod operator;
mod plan;

pub(crate) use error::BuildError;
pub(crate) use fragment::{BuiltTask, input_fields, new_place, upstream};
pub(crate) use node::ttl_of;
pub(crate) use plan::{Builder, Connected, OpenPublisher, sinks};
