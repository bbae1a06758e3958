//! A job: its queries, the options it is planned with, and the steps of planning.

use std::{num::NonZero, sync::Arc};

use proto::plan::Plan;

use crate::catalog::Table;
use crate::error::SqlError;
use crate::lint;
use crate::logical::LogicalPlan;
use crate::optimize::{optimize, split_distinct};

use super::{
    best, changelog, emit, fragment, multi_join, source, stable_id, state_ttl, translate, volatile,
};

/// Where a query's rows go.
#[derive(Clone, PartialEq, Debug)]
pub enum SinkTarget {
    /// `INSERT INTO`.
    Table(Arc<Table>),
    /// A bare SELECT: to the client that asked.
    Collect,
}

/// One query of a job.
#[derive(Clone, PartialEq, Debug)]
pub struct SinkQuery {
    /// Bound and cast to the sink's columns, not optimised.
    pub plan: LogicalPlan,
    /// Where the rows go.
    pub sink: SinkTarget,
}

/// What a plan depends on beside the query.
#[derive(Clone, PartialEq, Debug)]
pub struct PlanOptions {
    /// Power of two, at most 32768; fixed for the life of the job.
    pub key_groups: u32,
    /// How many tasks a fragment will have, if that is known: 1 saves pre-aggregation.
    pub parallelism_hint: Option<u32>,
    /// State that is not written for this long is dropped (`table.exec.state.ttl`). 0: never.
    pub state_ttl_ms: u64,
    /// State ages by event time (`millstream.state.ttl.time-domain`).
    pub state_ttl_in_event_time: bool,
    /// A split without rows for this long does not hold back the watermark
    /// (`table.exec.source.idle-timeout`). 0: never idle.
    pub idle_timeout_ms: u64,
    /// Publishing slots of each sink.
    pub sink_slots: u32,
    /// Rows with a NULL for a NOT NULL column of a sink are left out instead of failing the job
    /// (`table.exec.sink.not-null-enforcer`).
    pub drop_sink_nulls: bool,
    /// Buckets of DISTINCT aggregates in two steps (`table.optimizer.distinct-agg.split.*`); `None`: they
    /// are computed in one.
    pub distinct_buckets: Option<NonZero<u32>>,
    /// Joins of many inputs by one key are one node (`table.optimizer.multi-join.enabled`).
    pub multi_joins: bool,
    /// Where rows go that come too late (`millstream.late-rows.table`); `None`: they are only counted.
    pub late_rows: Option<Arc<Table>>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions {
            key_groups: 256,
            parallelism_hint: None,
            state_ttl_ms: 0,
            state_ttl_in_event_time: false,
            idle_timeout_ms: 0,
            sink_slots: 8,
            drop_sink_nulls: false,
            distinct_buckets: None,
            multi_joins: true,
            late_rows: None,
        }
    }
}

/// Plans a job: all queries run as one, and what they have in common runs once.
///
/// # Errors
/// When a query has no streaming plan; the text names the construct.
pub fn plan_job(queries: Vec<SinkQuery>, options: &PlanOptions) -> Result<Plan, SqlError> {
    plan_optimized(&optimized(queries, options)?, options)
}

/// Queries as they are planned.
pub(crate) fn optimized(
    queries: Vec<SinkQuery>,
    options: &PlanOptions,
) -> Result<Vec<SinkQuery>, SqlError> {
    let optimized = |query: SinkQuery| {
        let plan = optimize(query.plan)?;
        let plan = match options.distinct_buckets {
            Some(buckets) => split_distinct(plan, buckets.get())?,
            None => plan,
        };
        Ok(SinkQuery { plan, ..query })
    };
    queries.into_iter().map(optimized).collect()
}

/// [`plan_job`] of queries that are optimised already.
pub(crate) fn plan_optimized(
    queries: &[SinkQuery],
    options: &PlanOptions,
) -> Result<Plan, SqlError> {
    let mut translator = translate::Translator::new(options);
    for query in queries {
        translator.sink(query)?;
    }
    if let Some(table) = &options.late_rows {
        translator.write_late_rows(table);
    }
    let (mut graph, warnings) = translator.finish();
    if options.multi_joins {
        multi_join::merge(&mut graph, options);
    }
    best::mark(&mut graph, options);
    // Before pruning, so that the readers of a scan do not change each other's ids.
    let ids = stable_id::stable_ids(&graph);
    source::prune(&mut graph, options);
    let changelogs = changelog::infer(&mut graph);
    state_ttl::check(&graph, options)?;
    volatile::check(&graph, &changelogs)?;
    let fragments = fragment::cut(&mut graph);
    let plan = emit::emit(&graph, &ids, &changelogs, &fragments, warnings, options);
    let problems = lint::check(&plan);
    if problems.is_empty() {
        Ok(plan)
    } else {
        Err(SqlError::plan(format!(
            "the planner made an invalid plan: {}",
            problems.join("; ")
        ))
        .hint("this is a defect of the planner, not of the query"))
    }
}
