//! All stages of a job, one after the other.

use std::fmt::Write as _;

use crate::error::SqlError;
use crate::stream::{PlanOptions, SinkQuery, optimized, plan_optimized};

use super::logical::query_tree;
use super::stream::explain_plan;

/// The stages of a job: logical, optimised, stream plan, fragments, warnings.
///
/// # Errors
/// When a query has no streaming plan.
pub fn explain(queries: &[SinkQuery], options: &PlanOptions) -> Result<String, SqlError> {
    let optimized = optimized(queries.to_vec(), options)?;
    let plan = plan_optimized(&optimized, options)?;
    let mut text = String::from("== Logical ==\n");
    for query in queries {
        query_tree(&mut text, query);
    }
    text.push_str("\n== Optimized ==\n");
    for query in &optimized {
        query_tree(&mut text, query);
    }
    text.push('\n');
    text.push_str(&explain_plan(&plan));
    Ok(text)
}

/// One line of a tree.
pub(super) fn line(text: &mut String, depth: usize, content: &str) {
    writeln!(text, "{:1$}{content}", "", 2 * depth).expect("a String takes all text");
}
