//! ORDER BY and LIMIT: an order that nobody sees is dropped, and LIMIT 0 is no rows at all.

use crate::error::SqlError;
use crate::logical::LogicalPlan;

use super::plan;

/// Rewrites the sorts of a whole query.
///
/// # Errors
/// Never; the signature is that of all rules.
pub(crate) fn tidy_order(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    match tree {
        // The chain from the result down to its ORDER BY: its order is the result's.
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        } => Ok(LogicalPlan::Project {
            input: Box::new(tidy_order(*input)?),
            exprs,
            schema,
        }),
        LogicalPlan::Sort {
            input,
            keys,
            offset,
            limit,
        } if limit != Some(0) => Ok(LogicalPlan::Sort {
            input: Box::new(tidy_inner(*input)?),
            keys,
            offset,
            limit,
        }),
        other => tidy_inner(other),
    }
}

fn tidy_inner(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let tree = plan::map_inputs(tree, &mut tidy_inner)?;
    Ok(match tree {
        LogicalPlan::Sort {
            input,
            limit: Some(0),
            ..
        } => LogicalPlan::Values {
            rows: Vec::new(),
            schema: input.schema().clone(),
        },
        LogicalPlan::Sort {
            input,
            limit: None,
            offset: 0,
            ..
        } => *input,
        other => other,
    })
}
