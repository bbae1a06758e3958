//! From optimised queries to the stream plan that workers run.
//!
//! A query becomes nodes ([`translate`] and one file per kind of node); then, over the whole job,
//! scans are pruned ([`source`]), the changes on every edge decided ([`changelog`]), exchanges
//! placed and fragments cut ([`fragment`]), and the wire form written ([`emit`]).

mod aggregate;
mod best;
mod calc;
mod changelog;
mod columns;
mod describe;
mod describe_join;
mod emit;
mod expression;
mod fragment;
mod grouping_sets;
mod interval;
mod job;
mod join;
mod late;
mod local;
mod lookup;
mod multi_join;
mod node;
mod over;
mod rank;
mod sink;
mod source;
mod stable_id;
mod state_ttl;
mod temporal;
mod ties;
mod translate;
mod until;
mod volatile;
mod window;

pub(crate) use describe::expression as describe_expression;
pub use job::{PlanOptions, SinkQuery, SinkTarget, plan_job};
pub(crate) use job::{optimized, plan_optimized};
pub(crate) use late::check_table as check_late_rows_table;
pub(crate) use sink::accepts;
pub use state_ttl::duration;
