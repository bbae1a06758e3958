//! The order in which the rules run.

use crate::error::SqlError;
use crate::logical::{LogicalField, LogicalPlan, Schema};

use super::{merge_project, order, plan, prune, push_filter, set_operation, simplify, subquery};

type Rule = fn(LogicalPlan) -> Result<LogicalPlan, SqlError>;

/// The rules in the order in which they run. Pushing filters runs again after pruning, because
/// merged projections let conditions through to the scans.
const RULES: &[Rule] = &[
    order::tidy_order,
    subquery::remove_subqueries,
    set_operation::spell_out,
    simplify::simplify_plan,
    merge_project::merge_projects,
    push_filter::push_filters,
    simplify::simplify_plan,
    prune::prune_columns,
    merge_project::merge_projects,
    push_filter::push_filters,
    merge_project::merge_projects,
];

/// Optimises a bound query. Columns, their order and their names stay.
///
/// # Errors
/// When a subquery stands where it has no plan as a join.
pub fn optimize(plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let wanted = plan.schema().clone();
    let plan = RULES.iter().try_fold(plan, |plan, rule| rule(plan))?;
    Ok(named(plan, &wanted))
}

/// Rules forget names that only say the same again; the result's columns get theirs back.
fn named(plan: LogicalPlan, wanted: &Schema) -> LogicalPlan {
    let same = |schema: &Schema| {
        let pairs = schema.iter().zip(wanted.iter());
        pairs.clone().all(|(a, b)| a.name == b.name)
    };
    if same(plan.schema()) {
        return plan;
    }
    let (input, exprs, schema) = match plan {
        LogicalPlan::Project {
            input,
            exprs,
            schema,
        } => (input, exprs, schema),
        other => {
            let schema = other.schema().clone();
            (Box::new(other), plan::all_columns(&schema), schema)
        }
    };
    let schema = schema
        .iter()
        .zip(wanted.iter())
        .map(|(field, wanted)| LogicalField {
            name: wanted.name.clone(),
            ..field.clone()
        })
        .collect();
    LogicalPlan::Project {
        input,
        exprs,
        schema,
    }
}
