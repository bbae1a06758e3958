//! The command line against a server: a thin client of the REST API that knows nothing but it.

mod client;
mod complete;
mod files;
mod interrupt;
mod jobs;
mod output;
mod processes;
mod scaling;
mod script;
mod servers;
mod sql;
mod state;
mod states;
mod table;
mod transfers;
mod trust;
mod unreachable;

pub use files::needed_files;
pub use jobs::{JobsArgs, jobs};
pub use processes::{ClusterArgs, StateNodesArgs, WorkersArgs, cluster, state_nodes, workers};
pub use script::read_script;
pub use servers::ServerArgs;
pub use sql::{SqlArgs, sql};
pub use table::{pad_join, printable};
