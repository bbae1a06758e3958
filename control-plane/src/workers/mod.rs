//! Workers as the control plane knows them: who is there, how to reach it, what it measures.

mod table;

pub use table::{Worker, WorkerNews, Workers};
