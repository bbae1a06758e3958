//! Newtypes for what two processes compare, and the SQL type system.

mod data_type;
mod epoch;
mod id;
mod key_group;
mod key_group_map;
mod row_kind;
mod type_parser;

pub use data_type::{DataType, Field, LogicalType};
pub use epoch::{Epoch, Generation};
pub use id::{JobId, ShardId, SinkId, StateNodeId, TableId, TaskId, TransferId, WorkerId};
pub use key_group::{KeyGroup, KeyGroupCount, KeyGroupRange};
pub use key_group_map::{KeyGroupMap, KeyGroupSet};
pub use row_kind::RowKind;
pub use type_parser::TypeParseError;
