//! EXPLAIN: every stage of a job's plan as text.

mod logical;
mod stages;
mod stream;

pub use stages::explain;
pub use stream::explain_plan;
