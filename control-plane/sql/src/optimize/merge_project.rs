//! Merges a projection into the one or the VALUES below it, and drops projections that change
//! nothing.

use crate::error::SqlError;
use crate::logical::{Expr, ExprKind, LogicalPlan};

use super::expr::{as_column, is_deterministic, is_trivial, substitute, walk};
use super::plan;

/// Merges every projection of the plan.
///
/// # Errors
/// Never; the signature is that of all rules.
pub(crate) fn merge_projects(tree: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let tree = plan::map_inputs(tree, &mut merge_projects)?;
    let LogicalPlan::Project {
        input,
        exprs,
        schema,
    } = tree
    else {
        return Ok(tree);
    };
    let (input, exprs) = match *input {
        LogicalPlan::Values { rows, .. } => {
            let project =
                |row: Vec<Expr>| exprs.iter().map(|e| substitute(e.clone(), &row)).collect();
            return Ok(LogicalPlan::Values {
                rows: rows.into_iter().map(project).collect(),
                schema,
            });
        }
        LogicalPlan::Project {
            input: below,
            exprs: inner,
            ..
        } if may_merge(&exprs, &inner) => {
            let exprs = exprs.into_iter().map(|e| substitute(e, &inner)).collect();
            (below, exprs)
        }
        other => (Box::new(other), exprs),
    };
    let identity = exprs.len() == input.schema().len()
        && exprs
            .iter()
            .enumerate()
            .all(|(i, e)| as_column(e) == Some(i));
    let same_time = || {
        schema
            .iter()
            .zip(input.schema().iter())
            .all(|(a, b)| a.time == b.time)
    };
    Ok(if identity && same_time() {
        *input
    } else {
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        }
    })
}

/// Whether substituting evaluates nothing costly twice and nothing random again.
pub(crate) fn may_merge(outer: &[Expr], inner: &[Expr]) -> bool {
    if !inner.iter().all(is_deterministic) {
        return false;
    }
    let mut uses = vec![0usize; inner.len()];
    for expr in outer {
        walk(expr, &mut |part| {
            if let ExprKind::Column(index) = part.kind {
                uses[index] += 1;
            }
        });
    }
    inner
        .iter()
        .zip(uses)
        .all(|(expr, uses)| uses <= 1 || is_trivial(expr))
}
